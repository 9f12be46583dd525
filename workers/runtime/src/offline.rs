//! A worker without a broker: messages from standard input, what would follow to standard output.
//!
//! A line is an envelope; for a worker that reads `raw` it is `{"subject","headers","payload"}` or a device's
//! payload as it stands. One line comes out for each: `{"line","id","verdict","reason","faults","error",
//! "outputs":[{"subject","message"}]}`, where the verdict is `emitted`, `filtered`, `rejected`, `retry` or `outage`.
use crate::{
    BatchWorker, Cause, Delivery, Draft, Failure, Inbound, Made, OrderedWorker, Outbound, Resources, Verdict,
    Worker,
    args::{ProcessArgs, WorkerArgs},
    arrival::NO_THING,
    compose::{self, Writer, Written},
    delivery::Raw,
    health::Health,
    manifest::Needs,
    run::writer,
    verdict::Why,
    worker::{At, Offline},
};
use anyhow::Context as _;
use bytes::Bytes;
use prometheus::Registry;
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, Write as _};
use telltale_nats::{Lane, Name, Subject};
use telltale_schemas::{Kind, RawSeq, Timestamp, kinds::Fault, thing::Entry};

/// The silence after the last line: a day, in microseconds.
const SILENCE: i64 = 86_400_000_000;
/// The thing of a payload that names none.
const THING: &str = "thing";

/// What stands for the broker.
pub(crate) fn resources(
    name: &'static str,
    process: &ProcessArgs,
    args: &WorkerArgs,
) -> anyhow::Result<Resources> {
    crate::telemetry::init(&process.log, process.log_format)?;
    let entries = match &args.things {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read `{}`", path.display()))?;
            entries(&text).with_context(|| format!("parse `{}`", path.display()))?
        }
    };
    Ok(Resources {
        worker: name,
        at: At::Offline(Box::new(Offline {
            site: process.site.clone(),
            things: entries,
            health: Health::default(),
            registry: Registry::new(),
        })),
    })
}

/// One entry, an array of them, or one a line.
fn entries(text: &str) -> Result<Vec<Entry>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

pub(crate) async fn run<W: Worker>(worker: &W, needs: &Needs, at: &Resources) -> anyhow::Result<()> {
    let writer = writer(needs, at.site());
    for_each_line::<W::Input, W::Output>(&writer, at.site(), async |delivery| worker.handle(delivery).await)
        .await
}

pub(crate) async fn run_batch<W: BatchWorker>(
    worker: &W,
    needs: &Needs,
    at: &Resources,
) -> anyhow::Result<()> {
    let writer = writer(needs, at.site());
    for_each_line::<W::Input, W::Output>(&writer, at.site(), async |delivery| {
        let mut verdicts = worker.handle_batch(&[delivery]).await?;
        verdicts.pop().context("no verdict")?
    })
    .await
}

/// In the order of the lines, each stored when it says that it was received; a line more for what silence brings.
pub(crate) async fn run_ordered<W: OrderedWorker>(
    worker: &mut W,
    needs: &Needs,
    at: &Resources,
) -> anyhow::Result<()> {
    let writer = writer(needs, at.site());
    let mut clock = None;
    worker.refresh().await;
    for (line, number) in std::io::stdin().lock().split(b'\n').zip(1_u64..) {
        let line = line.context("read standard input")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (lane, raw, base) = message(W::Input::LANES, &line, at.site(), number);
        let mut said = Map::from_iter([("line".to_owned(), json!(number))]);
        match W::Input::decode(lane, raw, base.clone()) {
            Err(error) => {
                let (reason, fault) = error.refusal();
                rejected(&mut said, &base.id, reason, &[fault]);
            }
            Ok((data, cause)) => {
                let stored = cause.recordedtime.unwrap_or(cause.time);
                let stored = clock.map_or(stored, |clock: Timestamp| clock.max(stored));
                clock = Some(stored);
                said.insert("id".into(), json!(cause.id));
                let delivery = Delivery {
                    data,
                    cause: cause.clone(),
                };
                match worker.handle(delivery, stored).await {
                    Ok(made) => tell_made(&mut said, &writer, made),
                    Err(failure) => tell::<W::Output>(&mut said, &writer, &cause, Err(failure)),
                }
            }
        }
        writeln!(std::io::stdout().lock(), "{}", Value::Object(said)).context("write standard output")?;
    }
    let mut said = Map::from_iter([("line".to_owned(), Value::Null)]);
    let end = clock.unwrap_or_else(Timestamp::now).plus_micros(SILENCE);
    match worker.passed(end).await {
        Ok(made) => tell_made(&mut said, &writer, made),
        Err(failure) => failed(&mut said, "outage", &anyhow::anyhow!("{failure:?}")),
    }
    writeln!(std::io::stdout().lock(), "{}", Value::Object(said)).context("write standard output")
}

fn tell_made<O: Outbound>(said: &mut Map<String, Value>, writer: &Writer, made: Vec<Made<O>>) {
    let outputs: Result<Vec<_>, _> = made
        .into_iter()
        .enumerate()
        .map(|(n, made)| output(writer, &made.cause, n, made.draft))
        .collect();
    tell_outputs(said, outputs);
}

fn tell_outputs(said: &mut Map<String, Value>, outputs: anyhow::Result<Vec<Value>>) {
    match outputs {
        Err(error) => failed(said, "retry", &error),
        Ok(outputs) => {
            let verdict = if outputs.is_empty() { "filtered" } else { "emitted" };
            said.insert("verdict".into(), json!(verdict));
            said.insert("outputs".into(), Value::Array(outputs));
        }
    }
}

async fn for_each_line<I: Inbound, O: Outbound>(
    writer: &Writer,
    site: &Name,
    handle: impl AsyncFn(Delivery<I>) -> Verdict<O>,
) -> anyhow::Result<()> {
    for (line, number) in std::io::stdin().lock().split(b'\n').zip(1_u64..) {
        let line = line.context("read standard input")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (lane, raw, base) = message(I::LANES, &line, site, number);
        let mut said = Map::from_iter([("line".to_owned(), json!(number))]);
        match I::decode(lane, raw, base.clone()) {
            Err(error) => {
                let (reason, fault) = error.refusal();
                rejected(&mut said, &base.id, reason, &[fault]);
            }
            Ok((data, cause)) => {
                let verdict = handle(Delivery {
                    data,
                    cause: cause.clone(),
                })
                .await;
                tell(&mut said, writer, &cause, verdict);
            }
        }
        writeln!(std::io::stdout().lock(), "{}", Value::Object(said)).context("write standard output")?;
    }
    Ok(())
}

/// What the broker would have delivered for that line.
fn message(lanes: &[Lane], line: &[u8], site: &Name, number: u64) -> (Lane, Raw, Cause) {
    let parsed: Value = serde_json::from_slice(line).unwrap_or_default();
    if lanes.contains(&Lane::Raw) {
        return raw_message(&parsed, line, site, number);
    }
    let kind = parsed["type"].as_str().and_then(Kind::of_event_type);
    let lane = kind
        .map(lane_of)
        .or(lanes.first().copied())
        .unwrap_or(Lane::Annotated);
    let thing =
        Name::new(parsed["subject"].as_str().unwrap_or(NO_THING)).unwrap_or_else(|_| nobody(NO_THING));
    let name = ["name", "change", "reason"]
        .into_iter()
        .find_map(|member| parsed["data"][member].as_str());
    let subject = match name.map(Name::new) {
        Some(Ok(name)) if lane.has_name() => {
            Subject::named(lane, site.clone(), thing.clone(), name).to_string()
        }
        // One that lacks its name lets the worker find out what is wrong with the message itself.
        _ => nameless(lane, site, thing.clone()),
    };
    let raw = Raw {
        payload: Bytes::copy_from_slice(line),
        headers: Vec::new(),
        subject,
        stored: Timestamp::now(),
    };
    let base = base(site, thing, format!("offline:{number}"), None, raw.stored);
    (lane, raw, base)
}

fn raw_message(parsed: &Value, line: &[u8], site: &Name, number: u64) -> (Lane, Raw, Cause) {
    let whole = parsed.as_object().filter(|parts| {
        parts.contains_key("payload") && parts["subject"].as_str().is_some_and(|s| s.starts_with("raw."))
    });
    let subject = whole
        .and_then(|parts| parts["subject"].as_str())
        .map_or_else(|| nameless(Lane::Raw, site, nobody(THING)), str::to_owned);
    let headers = whole
        .and_then(|parts| parts.get("headers")?.as_object())
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let payload = match whole.map(|parts| &parts["payload"]) {
        None => line.to_vec(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(value) => value.to_string().into_bytes(),
    };
    let thing = Subject::parse(&subject).map_or_else(|_| nobody(THING), |subject| subject.thing);
    let rawseq = RawSeq {
        epoch: 0,
        seq: number,
    };
    let stored = Timestamp::now();
    let base = base(
        site,
        thing.clone(),
        format!("{thing}:{rawseq}"),
        Some(rawseq),
        stored,
    );
    let raw = Raw {
        payload: Bytes::from(payload),
        headers,
        subject,
        stored,
    };
    (Lane::Raw, raw, base)
}

fn nobody(word: &str) -> Name {
    Name::new(word).expect("a plain word is a name")
}

fn nameless(lane: Lane, site: &Name, thing: Name) -> String {
    let subject = Subject {
        lane,
        site: site.clone(),
        thing,
        name: None,
    };
    subject.to_string()
}

fn base(site: &Name, thing: Name, id: String, rawseq: Option<RawSeq>, time: Timestamp) -> Cause {
    Cause {
        id,
        site: site.clone(),
        thing,
        time,
        recordedtime: None,
        relativetime: false,
        rawseq,
        protocol: None,
        publisher: None,
        correlationid: None,
        causationid: None,
        traceparent: None,
        expirytime: None,
        source: String::new(),
        hops: String::new(),
        sequence: None,
        attempt: 1,
        redo: false,
    }
}

const fn lane_of(kind: Kind) -> Lane {
    match kind {
        Kind::Reading => Lane::Valid,
        Kind::Observation => Lane::Annotated,
        Kind::Derivation => Lane::Derived,
        Kind::Event => Lane::Event,
        Kind::Command => Lane::Command,
        Kind::Outcome => Lane::Outcome,
        Kind::Registration => Lane::Thing,
        Kind::Quarantine => Lane::Quarantine,
    }
}

fn tell<O: Outbound>(said: &mut Map<String, Value>, writer: &Writer, cause: &Cause, verdict: Verdict<O>) {
    said.insert("id".into(), json!(cause.id));
    match verdict {
        Ok(emit) => {
            let outputs: Result<Vec<_>, _> = emit
                .into_drafts()
                .into_iter()
                .enumerate()
                .map(|(n, draft)| output(writer, cause, n, draft))
                .collect();
            tell_outputs(said, outputs);
        }
        Err(Failure(Why::Retry { error, .. })) => failed(said, "retry", &error),
        Err(Failure(Why::Outage { error })) => failed(said, "outage", &error),
        Err(Failure(Why::Reject {
            reason,
            faults,
            error,
            ..
        })) => {
            rejected(said, &cause.id, &reason, &faults);
            if let Some(error) = error {
                said.insert("error".into(), json!(format!("{error:#}")));
            }
        }
    }
}

fn failed(said: &mut Map<String, Value>, verdict: &str, error: &anyhow::Error) {
    said.insert("verdict".into(), json!(verdict));
    said.insert("error".into(), json!(format!("{error:#}")));
}

fn rejected(said: &mut Map<String, Value>, id: &str, reason: &str, faults: &[Fault]) {
    said.insert("id".into(), json!(id));
    said.insert("verdict".into(), json!("rejected"));
    said.insert("reason".into(), json!(reason));
    said.insert("faults".into(), json!(faults));
}

fn output<O: Outbound>(writer: &Writer, cause: &Cause, n: usize, draft: Draft<O>) -> anyhow::Result<Value> {
    let now = Timestamp::now();
    let hops = compose::hops(&cause.hops, &compose::hop(writer.stage, cause.attempt, now, now));
    let (subject, body) = match writer.write(cause, &hops, n, draft)? {
        Written::Single(outgoing, _) => (outgoing.subject, outgoing.payload.to_vec()),
        Written::Reading(reading) => (telltale_nats::subject::pack(&reading.site), reading.body),
    };
    let message: Value = serde_json::from_slice(&body).context("read back what was written")?;
    Ok(json!({"subject": subject, "message": message}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_as_one_as_an_array_or_one_a_line() {
        let one = r#"{"thing":"a"}"#;
        for (text, count) in [
            (one.to_owned(), 1),
            (format!("[{one},{one}]"), 2),
            (format!("{one}\n{one}\n{one}\n"), 3),
            (String::new(), 0),
        ] {
            assert_eq!(entries(&text).unwrap().len(), count, "{text}");
        }
        assert!(entries(r#"{"thing":1}"#).is_err());
    }

    #[test]
    fn a_raw_line_is_a_message_or_a_payload_as_it_stands() {
        let site = Name::new("here").unwrap();
        let (lane, raw, cause) = message(&[Lane::Raw], br#"{"temperature":21.5}"#, &site, 3);
        assert_eq!(
            (lane, raw.subject.as_str(), cause.id.as_str()),
            (Lane::Raw, "raw.here.thing", "thing:0-3")
        );
        assert_eq!(&raw.payload[..], br#"{"temperature":21.5}"#);
        let line = br#"{"subject":"raw.x.t1","headers":{"Content-Type":"text/plain"},"payload":"{"}"#;
        let (_, raw, cause) = message(&[Lane::Raw], line, &site, 4);
        assert_eq!(
            (&raw.payload[..], raw.header("content-type")),
            (&b"{"[..], Some("text/plain"))
        );
        assert_eq!(cause.thing.plain(), "t1");
        let (_, raw, _) = message(&[Lane::Raw], b"not json", &site, 5);
        assert_eq!(&raw.payload[..], b"not json");
    }
}
