//! What the command line says of a run.
use super::{Options, Profile, Report, plan, run};
use crate::{commands::exit::Refused, find::Say};
use anyhow::Context as _;
use std::{fs, io::BufReader, path::PathBuf, time::Duration};
use telltale_checker::schedule;

/// Of the profiles smoke, chaos, outage and long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long there is load [default: 8, smoke 0.6, outage 20, long 60]
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<Duration>,
    /// The same seed gives the same faults at the same times; made up if absent
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults, by name, family or number, such as `kill`, `network`, `F16`
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    faults: Vec<String>,
    /// How many things send [default: 1000, smoke 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    things: Option<u32>,
    /// Invalid readings in a hundred
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = thousandths)]
    invalid: u32,
    /// Readings in a hundred that are sent twice
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = thousandths)]
    duplicates: u32,
    /// Have the faults of this file instead, one JSON document a line, as they are in `schedule` of a report
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Write the report to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of minutes"))?;
    match Duration::try_from_secs_f64(number * 60.0) {
        Ok(lasts) if lasts >= Duration::from_secs(10) => Ok(lasts),
        _ => Err(format!("`{text}` minutes are no time to break anything in")),
    }
}

fn thousandths(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('%');
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    match (whole.parse::<u32>(), tenth.parse::<u32>()) {
        (Ok(whole @ 0..=50), Ok(tenth @ 0..=9)) => Ok(whole * 10 + tenth),
        (Ok(_), Ok(_)) => Err(format!(
            "`{text}` is not between 0 and 50, with one decimal at most"
        )),
        _ => Err(format!("`{text}` is no percentage")),
    }
}

impl Args {
    /// Runs it, and writes down what was asked for.
    pub async fn run(self, profile: Profile, rate: Option<u32>, say: Say) -> anyhow::Result<Report> {
        let report_to = self.report.clone();
        let options = self.options(profile, rate, say)?;
        let steps = plan(&options).map_err(Refused::usage)?;
        options.say.line(&format!("seed {}", options.seed));
        let mut text = Vec::new();
        schedule::write(&steps, &mut text)?;
        for line in String::from_utf8_lossy(&text).lines() {
            options.say.line(line);
        }
        let report = run(options).await?;
        if let Some(path) = report_to {
            let text = serde_json::to_string_pretty(&report.json())?;
            fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
        }
        Ok(report)
    }

    fn options(self, profile: Profile, rate: Option<u32>, say: Say) -> anyhow::Result<Options> {
        let usual = Options::of(profile);
        let schedule = match &self.schedule {
            None => None,
            Some(path) => {
                let named = || format!("read {}", path.display());
                let file = fs::File::open(path).with_context(named)?;
                Some(schedule::read(BufReader::new(file)).with_context(named)?)
            }
        };
        Ok(Options {
            lasts: self.minutes.unwrap_or(usual.lasts),
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            faults: self.faults,
            things: self.things.unwrap_or(usual.things),
            rate: rate.unwrap_or(usual.rate),
            invalid: self.invalid,
            duplicates: self.duplicates,
            schedule,
            say,
            ..usual
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_percentages_are_read_and_what_is_none_is_refused() {
        assert_eq!(minutes("0.5"), Ok(Duration::from_secs(30)));
        for text in ["", "0", "-1", "x", "inf", "NaN"] {
            assert!(minutes(text).is_err(), "{text}");
        }
        assert_eq!((thousandths("10"), thousandths("0.1%")), (Ok(100), Ok(1)));
        for text in ["", "-1", "90", "x", "NaN"] {
            assert!(thousandths(text).is_err(), "{text}");
        }
    }
}
