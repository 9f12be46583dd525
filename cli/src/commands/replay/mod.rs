//! `telltale replay FILE --mapping M.toml`: what was recorded elsewhere, sent as its devices would have.
pub mod clock;
pub mod fates;
pub mod mapping;
pub mod rows;

use super::{
    courier::{Bridge, Parcel, Receipt},
    exit::{self, Refused},
    interrupt::Interrupt,
    output::Output,
    pool::Pool,
    progress::Progress,
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use mapping::Mapping;
use rows::{Row, RowError, Rows};
use std::{
    collections::{BTreeSet, HashSet},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use telltale_gateway::registry::bulk as register;
use telltale_schemas::{Timestamp, thing::Entry};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Examples:
  telltale replay AirQualityUCI.csv --mapping cli/mappings/air-quality.toml
  telltale replay day.ndjson --mapping day.toml --speed 60x
  telltale replay day.csv --mapping day.toml --dry-run";
/// Rows looked up in the database at once.
const BATCH: usize = 500;
/// Unreadable rows that are told one by one.
const TOLD_MAX: u64 = 10;

/// Send a recorded file through the bridge, once however often it is repeated, and count what became of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Replay {
    /// CSV with a heading line, or one JSON object a line
    file: PathBuf,
    /// What the columns mean, in TOML
    #[arg(long, short)]
    mapping: PathBuf,
    /// In the data's own time, so many times as fast; as fast as possible if absent
    #[arg(long, value_parser = speed, value_name = "1x")]
    speed: Option<f64>,
    /// Connections to the bridge
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Read and count the file, send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
    let number = number.map_err(|_| format!("`{text}` is not a number of times, such as `60x`"))?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("more than nothing".into())
    }
}

/// What is in the file.
#[derive(Debug, Default)]
struct Survey {
    rows: u64,
    records: u64,
    missing: u64,
    unreadable: u64,
    things: BTreeSet<String>,
}

/// What became of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    sent: u64,
    refused: u64,
    stored: u64,
    duplicate: u64,
    quarantined: u64,
    unaccounted: u64,
}

impl Replay {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mapping = Mapping::read(&self.mapping).map_err(|error| {
            anyhow::Error::new(error).context(Refused::usage(format!(
                "`{}` is no mapping",
                self.mapping.display()
            )))
        })?;
        let survey = survey(&self.file, &mapping)?;
        if self.dry_run {
            let mut rows = self
                .output
                .rows(["rows", "records", "missing", "unreadable", "things"]);
            let things = survey.things.len() as u64;
            let counts = [
                survey.rows,
                survey.records,
                survey.missing,
                survey.unreadable,
                things,
            ];
            rows.row(counts.map(Into::into).to_vec())?;
            rows.finish()?;
            return Ok(code(survey.unreadable == 0));
        }
        let ctx = Context::find()?;
        let bridge = Bridge::new(reach::get(&ctx, "BRIDGE_URL")?, reach::get(&ctx, "BRIDGE_TOKEN")?)?;
        let (nats, sql) = (reach::nats(&ctx).await?, reach::sql(&ctx).await?);
        let js = telltale_nats::client::context(nats.clone());

        let entries = survey.things.iter().map(|thing| mapping.entry(thing)).collect();
        let put = register::change(&nats, &ctx.site, entries, merged).await?;
        register::wait_until_held(&nats, &ctx.site, put.revision).await?;
        for thing in &put.described {
            writeln!(
                std::io::stderr().lock(),
                "note: `{thing}` has a Thing Description, which stays; the mapping changes nothing of it"
            )?;
        }

        let interrupt = Interrupt::listen()?;
        let before = fates::mark(&js).await?;
        let sent = tokio::select! {
            sent = self.send(&mapping, &survey, bridge, &sql, &interrupt.drain) => sent?,
            () = interrupt.leave.cancelled() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        let after = fates::mark(&js).await?;
        let account = async {
            fates::settle(&sql, &ctx.site, before, after).await?;
            self.account(&mapping, &sql, &sent).await
        };
        let tally = tokio::select! {
            tally = account => tally?,
            () = interrupt.leave.cancelled() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        self.tell(&tally)?;
        Ok(if interrupt.came() {
            ExitCode::from(exit::INTERRUPTED)
        } else {
            code(tally.adds_up() && survey.unreadable == 0)
        })
    }

    async fn send(
        &self,
        mapping: &Mapping,
        survey: &Survey,
        bridge: Bridge,
        sql: &Client,
        drain: &CancellationToken,
    ) -> anyhow::Result<Sent> {
        let mut progress = Progress::new("replay", Some(survey.rows));
        let mut pool = Pool::new(&bridge, self.connections, drain);
        let mut sent = Sent::default();
        let mut pace = self.speed.map(Pace::new);
        let mut rows = Rows::open(&self.file, mapping)?;
        'file: loop {
            let batch: Vec<Row> = rows.by_ref().filter_map(Result::ok).take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let there = fates::stored(sql, &batch).await?;
            for row in batch {
                if let Some(pace) = &mut pace {
                    pace.wait(row.time, drain).await;
                }
                if drain.is_cancelled() {
                    break 'file;
                }
                sent.was_there.push(there.contains(&row.id()));
                pool.give(row.line, parcel(&row)).await;
                for (line, receipt) in pool.receipts() {
                    note(&mut sent, &progress, line, receipt);
                }
                progress.at(sent.accepted.len() as u64 + sent.refused);
            }
        }
        pool.end(|line, receipt| note(&mut sent, &progress, line, receipt))
            .await;
        progress.finish();
        Ok(sent)
    }

    /// Reads the file once more, and asks the database for each row that was accepted.
    async fn account(&self, mapping: &Mapping, sql: &Client, sent: &Sent) -> anyhow::Result<Tally> {
        let mut tally = Tally {
            sent: sent.accepted.len() as u64 + sent.refused,
            refused: sent.refused,
            ..Tally::default()
        };
        let mut seen = HashSet::new();
        let mut rows = Rows::open(&self.file, mapping)?;
        let mut was_there = sent.was_there.iter();
        loop {
            let batch: Vec<Row> = rows.by_ref().filter_map(Result::ok).take(BATCH).collect();
            let (stored, quarantined) = (
                fates::stored(sql, &batch).await?,
                fates::quarantined(sql, &batch).await?,
            );
            for row in &batch {
                let Some(was_there) = was_there.next() else {
                    return Ok(tally);
                };
                let id = row.id();
                if !sent.accepted.contains(&row.line) {
                    continue;
                }
                let again = *was_there || (!mapping.key.columns.is_empty() && !seen.insert(id.clone()));
                let fate = match (stored.contains(&id), again, quarantined.contains(&id)) {
                    (true, true, _) => &mut tally.duplicate,
                    (true, false, _) => &mut tally.stored,
                    (false, _, true) => &mut tally.quarantined,
                    (false, _, false) => &mut tally.unaccounted,
                };
                *fate += 1;
            }
            if batch.is_empty() {
                return Ok(tally);
            }
        }
    }

    fn tell(&self, tally: &Tally) -> anyhow::Result<()> {
        let mut rows = self.output.rows([
            "sent",
            "stored",
            "duplicate",
            "quarantined",
            "refused",
            "unaccounted",
        ]);
        let Tally {
            sent,
            refused,
            stored,
            duplicate,
            quarantined,
            unaccounted,
        } = *tally;
        rows.row(
            [sent, stored, duplicate, quarantined, refused, unaccounted]
                .map(Into::into)
                .to_vec(),
        )?;
        rows.finish()?;
        let mut err = std::io::stderr().lock();
        if quarantined > 0 {
            writeln!(
                err,
                "`telltale quarantine list` says why {quarantined} were refused"
            )?;
        }
        if !tally.adds_up() {
            writeln!(
                err,
                "it does not add up: {unaccounted} of {sent} are nowhere yet; `telltale status` says more"
            )?;
        }
        Ok(())
    }
}

impl Tally {
    fn adds_up(&self) -> bool {
        self.unaccounted == 0
            && self.refused == 0
            && self.sent == self.stored + self.duplicate + self.quarantined
    }
}

fn code(is_right: bool) -> ExitCode {
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    }
}

/// What the mapping says of a property wins; all else stays as it was registered.
fn merged(there: Option<Entry>, wanted: Entry) -> Entry {
    let Some(mut entry) = there else { return wanted };
    entry.policy.properties.extend(wanted.policy.properties);
    entry.policy.late = wanted.policy.late.or(entry.policy.late);
    entry.policy.ahead = wanted.policy.ahead.or(entry.policy.ahead);
    entry.annotation.extend(wanted.annotation);
    entry
}

fn survey(file: &Path, mapping: &Mapping) -> anyhow::Result<Survey> {
    let mut rows = Rows::open(file, mapping).map_err(|error| {
        anyhow::Error::new(error).context(Refused::usage(format!("`{}` cannot be replayed", file.display())))
    })?;
    let mut survey = Survey::default();
    let mut err = std::io::stderr().lock();
    for row in rows.by_ref() {
        match row {
            Ok(row) => {
                survey.rows += 1;
                survey.records += row.values.len() as u64;
                survey.missing += row.missing as u64;
                survey.things.insert(row.thing);
            }
            Err(RowError::Read(error)) => return Err(error).context("read the file"),
            Err(error) => {
                survey.unreadable += 1;
                if survey.unreadable <= TOLD_MAX {
                    writeln!(err, "not sent: {:#}", anyhow::Error::new(error))?;
                }
            }
        }
    }
    if survey.unreadable > TOLD_MAX {
        writeln!(err, "not sent: {} more rows", survey.unreadable - TOLD_MAX)?;
    }
    let unmapped: Vec<&str> = rows.unmapped().collect();
    if !unmapped.is_empty() {
        writeln!(err, "not mapped: {}", unmapped.join(", "))?;
    }
    if rows.blank > 0 {
        writeln!(err, "blank: {} rows", rows.blank)?;
    }
    Ok(survey)
}

/// What was handed over, in the order of the file.
#[derive(Debug, Default)]
struct Sent {
    /// For each row handed over, whether the database had it before.
    was_there: Vec<bool>,
    /// Lines that the bridge accepted.
    accepted: HashSet<u64>,
    refused: u64,
}

/// Sends rows in the data's own time.
struct Pace {
    speed: f64,
    began: Option<(Instant, Timestamp)>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, began: None }
    }

    async fn wait(&mut self, time: Timestamp, drain: &CancellationToken) {
        let (instant, first) = *self.began.get_or_insert((Instant::now(), time));
        let ahead = (time.as_seconds() - first.as_seconds()) / self.speed;
        // A time before the first one, or beyond all clocks, is not waited for.
        let Ok(ahead) = Duration::try_from_secs_f64(ahead) else {
            return;
        };
        let Some(at) = instant.checked_add(ahead) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = drain.cancelled() => {}
        }
    }
}

fn parcel(row: &Row) -> Parcel {
    Parcel {
        thing: row.thing.clone(),
        key: Some(row.key.clone()),
        content_type: "application/json",
        body: row.body().to_string().into(),
    }
}

fn note(sent: &mut Sent, progress: &Progress, line: u64, receipt: Receipt) {
    match receipt {
        Receipt::Accepted(_) => drop(sent.accepted.insert(line)),
        Receipt::Refused { status, problem } => {
            sent.refused += 1;
            if sent.refused <= TOLD_MAX {
                progress.say(&format!("line {line} is refused ({status}): {problem}"));
            }
        }
        Receipt::Stopped => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_schemas::thing::Property;

    #[test]
    fn what_is_registered_already_is_kept_beside_what_the_mapping_says() {
        let text =
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.v]\nunit='Cel'\n[annotation]\na=1\n";
        let wanted = Mapping::parse(text).unwrap().entry("t");
        let mut there = Entry {
            thing: "t".into(),
            ..Entry::default()
        };
        there.policy.late = Some("1h".into());
        there.policy.properties.insert("w".into(), Property::default());
        let entry = merged(Some(there), wanted.clone());
        assert_eq!(entry.policy.late.as_deref(), Some("1h"));
        assert_eq!(entry.policy.properties.len(), 2);
        assert_eq!(entry.annotation["a"], 1);
        assert_eq!(merged(Some(entry.clone()), wanted.clone()), entry);
        assert_eq!(merged(None, wanted.clone()), wanted);
    }

    #[test]
    fn a_tally_adds_up_or_does_not() {
        let right = Tally {
            sent: 6,
            stored: 3,
            duplicate: 2,
            quarantined: 1,
            ..Tally::default()
        };
        assert!(right.adds_up());
        assert!(
            !Tally {
                unaccounted: 1,
                ..right
            }
            .adds_up()
        );
        assert!(!Tally { sent: 7, ..right }.adds_up());
    }

    #[test]
    fn a_speed_is_a_number_of_times() {
        assert_eq!(speed("60x"), Ok(60.0));
        assert_eq!(speed("0.5"), Ok(0.5));
        for text in ["", "x", "0x", "-1x", "infx", "NaN"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
