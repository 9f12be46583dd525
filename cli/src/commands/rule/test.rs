//! `telltale rule test`: what would follow from readings, by the engine that runs in `process`, without a broker.
//!
//! The lines are the stream of readings, in their order. The clock is the time at which each was stored; what is derived
//! is stored at once, and comes back in. After the last line all is silent.
use super::{
    super::{exit::Refused, output::Output},
    apply,
};
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use telltale_process::{
    heard::{Follows, Heard, Said, again},
    state::{Spans, State},
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
    /// How long a reading waits for those of its thing that were measured before it, as `process` is told
    #[arg(long, default_value = "2s", value_parser = telltale_runtime::duration)]
    lateness: Duration,
    #[command(flatten)]
    output: Output,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut tried = Tried::default();
        tried.spans.lateness = i64::try_from(self.lateness.as_micros())?;
        let documents = apply::read_all(&self.files)?.into_iter();
        tried.apply(documents.map(|document| (document.rule.name, document.text.into_bytes())))?;
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

/// What `process` remembers, and what of its own it has not heard yet.
#[derive(Default)]
struct Tried {
    state: State,
    spans: Spans,
    back: VecDeque<Heard>,
}

impl Tried {
    /// Puts these documents into force.
    fn apply(&mut self, documents: impl Iterator<Item = (String, Vec<u8>)>) -> anyhow::Result<()> {
        let (changes, refused) = self.state.rules.refresh(&documents.collect::<BTreeMap<_, _>>());
        if let Some(document) = refused.first() {
            return Err(Refused::failed(format!("{}: {:?}", document.name, document.wrong)).into());
        }
        for change in changes {
            let applied = self.state.derive.apply(&change.name, change.rule.as_ref());
            applied.map_err(|wrong| Refused::failed(format!("{}: {wrong:?}", change.name)))?;
        }
        Ok(())
    }

    /// What follows from the readings, and from the silence after them.
    fn all(&mut self, readings: Vec<Heard>) -> Vec<Follows> {
        let (mut clock, mut said) = (None, Vec::new());
        for mut heard in readings {
            // No stream is stored backwards.
            heard.stored = clock.map_or(heard.stored, |clock: Timestamp| clock.max(heard.stored));
            clock = Some(heard.stored);
            self.until(clock, &mut said);
            self.take(heard, &mut said);
        }
        self.until(None, &mut said);
        said
    }

    /// All that comes about until that time; `None` for ever.
    fn until(&mut self, end: Option<Timestamp>, said: &mut Vec<Follows>) {
        loop {
            while let Some(heard) = self.back.pop_front() {
                self.take(heard, said);
            }
            let next = self.state.waits_until();
            let Some(now) = next.filter(|at| end.is_none_or(|end| *at <= end)) else {
                break;
            };
            let mut out = Vec::new();
            while self.state.due(now, self.spans).is_some() {
                self.state.turn(None, self.spans, &mut out);
            }
            self.say(now, out, said);
        }
        // A thing may be forgotten in between.
        if let Some(end) = end {
            let nothing = self.state.due(end, self.spans);
            debug_assert!(nothing.is_none(), "all that was due was taken");
        }
    }

    fn take(&mut self, heard: Heard, said: &mut Vec<Follows>) {
        let (now, mut out) = (heard.stored, Vec::new());
        self.state.take(heard, self.spans, &mut out);
        self.say(now, out, said);
    }

    /// What is said is stored at that time, and what of it is heard here comes back.
    fn say(&mut self, now: Timestamp, out: Vec<Follows>, said: &mut Vec<Follows>) {
        self.back.extend(out.iter().filter_map(|made| again(made, now)));
        said.extend(out);
    }

    fn failed(&mut self) -> BTreeMap<String, (u64, String)> {
        let mut failed = self.state.rules.take_tally().failed;
        failed.extend(self.state.derive.take_tally().failed);
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
        let rules = rule
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![rule.clone()])
            .into_iter();
        let documents = rules.map(|rule| {
            (
                rule["name"].as_str().unwrap().to_owned(),
                rule.to_string().into_bytes(),
            )
        });
        tried.apply(documents).unwrap();
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
    fn what_is_derived_comes_back_as_often_as_it_would_and_no_more() {
        let line = r#"{"thing":"a","time":"2026-01-01T00:00:03Z","t":9}"#;
        let more = json!({"name": "more", "when": "t > 0.0", "then": [{"derive": "t", "value": "t + 1.0"}]});
        assert_eq!(
            tried(&more, line).len(),
            8,
            "what has been through it 8 times causes nothing"
        );
        let rules = json!([
            {"name": "sums", "window": {"of": "t", "every": "10s", "functions": ["sum"]}},
            {"name": "high", "when": "t_sum_10s > 8.0", "then": [{"event": "high", "detail": {"sum": "t_sum_10s"}}]},
        ]);
        let rows = tried(&rules, line);
        let last = rows.last().unwrap();
        assert_eq!(
            (&last[3], &last[4]),
            (&json!("high"), &json!({"sum": 9.0})),
            "{rows:?}"
        );
    }

    #[test]
    fn what_comes_late_is_late_and_what_is_only_out_of_order_is_put_in_order() {
        let rule = json!({"name": "rises", "when": "t > previous[\"t\"]", "then": [{"event": "rises", "detail": {"t": "t"}}]});
        let line = |second: u32, t: u32| {
            format!(r#"{{"thing":"a","time":"2026-01-01T00:00:{second:02}Z","t":{t}}}"#)
        };
        let lines = [line(2, 2), line(1, 1), line(8, 4), line(3, 3), line(9, 9)].join("\n");
        let values = |rows: Vec<Vec<Value>>| {
            rows.iter()
                .map(|row| row[4]["t"].as_f64().unwrap())
                .collect::<Vec<_>>()
        };
        // 3 came when 8 had been stored for no time yet: in order. What comes 2 s after it is late.
        assert_eq!(values(tried(&rule, &lines)), [2.0, 3.0, 4.0, 9.0]);
        let lines = [line(8, 4), line(12, 5), line(3, 3), line(13, 1)].join("\n");
        assert_eq!(values(tried(&rule, &lines)), [5.0]);
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
