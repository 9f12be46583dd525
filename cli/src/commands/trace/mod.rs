//! `telltale trace`: what became of one message, stage by stage.
mod hops;
mod sql;
mod story;
mod streams;

pub use hops::Hop;
pub use story::{Act, Effect, EntryRef, RowRef, Sources, Trace as Told, trace};
pub use streams::Waits;

use super::{
    exit::Refused,
    output::{Format, Output, Rows, escaped},
    reach,
};
use crate::context::Context;
use std::{io::Write, process::ExitCode};
use telltale_nats::client;

const EXAMPLES: &str = "Examples:
  telltale trace road-weather-17:01JB3V9Q0H7T5W4M2N6K8R1C3D
  telltale trace 1795521795-184201 -o json

By the id that the device was told, that of an entry in quarantine, or <epoch>-<sequence> in RAW. SQL is asked first, then
the streams, as far back as they go.";

/// What became of one message: each stage with its times, and the row or quarantine entry that it became
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Trace {
    /// `<thing>:<key>`, an entry of the quarantine, or `<epoch>-<sequence>`
    id: String,
    #[command(flatten)]
    output: Output,
}

impl Trace {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let sql = reach::sql(&ctx).await?;
        let js = client::context(reach::nats(&ctx).await?);
        let at = Sources {
            sql: &sql,
            js: &js,
            site: &ctx.site,
        };
        let told = trace(&at, &self.id).await?;
        if told.acts.is_empty() {
            return Err(
                Refused::failed(format!("nothing is known of `{}`, or nothing any more", self.id))
                    .hint("SQL has all that was stored or refused; what was not may be gone from the streams")
                    .into(),
            );
        }
        let mut out = std::io::stdout().lock();
        match self.output.asked() {
            Some(Format::Json) => {
                serde_json::to_writer_pretty(&mut out, &told)?;
                writeln!(out)?;
            }
            Some(Format::Ndjson) => {
                for act in &told.acts {
                    serde_json::to_writer(&mut out, act)?;
                    writeln!(out)?;
                }
            }
            Some(format @ (Format::Csv | Format::Tsv)) => hops_of(&mut out, &told.acts, format)?,
            None | Some(Format::Table) => people(&mut out, &told)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn hops_of(out: &mut impl Write, acts: &[Act], format: Format) -> anyhow::Result<()> {
    let columns = ["start", "stage", "attempt", "waited_ms", "took_ms", "verdict"];
    let mut rows = Rows::new(out, format, columns);
    for hop in acts.iter().flat_map(|act| &act.hops) {
        rows.row(vec![
            hop.start.to_string().into(),
            hop.stage.as_str().into(),
            hop.attempt.into(),
            hop.waited_ms.into(),
            hop.took_ms.into(),
            hop.verdict.as_str().into(),
        ])?;
    }
    rows.finish()?;
    Ok(())
}

fn people(out: &mut impl Write, told: &Told) -> anyhow::Result<()> {
    for act in &told.acts {
        let or = |text: &Option<String>| text.as_deref().map_or_else(|| "?".to_owned(), escaped);
        writeln!(out, "{}: {}", escaped(&act.id), act.verdict)?;
        let raw = act
            .rawseq
            .map_or_else(|| "not from RAW".to_owned(), |raw| format!("RAW {raw}"));
        write!(out, "  {raw}, thing {} of {}", or(&act.thing), or(&act.site))?;
        if act.protocol.is_some() {
            write!(out, ", over {} from {}", or(&act.protocol), or(&act.publisher))?;
        }
        writeln!(out)?;
        if !act.hops.is_empty() {
            hops_of(out, std::slice::from_ref(act), Format::Table)?;
        }
        if let Some(row) = &act.row {
            let name = row
                .name
                .as_ref()
                .map(|name| format!(" {}", escaped(name)))
                .unwrap_or_default();
            let before = if act.verdict == "duplicate" {
                "was there before: "
            } else {
                ""
            };
            let raw = row.rawseq.map(|raw| format!(", RAW {raw}")).unwrap_or_default();
            writeln!(out, "  {before}{}{name} at {}{raw}", row.kind, row.time)?;
        }
        if let Some(entry) = &act.entry {
            entry_of(out, entry)?;
        }
        if let Some(waits) = &act.waits {
            writeln!(
                out,
                "  waits for {} in {} at {}, at most {} before it",
                waits.stage, waits.stream, waits.sequence, waits.ahead
            )?;
        }
    }
    for effect in &told.caused {
        let name = effect.name.as_deref().map(escaped).unwrap_or_default();
        writeln!(
            out,
            "caused {} {name} of {} at {} ({})",
            effect.kind,
            escaped(&effect.thing),
            effect.time,
            escaped(&effect.id)
        )?;
    }
    Ok(())
}

fn entry_of(out: &mut impl Write, entry: &EntryRef) -> anyhow::Result<()> {
    let id = entry
        .id
        .as_deref()
        .map_or_else(|| "not kept, the quarantine was full".to_owned(), escaped);
    let state = entry.state.as_deref().unwrap_or("gone");
    writeln!(
        out,
        "  {} refused it as `{}`: {id}, {state}",
        escaped(&entry.stage),
        escaped(&entry.reason)
    )?;
    for error in entry.errors.as_array().into_iter().flatten() {
        let text = |member: &str| escaped(error[member].as_str().unwrap_or_default());
        writeln!(out, "    {} {}", text("pointer"), text("message"))?;
    }
    Ok(())
}
