//! `telltale rule test`: what would follow from readings, by the engine that runs in `process`, without a broker.
use super::{
    super::{exit::Refused, output::Output},
    apply,
};
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};
use telltale_process::{
    derive::Derive,
    heard::{Follows, Heard, Said},
    rules::Engine,
};
use telltale_runtime::Delivery;
use telltale_schemas::{Derivation, Document, Envelope, Kind, Observation, Reading, Record, Timestamp};

pub(super) const EXAMPLES: &str = "Examples:
  telltale rule test ice-risk.json --readings readings.ndjson
  echo '{\"thing\":\"road-1\",\"time\":\"2026-01-15T07:41:09Z\",\"speed\":131}' | telltale rule test speed.json --readings -
  telltale tap annotated --limit 500 --as json | telltale rule test ice-risk.json --readings - -o ndjson";

/// What is tried on what.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Rules, as `apply` takes them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One message a line: an envelope, or `thing`, `time` and values by name; `-` for stdin
    #[arg(long)]
    readings: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let documents = apply::read_all(&self.files)?;
        let mut tried = Tried::default();
        for document in &documents {
            let applied = tried.derive.apply(&document.rule.name, Some(&document.rule));
            applied.map_err(|wrong| Refused::failed(format!("{wrong:?}")))?;
        }
        let texts = documents.into_iter();
        let texts: BTreeMap<String, Vec<u8>> = texts
            .map(|document| (document.rule.name, document.text.into_bytes()))
            .collect();
        tried.engine.refresh(&texts);
        let name = self.readings.display().to_string();
        let follows = tried.all(readings(&name, &apply::text(&self.readings)?)?);
        let mut rows = self.output.rows(["time", "thing", "kind", "name", "data", "id"]);
        for made in follows {
            rows.row(row(&made))?;
        }
        rows.finish()?;
        for (rule, (count, why)) in tried.failed() {
            writeln!(
                std::io::stderr().lock(),
                "note: rule `{rule}` had no value {count} times; the last one: {why}"
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The operators as `process` has them.
#[derive(Default)]
struct Tried {
    engine: Engine,
    derive: Derive,
}

impl Tried {
    /// What follows from the readings, each in its time, until the time of the last one.
    fn all(&mut self, mut readings: Vec<Heard>) -> Vec<Follows> {
        readings.sort_by(|a, b| (a.cause.time, &a.cause.id).cmp(&(b.cause.time, &b.cause.id)));
        let mut things: Vec<String> = readings.iter().map(|heard| heard.thing().to_owned()).collect();
        things.sort();
        things.dedup();
        let mut out = Vec::new();
        let end = readings.last().map(|heard| heard.cause.time);
        for heard in readings {
            self.pass(&things, heard.cause.time, &mut out);
            self.engine.at_once(&heard, &mut out);
            self.engine.hear(&heard, &mut out);
            self.derive.hear(&heard, &mut out);
        }
        if let Some(end) = end {
            self.pass(&things, end, &mut out);
        }
        out
    }

    fn pass(&mut self, things: &[String], until: Timestamp, out: &mut Vec<Follows>) {
        for thing in things {
            if self.engine.waits(thing).is_some_and(|moment| moment <= until) {
                self.engine.passed(thing, until, out);
            }
            if self.derive.waits(thing).is_some_and(|moment| moment <= until) {
                self.derive.passed(thing, until, out);
            }
        }
    }

    fn failed(&mut self) -> BTreeMap<String, (u64, String)> {
        let mut failed = self.engine.take_tally().failed;
        failed.extend(self.derive.take_tally().failed);
        failed
    }
}

fn row(made: &Follows) -> Vec<Value> {
    let (kind, name, data) = match &made.draft.message {
        Said::Event(event) => ("event", event.name.clone(), json!(event.detail)),
        Said::Command(command) => ("command", command.name.clone(), command.input.clone()),
        Said::Derivation(derived) => {
            let names: Vec<&str> = derived.records.iter().map(|record| record.n.as_str()).collect();
            ("derivation", names.join(" "), json!(derived.records))
        }
    };
    let thing = made.draft.thing.as_deref().unwrap_or(made.cause.thing.plain());
    vec![
        made.draft.time.unwrap_or(made.cause.time).to_string().into(),
        thing.into(),
        kind.into(),
        name.into(),
        data,
        made.draft.id.clone().into(),
    ]
}

/// One message a line.
fn readings(file: &str, text: &str) -> anyhow::Result<Vec<Heard>> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let value = serde_json::from_str(line).map_err(anyhow::Error::from);
            let heard = value.and_then(|value| heard(n + 1, value));
            heard.with_context(|| Refused::failed(format!("{file}:{}: it is no reading", n + 1)))
        })
        .collect()
}

fn heard(number: usize, mut value: Value) -> anyhow::Result<Heard> {
    // As `tap` writes it: the envelope, and where it was.
    if let Some(message) = value.get_mut("message").map(Value::take) {
        value = message;
    }
    let kind = value["type"].as_str().and_then(Kind::of_event_type);
    match kind {
        Some(Kind::Observation) => of::<Observation>(value, |data| (data.records, data.annotation, None)),
        Some(Kind::Derivation) => of::<Derivation>(value, |data| (data.records, Map::new(), data.rule)),
        Some(Kind::Reading) => of::<Reading>(value, |data| (data.records, Map::new(), None)),
        _ => of::<Reading>(enveloped(number, &value)?, |data| {
            (data.records, Map::new(), None)
        }),
    }
}

type Parts = (Vec<Record>, Map<String, Value>, Option<String>);

fn of<D: Document>(value: Value, parts: fn(D) -> Parts) -> anyhow::Result<Heard> {
    let envelope: Envelope<D> = serde_json::from_value(value)?;
    let stored = envelope.recordedtime.unwrap_or(envelope.time);
    let delivery = Delivery::of(envelope);
    let (records, annotation, rule) = parts(delivery.data);
    Ok(Heard {
        cause: Arc::new(delivery.cause),
        stored,
        records,
        annotation,
        rule,
    })
}

/// `{"thing": …, "time": …, "speed": 7}` as a message.
fn enveloped(number: usize, flat: &Value) -> anyhow::Result<Value> {
    let members = flat.as_object().context("write an object")?;
    let of = |word: &str| members.get(word).and_then(Value::as_str);
    let thing = of("thing").context("`thing` is missing")?;
    let time = of("time").context("`time` is missing")?;
    let values = members
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "thing" | "time" | "id"));
    let records = values.map(|(name, value)| match value {
        Value::Number(_) => Ok(json!({"n": name, "v": value})),
        Value::String(_) => Ok(json!({"n": name, "vs": value})),
        Value::Bool(_) => Ok(json!({"n": name, "vb": value})),
        other => anyhow::bail!("`{name}` is {other}, and a number, a text or a boolean is needed"),
    });
    let id = of("id").map_or_else(|| format!("{thing}:{number}"), str::to_owned);
    Ok(json!({
        "specversion": "1.0", "type": Kind::Reading.event_type(), "source": "/local/validate", "subject": thing,
        "id": id, "time": time, "data": {"records": records.collect::<Result<Vec<_>, _>>()?}
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(rule: &Value, lines: &str) -> Vec<Vec<Value>> {
        let mut tried = Tried::default();
        let name = rule["name"].as_str().unwrap().to_owned();
        let read = serde_json::from_value(rule.clone()).unwrap();
        tried.derive.apply(&name, Some(&read)).unwrap();
        tried
            .engine
            .refresh(&BTreeMap::from([(name, rule.to_string().into_bytes())]));
        tried.all(readings("f", lines).unwrap()).iter().map(row).collect()
    }

    #[test]
    fn an_alarm_is_raised_also_where_the_thing_is_silent_and_others_speak() {
        let rule = json!({"name": "cold", "when": "t < 0.0", "for": "30s", "then": [{"event": "cold", "detail": {"t": "t"}}]});
        let lines = r#"{"thing":"b","time":"2026-01-01T00:01:00Z","t":5}
            {"thing":"a","time":"2026-01-01T00:00:00Z","t":-1,"text":"x","ok":true}"#;
        let rows = tried(&rule, lines);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            rows[0][..4],
            [
                json!("2026-01-01T00:00:30Z"),
                json!("a"),
                json!("event"),
                json!("cold")
            ]
        );
        assert_eq!(rows[0][4]["state"], "raised");
        assert_eq!(rows[0][5], "cold:a:1767225600000000.raised");
    }

    #[test]
    fn what_is_no_reading_is_told_with_its_line() {
        for line in [
            "{",
            "7",
            r#"{"time":"2026-01-01T00:00:00Z"}"#,
            r#"{"thing":"a","time":"x"}"#,
            r#"{"thing":"a","time":"2026-01-01T00:00:00Z","v":[]}"#,
        ] {
            let error = readings("f", &format!("\n{line}")).unwrap_err().to_string();
            assert!(error.starts_with("f:2:"), "{line}: {error}");
        }
    }
}
