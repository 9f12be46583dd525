//! `telltale quarantine`: what the stages refused, and why.
mod pointed;

use super::{
    exit::Refused,
    output::{Format, Output, escaped},
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode};
use telltale_nats::header;
use telltale_schemas::{Timestamp, duration};
use tokio_postgres::Row;

const LIST_EXAMPLES: &str = "Examples:
  telltale quarantine list
  telltale quarantine list --reason unit --since 1h -o json";
const SHOW_EXAMPLES: &str = "Examples:
  telltale quarantine show road-weather-001:7-1204
  telltale quarantine show road-weather-001:7-1204 --raw > payload";
/// More of a payload is cut; `--raw` has it whole.
const SHOWN_BYTES_MAX: usize = 4096;

/// Messages that a stage refused: kept whole, with the reason
#[derive(Debug, clap::Subcommand)]
pub enum Quarantine {
    /// List what is in quarantine, newest first
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Show one message: what was wrong and where, its headers and its bytes
    #[command(visible_alias = "info", after_help = SHOW_EXAMPLES)]
    Show {
        /// Its id, or that of its quarantine entry
        id: String,
        /// Only the payload, byte for byte
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// Which entries.
#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Only for this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only what this worker refused
    #[arg(long)]
    stage: Option<String>,
    /// Only at this site
    #[arg(long)]
    site: Option<String>,
    /// Only about this thing
    #[arg(long)]
    thing: Option<String>,
    /// Only what came in since then: `1h`, `7d`, or an RFC 3339 time
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// Also what became a row after all
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: i64,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = duration::parse(text) {
        let micros = i64::try_from(ago.as_micros()).map_err(|_| "too long ago".to_owned())?;
        return Ok(Timestamp::now().plus_micros(-micros));
    }
    Timestamp::parse(text).map_err(|_| format!("`{text}` is neither a duration (`1h`) nor an RFC 3339 time"))
}

const LIST: &str = "
    select coalesce(received, time) as at, site, thing, stage, reason, message_id, id, errors, attempts, state
    from quarantine
    where ($1::text is null or reason = $1) and ($2::text is null or stage = $2) and ($3::text is null or site = $3)
      and ($4::text is null or thing = $4) and ($5::timestamptz is null or coalesce(received, time) >= $5)
      and ($6 or state = 'open')
    order by at desc, id limit $7";

const SHOW: &str = "
    select id, time, received, site, thing, stage, reason, errors, attempts, subject, headers, payload, sha256,
        message_id, protocol, publisher, epoch, seq, state
    from quarantine where id = $1 or message_id = $1 order by coalesce(received, time) desc, id limit 100";

impl Quarantine {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        match self {
            Self::List { filter, output } => list(&ctx, &filter, &output).await,
            Self::Show { id, raw, output } => show(&ctx, &id, raw, &output).await,
        }
    }
}

fn when(row: &Row, column: &str) -> Value {
    let at: Option<time::OffsetDateTime> = row.get(column);
    at.map_or(Value::Null, |at| Timestamp::from_offset(at).to_string().into())
}

async fn list(ctx: &Context, filter: &Filter, output: &Output) -> anyhow::Result<ExitCode> {
    let sql = reach::sql(ctx).await?;
    let since = filter.since.map(Timestamp::to_offset);
    let Filter {
        reason,
        stage,
        site,
        thing,
        all,
        limit,
        ..
    } = filter;
    let found = sql
        .query(LIST, &[reason, stage, site, thing, &since, all, limit])
        .await
        .context("read the quarantine")?;
    let mut rows = output.rows([
        "time",
        "site",
        "thing",
        "stage",
        "reason",
        "message_id",
        "attempts",
        "state",
        "problem",
    ]);
    for row in &found {
        let text = |column: &str| Value::from(row.get::<_, String>(column));
        rows.row(vec![
            when(row, "at"),
            text("site"),
            text("thing"),
            text("stage"),
            text("reason"),
            text("message_id"),
            row.get::<_, i32>("attempts").into(),
            text("state"),
            problem(&row.get("errors")).into(),
        ])?;
    }
    let full = i64::try_from(rows.written()).is_ok_and(|written| written == *limit);
    rows.finish()?;
    let mut err = std::io::stderr().lock();
    if found.is_empty() {
        writeln!(err, "nothing is in quarantine")?;
    } else if full {
        writeln!(err, "note: these are the newest {limit}; --limit shows more")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn problem(errors: &Value) -> String {
    let first = &errors[0];
    let text = |member: &str| first[member].as_str().unwrap_or_default();
    format!("{} {}", text("pointer"), text("message"))
        .trim()
        .to_owned()
}

async fn show(ctx: &Context, id: &str, raw: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let sql = reach::sql(ctx).await?;
    let found = sql.query(SHOW, &[&id]).await.context("read the quarantine")?;
    let Some(newest) = found.first() else {
        return Err(Refused::failed(format!("`{id}` is not in quarantine"))
            .hint("`telltale quarantine list --all` has the ids")
            .into());
    };
    let mut out = std::io::stdout().lock();
    if raw {
        out.write_all(newest.get("payload"))?;
        return Ok(ExitCode::SUCCESS);
    }
    match output.asked() {
        Some(Format::Json) => {
            let all: Vec<Value> = found.iter().map(whole).collect();
            serde_json::to_writer_pretty(&mut out, &all)?;
            writeln!(out)?;
        }
        Some(Format::Ndjson) => {
            for row in &found {
                serde_json::to_writer(&mut out, &whole(row))?;
                writeln!(out)?;
            }
        }
        _ => {
            for row in &found {
                out.write_all(told(&whole(row), row.get("payload")).as_bytes())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn whole(row: &Row) -> Value {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let payload: &[u8] = row.get("payload");
    json!({
        "id": text("id"), "message_id": text("message_id"), "state": text("state"),
        "stage": text("stage"), "reason": text("reason"), "attempts": row.get::<_, i32>("attempts"),
        "errors": row.get::<_, Value>("errors"),
        "time": when(row, "time"), "received": when(row, "received"),
        "site": text("site"), "thing": text("thing"), "subject": text("subject"),
        "protocol": text("protocol"), "publisher": text("publisher"),
        "epoch": row.get::<_, Option<i64>>("epoch"), "seq": row.get::<_, Option<i64>>("seq"),
        "headers": row.get::<_, Value>("headers"),
        "sha256": text("sha256"), "bytes": payload.len(),
        "text": std::str::from_utf8(payload).ok(), "base64": BASE64_STANDARD.encode(payload),
    })
}

fn told(entry: &Value, payload: &[u8]) -> String {
    let text = |member: &str| match &entry[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        other => other.to_string(),
    };
    // What the bridge wrote beside a raw message stands in its headers, where the refusing stage did not say it.
    let by_header = |member: &str, name: &str| {
        let named = |header: &&Value| {
            header[0]
                .as_str()
                .is_some_and(|found| found.eq_ignore_ascii_case(name))
        };
        let found = entry["headers"].as_array().into_iter().flatten().find(named);
        match (&entry[member], found.and_then(|header| header[1].as_str())) {
            (Value::Null, Some(value)) => escaped(value),
            _ => text(member),
        }
    };
    let (protocol, publisher) = (
        by_header("protocol", header::PROTOCOL),
        by_header("publisher", header::PUBLISHER),
    );
    let mut lines = vec![
        format!(
            "{}: {} refused it as `{}` ({})",
            text("message_id"),
            text("stage"),
            text("reason"),
            text("state")
        ),
        format!("  thing     {} at {}", text("thing"), text("site")),
        format!("  received  {} over {protocol} by {publisher}", text("received")),
        format!("  time      {}", text("time")),
        format!("  subject   {}", text("subject")),
        format!(
            "  raw       {}-{}, attempts {}",
            text("epoch"),
            text("seq"),
            text("attempts")
        ),
    ];
    for header in entry["headers"].as_array().into_iter().flatten() {
        let part = |at: usize| escaped(header[at].as_str().unwrap_or_default());
        lines.push(format!("  header    {}: {}", part(0), part(1)));
    }
    lines.push(format!(
        "  payload   {} bytes, sha256 {}",
        payload.len(),
        text("sha256")
    ));
    lines.extend(evidence(entry, payload));
    lines.join("\n") + "\n"
}

/// The payload, with a mark at each fault.
fn evidence(entry: &Value, payload: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let faults: Vec<(&str, &str)> = entry["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap_or_default(),
                error["message"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    if let Ok(text) = std::str::from_utf8(payload) {
        lines.extend(pointed::marked(text, &faults));
    } else {
        lines.extend(hex_dump(payload.get(..SHOWN_BYTES_MAX).unwrap_or(payload)));
        lines.extend(
            faults
                .iter()
                .map(|(pointer, message)| pointed::unplaced(pointer, message)),
        );
    }
    if payload.len() > SHOWN_BYTES_MAX {
        lines.push(format!("  (the first {SHOWN_BYTES_MAX} bytes; --raw has all)"));
    }
    lines
}

fn hex_dump(bytes: &[u8]) -> impl Iterator<Item = String> {
    (0..)
        .step_by(16)
        .zip(bytes.chunks(16))
        .map(|(offset, row): (usize, _)| {
            let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown = |byte: &u8| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    char::from(*byte)
                } else {
                    '.'
                }
            };
            format!(
                "   | {offset:06x}  {:<47}  {}",
                hex.join(" "),
                row.iter().map(shown).collect::<String>()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_marked_where_it_stands() {
        let entry = json!({
            "message_id": "t:1", "stage": "validate", "reason": "type", "state": "open", "thing": "t", "site": "s",
            "received": "2026-01-15T07:41:09Z", "time": "2026-01-15T07:41:09Z", "protocol": "http",
            "publisher": "gateway", "subject": "x", "epoch": 7, "seq": 12, "attempts": 1, "sha256": "00",
            "headers": [["Content-Type", "application/json\u{1b}[2J"]],
            "errors": [{"pointer": "/b", "message": "`cold` is not a number"}],
        });
        let text = told(&entry, br#"{"a": 1, "b": "cold"}"#);
        assert!(
            text.starts_with("t:1: validate refused it as `type` (open)\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "\n   | {\"a\": 1, \"b\": \"cold\"}\n   |               ^^^^^^ /b `cold` is not a number\n"
            ),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hexadecimal() {
        let lines: Vec<String> = hex_dump(b"\x80\x81A\x1b").collect();
        assert_eq!(
            lines,
            ["   | 000000  80 81 41 1b                                      ..A."]
        );
    }

    #[test]
    fn since_takes_a_span_or_a_moment() {
        assert!(since("1h").unwrap() < Timestamp::now());
        assert_eq!(
            since("2026-01-15T07:41:09Z").unwrap().to_string(),
            "2026-01-15T07:41:09Z"
        );
        assert!(since("yesterday").is_err());
    }
}
