//! `telltale status`: is it well? A verdict, and what it rests on.
mod look;
mod lost;
mod ranges;
mod verdict;

use super::{
    exit::{self, Refused},
    interrupt::Interrupt,
    output::{Format, Output, Rows},
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use look::Look;
use ranges::Ranges;
use std::{
    io::{IsTerminal as _, Write},
    process::ExitCode,
    time::{Duration, Instant},
};
use telltale_nats::{
    async_nats::{Client, jetstream},
    barrier::{self, Barrier},
    client,
};
use telltale_schemas::duration;
use verdict::{Balance, Report};

const EXAMPLES: &str = "Examples:
  telltale status
  telltale status --watch
  telltale status --wait 30s -o json
  telltale status --write-off 184201..184260 --note 'purged by mistake'

Exit code 10 when something is wrong: a process or worker that does not run or is behind, a stream that is
nearly full, or an accepted message that is nowhere.";
/// Between the two looks that a verdict rests on.
const BETWEEN: Duration = Duration::from_secs(1);
/// Under load it takes longer until all that had left RAW at the first look has been seen to; but not for ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at how far that is.
const STEP: Duration = Duration::from_millis(100);

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
    /// Say that these sequences of RAW, which are missing, were removed on purpose; then nobody looks for them any more
    #[arg(long, value_parser = sequences, value_name = "SEQUENCES", conflicts_with_all = ["watch", "wait"])]
    write_off: Option<Ranges>,
    /// Of which life of RAW; else of the present one
    #[arg(long, requires = "write_off")]
    epoch: Option<u64>,
    /// Who says so
    #[arg(long, env = "USER", default_value = "operator", hide_env_values = true)]
    by: String,
    /// Why, for those who come later
    #[arg(long, requires = "write_off")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
}

fn sequences(text: &str) -> Result<Ranges, String> {
    Ranges::parse(text).ok_or_else(|| format!("`{text}` is no list of sequences such as `7,10..20`"))
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("`{text}` is no duration such as `30s`"))
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let nats = reach::nats(&ctx).await?;
        if let Some(sequences) = &self.write_off {
            return self.write_off(&ctx, &nats, sequences).await;
        }
        let interrupt = Interrupt::listen()?;
        let deadline = Instant::now() + self.wait.unwrap_or_default();
        let mut before = Look::take(&ctx, &nats, None).await?;
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
        let js = client::context(nats.clone());
        let passed = pass(&js).await;
        let now = Look::take(ctx, nats, passed.as_ref().ok().copied()).await?;
        let mut report = verdict::judge(ctx.site.plain(), before, &now, self.lag);
        report.waits_for = passed.err();
        if let Some(balance) = report.balance.as_mut().filter(|balance| balance.missing > 0) {
            let missing = now.missing(&balance.site, balance.epoch);
            balance.lost = lost::find(&js, balance.epoch, &missing).await;
        }
        Ok((report, now))
    }

    async fn write_off(&self, ctx: &Context, nats: &Client, sequences: &Ranges) -> anyhow::Result<ExitCode> {
        let js = client::context(nats.clone());
        let passed = pass(&js).await.ok();
        let now = Look::take(ctx, nats, passed).await?;
        let epoch = self.epoch.unwrap_or(now.raw.epoch);
        let missing = now.missing(ctx.site.plain(), epoch);
        if !sequences.each().all(|sequence| missing.has(sequence)) {
            let told = missing.told(5);
            let text = format!("not all of {} are missing", sequences.told(5));
            return Err(Refused::failed(text)
                .hint(if told.is_empty() {
                    "nothing is".to_owned()
                } else {
                    format!("{told} are")
                })
                .into());
        }
        let sql = ctx.sql_admin().await?;
        let count: i64 = sql
            .query_one(
                "select telltale.write_off($1, $2, $3::text::int8multirange, $4, $5)",
                &[
                    &ctx.site.plain(),
                    &i64::try_from(epoch)?,
                    &sequences.multirange(),
                    &self.by,
                    &self.note,
                ],
            )
            .await
            .context("write them off")?
            .get(0);
        writeln!(std::io::stderr().lock(), "{count} messages are written off")?;
        Ok(ExitCode::SUCCESS)
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

/// Waits until what has left RAW by now has been seen to; else says what is waited for.
async fn pass(js: &jetstream::Context) -> Result<barrier::Raw, String> {
    let begun = Instant::now();
    let mut barrier = Barrier::begin(js).await.map_err(|error| error.to_string())?;
    let mut waits_for = None;
    loop {
        let patience = match barrier.advance(js).await {
            Ok(true) => BETWEEN,
            Ok(false) => {
                waits_for = barrier.waits_for().map(|mark| {
                    format!(
                        "{} to come past {} of {}",
                        mark.durable, mark.sequence, mark.stream
                    )
                });
                PATIENCE
            }
            Err(error) => {
                waits_for = Some(error.to_string());
                PATIENCE
            }
        };
        let left = patience.saturating_sub(begun.elapsed());
        match (patience == BETWEEN, waits_for.take()) {
            (true, _) => {
                tokio::time::sleep(left).await;
                return Ok(barrier.raw());
            }
            (false, Some(what)) if left.is_zero() => return Err(what),
            _ => tokio::time::sleep(STEP).await,
        }
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
        Some(own) => balance(out, own, "balance    ")?,
    }
    if let Some(what) = &report.waits_for {
        writeln!(out, "            not settled: waits for {what}")?;
    }
    for other in &report.other_balances {
        balance(out, other, &format!("{} {}", other.site, other.epoch))?;
    }
    for (stream, holes) in &report.holes {
        writeln!(out, "holes       {stream} {holes}")?;
    }
    Ok(())
}

fn balance(out: &mut impl Write, of: &Balance, name: &str) -> anyhow::Result<()> {
    let removed = if of.removed > 0 {
        format!("removed by operator {} + ", of.removed)
    } else {
        String::new()
    };
    writeln!(
        out,
        "{name} accepted {} = stored {} + duplicate {} + quarantined {} + unkept {} + {removed}in flight {} + missing {}",
        of.accepted, of.stored, of.duplicate, of.quarantined, of.unkept, of.in_flight, of.missing
    )?;
    for lost in &of.lost {
        writeln!(out, "            {}", lost.told())?;
    }
    Ok(())
}
