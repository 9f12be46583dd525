//! What each kind looks like on the wire. Who changes one of these changes the version of its schema.
use serde_json::{Value, json};
use telltale_schemas::{
    Command, Derivation, Document, Envelope, Event, Flag, Observation, Outcome, Quarantine, Reading, Record,
    Registration, Timestamp, check, id,
    kinds::{Change, Fault, State},
    thing::{Entry, Policy, Property, ValueType},
};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn envelope<D: Document>(stage: &str, data: D) -> Envelope<D> {
    Envelope {
        recordedtime: Some(at("2026-01-15T07:41:09.311Z")),
        rawseq: Some("1768400000-184201".parse().unwrap()),
        protocol: Some("mqtt".into()),
        publisher: Some("road-weather-17".into()),
        ..Envelope::new(
            "road-weather-17:01JB3V9Q0H7T5W4M2N6K8R1C3D",
            format!("/a8-km42/{stage}"),
            "road-weather-17",
            at("2026-01-15T07:41:09.25Z"),
            data,
        )
    }
}

/// Compares with the committed file, and with the schema.
fn assert_wire<D: Document>(message: &Envelope<D>) {
    let document = serde_json::to_value(message).unwrap();
    assert_eq!(check::envelope(D::KIND, &document), []);
    let text = serde_json::to_string_pretty(message).unwrap();
    insta::assert_snapshot!(D::KIND.word(), text);
}

fn records() -> Vec<Record> {
    let mut missing = Record::named("visibility");
    missing.u = Some("m".into());
    missing.missing(Some("-200".into()));
    vec![
        Record {
            u: Some("Cel".into()),
            v: Some(-0.85),
            q: Some(Flag::Pass),
            t: Some(1_768_462_860.0),
            ..Record::named("surface_temperature")
        },
        Record {
            u: Some("%RH".into()),
            v: Some(193.4),
            q: Some(Flag::Fail),
            failed: vec!["gross_range".into()],
            ..Record::named("air_humidity")
        },
        missing,
        Record {
            vs: Some("wet".into()),
            ..Record::named("state")
        },
        Record {
            vb: Some(false),
            ..Record::named("alarm")
        },
        Record {
            vd: Some("3q2-7w".into()),
            s: Some(12.5),
            ut: Some(60.0),
            ..Record::named("raw")
        },
    ]
}

fn entry() -> Entry {
    let property = Property {
        kind: Some(ValueType::Number),
        unit: Some("Cel".into()),
        minimum: Some(-40.0),
        maximum: Some(80.0),
        missing: vec![json!(-200)],
        ..Property::default()
    };
    Entry {
        thing: "road-weather-17".into(),
        policy: Policy {
            late: Some("7d".into()),
            ahead: Some("5m".into()),
            properties: [("surface_temperature".to_owned(), property)].into(),
            ..Policy::default()
        },
        annotation: annotation(json!({ "foi": "urn:road:A8:km42" })),
        ..Entry::default()
    }
}

fn annotation(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

#[test]
fn a_reading_looks_like_this() {
    assert_wire(&envelope("validate", Reading { records: records() }));
}

#[test]
fn an_observation_looks_like_this() {
    let facts = json!({
        "foi": "urn:road:A8:km42",
        "location": { "type": "Point", "coordinates": [7.05235, 43.61622] },
        "tdrev": 3,
    });
    let data = Observation {
        records: records(),
        annotation: annotation(facts),
    };
    assert_wire(&envelope("annotate", data));
}

#[test]
fn a_derivation_looks_like_this() {
    let data = Derivation {
        records: records(),
        rule: Some("mean-10min".into()),
    };
    assert_wire(&envelope("process", data));
}

#[test]
fn an_event_looks_like_this() {
    let mut message = envelope("over-limit", Event::new("over_limit").with("temperature", 61.5));
    message.causationid = Some(message.id.clone());
    message.correlationid = Some(message.id.clone());
    message.traceparent = Some(id::traceparent(&message.id));
    message.id = id::effect(&message.id, "over-limit", 0);
    assert_wire(&message);
}

#[test]
fn a_command_looks_like_this() {
    let mut message = envelope("gateway", Command::new("lamp", json!({ "on": true })));
    message.expirytime = Some(at("2026-01-15T07:46:09Z"));
    assert_wire(&message);
}

#[test]
fn an_outcome_looks_like_this() {
    let data = Outcome {
        command: "cmd-1".into(),
        name: "lamp".into(),
        state: State::Failed,
        output: json!({ "code": 7 }),
        problem: Some("level 800 is more than 100".into()),
        request: Some(Command::new("lamp", json!({ "level": 800 }))),
    };
    assert_wire(&envelope("bridge", data));
}

#[test]
fn a_registration_looks_like_this() {
    let data = Registration {
        change: Change::Created,
        revision: 1,
        entry: Some(Box::new(entry())),
        ..Registration::default()
    };
    assert_wire(&envelope("cli", data));
}

#[test]
fn a_quarantine_looks_like_this() {
    let payload = br#"{"temperature":1e400}"#;
    let data = Quarantine {
        stage: "validate".into(),
        reason: "number".into(),
        errors: vec![Fault::at(
            "/temperature",
            "number 1e400 is larger than a double can be",
        )],
        attempts: 1,
        generation: 0,
        original: "raw.a8-km42.road-weather-17".into(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        payload: "eyJ0ZW1wZXJhdHVyZSI6MWU0MDB9".into(),
        sha256: id::digest(payload),
        received: Some(at("2026-01-15T07:41:09.311Z")),
    };
    assert_wire(&envelope("validate", data));
}
