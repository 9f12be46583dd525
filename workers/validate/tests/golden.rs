//! Raw messages in, readings and refusals out, line by line as they stand in the files beside this one.
#![expect(clippy::unwrap_used, reason = "what is wrong in a test ends it")]
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use telltale_nats::{Lane, Name, Subject};
use telltale_runtime::{Cause, Delivery, Failure, Worker, delivery::Raw, things::Policies, verdict::Emit};
use telltale_schemas::{Envelope, RawSeq, Reading, Timestamp};
use telltale_validate::Validate;

/// When the broker had each of them.
const STORED: &str = "2026-01-15T07:41:09.25Z";

fn delivery(seq: u64, line: &Value) -> Delivery<Raw> {
    let thing = line["thing"].as_str().unwrap();
    let stored = Timestamp::parse(STORED).unwrap();
    let rawseq = RawSeq { epoch: 7, seq };
    let mut envelope = Envelope::new(format!("{thing}:{rawseq}"), "", thing, stored, Reading::default());
    envelope.rawseq = Some(rawseq);
    let payload = match line["records"].as_u64() {
        Some(count) => {
            let records = (0..count).map(|n| json!({"n": "surface_temperature", "v": n, "t": -1}));
            records.collect::<Value>().to_string()
        }
        None => line["payload"].as_str().unwrap().to_owned(),
    };
    let headers = line["headers"].as_object().cloned().unwrap_or_default();
    let name = |plain: &str| Name::new(plain).unwrap();
    let text = |value: Value| value.as_str().unwrap().to_owned();
    Delivery {
        cause: Delivery::of(envelope).cause,
        data: Raw {
            payload: payload.into(),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, text(value)))
                .collect(),
            subject: Subject::of(Lane::Raw, name("site"), name(thing)).to_string(),
            stored,
        },
    }
}

/// As the runtime would publish it, or as it would stand in the quarantine.
fn written(cause: &Cause, verdict: Result<Emit<Reading>, Failure>) -> Value {
    let emit = match verdict {
        Ok(emit) => emit,
        Err(failure) => return json!({"reason": failure.reason(), "errors": failure.faults()}),
    };
    let mut drafts = emit.into_drafts();
    assert_eq!(drafts.len(), 1, "one reading for one message");
    let draft = drafts.remove(0);
    let intake = draft.intake.unwrap();
    let thing = cause.thing.plain();
    let mut envelope = Envelope::new(
        draft.id.unwrap(),
        "/site/validate",
        thing,
        draft.time.unwrap(),
        draft.message,
    );
    envelope.recordedtime = intake.recordedtime;
    envelope.relativetime = intake.relativetime;
    envelope.rawseq = intake.rawseq;
    envelope.protocol = intake.protocol;
    envelope.publisher = intake.publisher;
    let document = serde_json::to_value(&envelope).unwrap();
    let faults = telltale_schemas::check::envelope(telltale_schemas::Kind::Reading, &document);
    assert!(faults.is_empty(), "{faults:?} in {document}");
    document
}

#[tokio::test]
async fn raw_messages_become_the_readings_and_refusals_that_are_written_down() {
    let things: Vec<_> = serde_json::from_str(include_str!("golden/things.json")).unwrap();
    let worker = Validate::new(Policies::fixed(&things), None);
    let mut found = String::new();
    for (seq, line) in (1..).zip(include_str!("golden/raw.ndjson").lines()) {
        let delivery = delivery(seq, &serde_json::from_str(line).unwrap());
        let cause = delivery.cause.clone();
        let document = written(&cause, worker.handle(delivery).await);
        writeln!(found, "{document}").unwrap();
    }
    let expected = include_str!("golden/out.ndjson");
    for (n, (found, expected)) in (1..).zip(found.lines().zip(expected.lines())) {
        let [found, expected]: [Map<String, Value>; 2] =
            [found, expected].map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(found, expected, "line {n}");
    }
    assert_eq!(
        found.lines().count(),
        expected.lines().count(),
        "all of it is:\n{found}"
    );
}
