//! `telltale quarantine show`: one message, what was wrong and where, and what would mend it.
use super::{
    super::{
        exit::Refused,
        output::{Format, Output, escaped, json_text},
        reach,
    },
    pointed, remedy, when,
};
use crate::{context::Context, envfile};
use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal as _, Write},
    process::ExitCode,
};
use telltale_nats::header;
use tokio_postgres::Row;

/// More of a payload is cut; `--raw` has it whole.
pub(super) const SHOWN_BYTES_MAX: usize = 4096;

const SHOW: &str = "
    select id, time, received, site, thing, stage, reason, errors, attempts, subject, headers, payload, sha256,
        message_id, protocol, publisher, epoch, seq, state, generation, replay_begun, settled, settled_by, note,
        edited, edited_headers, edited_at, edited_by
    from quarantine where id = $1 or message_id = $1
    order by coalesce(received, time) desc, generation desc, id limit 100";

pub(super) async fn run(ctx: &Context, id: &str, raw: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let sql = reach::sql(ctx).await?;
    let found = sql.query(SHOW, &[&id]).await.context("read the quarantine")?;
    let Some(newest) = found.first() else {
        return Err(Refused::failed(format!("`{id}` is not in quarantine"))
            .hint("`telltale quarantine list --all` has the ids")
            .into());
    };
    let mut out = std::io::stdout().lock();
    if raw && out.is_terminal() {
        return Err(Refused::usage(
            "these bytes came from outside; they would be written to your terminal as they are",
        )
        .hint("`… --raw > FILE`, or `… --raw | less`")
        .into());
    }
    if raw {
        out.write_all(newest.get("payload"))?;
        return Ok(ExitCode::SUCCESS);
    }
    match output.asked() {
        Some(Format::Json) => {
            let all: Vec<Value> = found.iter().map(whole).collect();
            writeln!(out, "{}", json_text(&serde_json::to_string_pretty(&all)?))?;
        }
        Some(Format::Ndjson) => {
            for row in &found {
                writeln!(out, "{}", json_text(&whole(row).to_string()))?;
            }
        }
        _ => {
            for row in &found {
                out.write_all(told(&whole(row), row.get("payload"), row.get("edited")).as_bytes())?;
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
        "generation": row.get::<_, i32>("generation"), "replay_begun": when(row, "replay_begun"),
        "settled": when(row, "settled"), "settled_by": text("settled_by"), "note": text("note"),
        "edited_at": when(row, "edited_at"), "edited_by": text("edited_by"),
        "edited": row.get::<_, Option<&[u8]>>("edited").map(|bytes| BASE64_STANDARD.encode(bytes)),
        "edited_headers": row.get::<_, Option<Value>>("edited_headers"),
        "stage": text("stage"), "reason": text("reason"), "attempts": row.get::<_, i32>("attempts"),
        "errors": row.get::<_, Value>("errors"),
        "remedy": remedy::of(row.get("stage"), row.get("reason")),
        "time": when(row, "time"), "received": when(row, "received"),
        "site": text("site"), "thing": text("thing"), "subject": text("subject"),
        "protocol": text("protocol"), "publisher": text("publisher"),
        "epoch": row.get::<_, Option<i64>>("epoch"), "seq": row.get::<_, Option<i64>>("seq"),
        "headers": row.get::<_, Value>("headers"),
        "sha256": text("sha256"), "bytes": payload.len(),
        "text": std::str::from_utf8(payload).ok(), "base64": BASE64_STANDARD.encode(payload),
    })
}

fn told(entry: &Value, payload: &[u8], edited: Option<&[u8]>) -> String {
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
        format!("  entry     {}", text("id")),
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
    if let Some(edited) = edited {
        lines.push(format!(
            "  edited    by {} at {}; {} bytes, which a replay sends",
            text("edited_by"),
            text("edited_at"),
            edited.len()
        ));
        lines.extend(content(edited, &[]));
    }
    lines.extend(fate(entry));
    lines.join("\n") + "\n"
}

/// What became of it, or what can be done.
fn fate(entry: &Value) -> Vec<String> {
    let text = |member: &str| escaped(entry[member].as_str().unwrap_or("-"));
    let mut lines = Vec::new();
    if let Some(generation @ 1..) = entry["generation"].as_i64() {
        lines.push(format!("  replays   refused again after replay {generation}"));
    }
    if entry["state"] == "open" {
        if entry["replay_begun"].is_string() {
            lines.push(format!(
                "  replay    begun at {} and cut off; replay again to finish it",
                text("replay_begun")
            ));
        }
        // To copy into a shell: an id is what somebody sent.
        let id = envfile::quote(&text("id"));
        let remedy = text("remedy").replace("ID", &id);
        lines.push(format!("  to mend   {remedy}"));
        lines.push(format!("            then `telltale quarantine replay {id}`"));
    } else {
        lines.push(format!(
            "  {:<9} at {} by {}",
            text("state"),
            text("settled"),
            text("settled_by")
        ));
    }
    if entry["note"].is_string() {
        lines.push(format!("  note      {}", text("note")));
    }
    lines
}

/// The payload, with a mark at each fault.
fn evidence(entry: &Value, payload: &[u8]) -> Vec<String> {
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
    content(payload, &faults)
}

/// Bytes as text where they are some, with marks.
fn content(payload: &[u8], faults: &[(&str, &str)]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(text) = std::str::from_utf8(payload) {
        lines.extend(pointed::marked(text, faults));
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
            "headers": [["Content-Type", "application/json\u{1b}[2J"]], "id": "t:7-12.validate.quarantine",
            "remedy": remedy::of("validate", "type"),
            "errors": [{"pointer": "/b", "message": "`cold` is not a number"}],
        });
        let text = told(&entry, br#"{"a": 1, "b": "cold"}"#, None);
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
        assert!(text.contains("\n  to mend   correct the policy"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_was_edited_and_settled_is_told_beside_the_original() {
        let entry = json!({
            "state": "replayed", "settled": "2026-01-16T00:00:00Z", "settled_by": "ann\u{1b}]0;x\u{7}", "note": "typo",
            "edited_at": "2026-01-15T08:00:00Z", "edited_by": "ann", "errors": [], "generation": 2,
        });
        let text = told(&entry, b"{", Some(b"{}"));
        for line in [
            "  edited    by ann at 2026-01-15T08:00:00Z; 2 bytes, which a replay sends\n   | {}\n",
            "  replays   refused again after replay 2\n",
            "  replayed  at 2026-01-16T00:00:00Z by ann\\u{1b}]0;x\\u{7}\n",
            "  note      typo\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("to mend"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hexadecimal() {
        let lines: Vec<String> = hex_dump(b"\x80\x81A\x1b").collect();
        assert_eq!(
            lines,
            ["   | 000000  80 81 41 1b                                      ..A."]
        );
    }
}
