//! `telltale status`: is it well? A verdict, and what it rests on.
mod look;
mod ranges;
mod verdict;

use super::{
    exit::{self, Refused},
    interrupt::Interrupt,
    output::{Format, Output, Rows},
    reach,
};
use crate::context::Context;
use look::Look;
use std::{
    io::{IsTerminal as _, Write},
    process::ExitCode,
    time::{Duration, Instant},
};
use telltale_nats::async_nats::Client;
use telltale_schemas::duration;
use verdict::Report;

const EXAMPLES: &str = "Examples:
  telltale status
  telltale status --watch
  telltale status --wait 30s -o json

Exit code 10 when something is wrong: a process or worker that does not run or is behind, a stream that is
nearly full, or an accepted message that is nowhere.";
/// Between the two looks that a verdict rests on.
const BETWEEN: Duration = Duration::from_secs(1);

/// Is it well: processes, lag, rates, quarantine, and the balance of all that was accepted
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Status {
    /// Look again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Wait until all is well, at most so long
    #[arg(long, value_parser = span, value_name = "DURATION", conflicts_with = "watch")]
    wait: Option<Duration>,
    /// A message that waits longer is a problem
    #[arg(long, value_parser = span, value_name = "DURATION", default_value = "60s")]
    lag: Duration,
    #[command(flatten)]
    output: Output,
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("`{text}` is no duration such as `30s`"))
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let nats = reach::nats(&ctx).await?;
        let interrupt = Interrupt::listen()?;
        let deadline = Instant::now() + self.wait.unwrap_or_default();
        let mut before = Look::take(&ctx, &nats).await?;
        loop {
            let (report, now) = tokio::select! {
                judged = self.next(&ctx, &nats, &before) => judged?,
                () = interrupt.drain.cancelled() => return Ok(ExitCode::from(exit::INTERRUPTED)),
            };
            before = now;
            let done = !self.watch && (report.healthy || Instant::now() >= deadline);
            if self.watch || done {
                self.tell(&report)?;
            }
            if done {
                return Ok(if report.healthy {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(exit::UNHEALTHY)
                });
            }
        }
    }

    async fn next(&self, ctx: &Context, nats: &Client, before: &Look) -> anyhow::Result<(Report, Look)> {
        tokio::time::sleep(BETWEEN).await;
        let now = Look::take(ctx, nats).await?;
        Ok((verdict::judge(ctx.site.plain(), before, &now, self.lag), now))
    }

    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.output.asked() {
            Some(Format::Json) if !self.watch => {
                serde_json::to_writer_pretty(&mut out, report)?;
                writeln!(out)?;
            }
            Some(Format::Json | Format::Ndjson) => {
                serde_json::to_writer(&mut out, report)?;
                writeln!(out)?;
            }
            Some(format @ (Format::Csv | Format::Tsv)) => workers(&mut out, report, format)?,
            None | Some(Format::Table) => {
                if self.watch && std::io::stdout().is_terminal() {
                    write!(out, "\u{1b}[H\u{1b}[2J")?;
                }
                people(&mut out, report)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn workers(out: &mut impl Write, report: &Report, format: Format) -> anyhow::Result<()> {
    let columns = [
        "worker",
        "stream",
        "reading",
        "pending",
        "in_flight",
        "oldest_s",
        "rate_per_s",
    ];
    let mut rows = Rows::new(out, format, columns);
    for worker in &report.workers {
        rows.row(vec![
            worker.name.as_str().into(),
            worker.stream.as_str().into(),
            worker.reading.into(),
            worker.pending.into(),
            worker.in_flight.into(),
            worker.oldest_s.into(),
            worker.rate_per_s.into(),
        ])?;
    }
    rows.finish()?;
    Ok(())
}

fn people(out: &mut impl Write, report: &Report) -> anyhow::Result<()> {
    writeln!(
        out,
        "{}  site {}",
        if report.healthy { "OK" } else { "WRONG" },
        report.site
    )?;
    for problem in &report.problems {
        writeln!(out, "  ! {problem}")?;
    }
    if !report.processes.is_empty() {
        writeln!(out)?;
        let mut rows = Rows::new(
            &mut *out,
            Format::Table,
            ["process", "phase", "pid", "restarts", "since_s"],
        );
        for process in &report.processes {
            rows.row(vec![
                process.name.as_str().into(),
                process.phase.as_str().into(),
                process.pid.into(),
                process.restarts.into(),
                process.since_s.into(),
            ])?;
        }
        rows.finish()?;
    }
    writeln!(out)?;
    workers(out, report, Format::Table)?;
    writeln!(out)?;
    let settled = report
        .rates
        .settled_per_s
        .map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s"));
    writeln!(
        out,
        "rates       accepted {}/s, settled {settled}",
        report.rates.accepted_per_s
    )?;
    let reasons: Vec<String> = report
        .quarantine
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let quarantine = if reasons.is_empty() {
        "nothing open".to_owned()
    } else {
        reasons.join(", ")
    };
    writeln!(out, "quarantine  {quarantine}")?;
    match &report.balance {
        None => writeln!(out, "balance     unknown")?,
        Some(balance) => writeln!(
            out,
            "balance     accepted {} = stored {} + duplicate {} + quarantined {} + unkept {} + in flight {} + missing {}",
            balance.accepted,
            balance.stored,
            balance.duplicate,
            balance.quarantined,
            balance.unkept,
            balance.in_flight,
            balance.missing
        )?,
    }
    Ok(())
}
