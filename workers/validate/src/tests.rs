//! `handle`, from a raw delivery to its verdict.
use super::*;
use serde_json::{Value, json};
use telltale_nats::{
    header,
    seal::{self, Key},
};
use telltale_schemas::{Envelope, RawSeq, kinds::Fault};

const SUBJECT: &str = "raw.site.t";
const STORED: &str = "2026-01-15T12:00:00Z";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn key() -> Key {
    Key::parse(KEY).unwrap()
}

fn policies() -> Policies {
    let entry = json!({
        "thing": "t",
        "policy": {
            "properties": {
                "temperature": {"type": "number", "unit": "Cel", "minimum": -40, "maximum": 80, "missing": [-200]},
            },
        },
    });
    Policies::fixed(&[serde_json::from_value(entry).unwrap()])
}

fn worker() -> Validate {
    Validate::new(policies(), Some(key()))
}

fn delivery(thing: &str, headers: &[(&str, &str)], payload: impl Into<Vec<u8>>) -> Delivery<Raw> {
    let rawseq = RawSeq { epoch: 7, seq: 41 };
    let id = format!("{thing}:{rawseq}");
    let mut envelope = Envelope::new(id, "", thing, at(STORED), Reading::default());
    envelope.rawseq = Some(rawseq);
    Delivery {
        cause: Delivery::of(envelope).cause,
        data: Raw {
            payload: payload.into().into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            subject: SUBJECT.to_owned(),
            stored: at(STORED),
        },
    }
}

fn sealed(headers: &[(&str, &str)], payload: &str) -> Delivery<Raw> {
    let seal = seal::seal(&key(), SUBJECT, headers, payload.as_bytes());
    let headers = [headers, &[(header::SEAL, seal.as_str())]].concat();
    delivery("t", &headers, payload)
}

async fn draft(raw: Delivery<Raw>) -> Draft<Reading> {
    let emit = worker().handle(raw).await.unwrap();
    let mut drafts = emit.into_drafts();
    assert_eq!(drafts.len(), 1, "one reading for one message");
    drafts.remove(0)
}

async fn refused(raw: Delivery<Raw>) -> (String, Vec<Fault>) {
    let failure = worker().handle(raw).await.unwrap_err();
    (
        failure.reason().expect("it quarantines").to_owned(),
        failure.faults().to_vec(),
    )
}

async fn records(headers: &[(&str, &str)], payload: impl Into<Vec<u8>>) -> Value {
    serde_json::to_value(draft(delivery("t", headers, payload)).await.message.records).unwrap()
}

#[tokio::test]
async fn what_is_not_sealed_is_known_by_what_the_broker_says() {
    for headers in [
        &[] as &[(&str, &str)],
        &[
            (header::ID, "t:forged"),
            (header::PUBLISHER, "somebody"),
            (header::RECEIVED, "2020-01-01T00:00:00Z"),
            (header::BACKFILL, "1"),
            (header::SEAL, "00"),
        ],
    ] {
        let draft = draft(delivery("t", headers, r#"{"temperature": 21.5}"#)).await;
        assert_eq!(draft.id.as_deref(), Some("t:7-41"));
        assert_eq!(draft.time, Some(at(STORED)));
        assert_eq!(
            draft.intake,
            Some(Intake {
                recordedtime: Some(at(STORED)),
                relativetime: false,
                rawseq: Some(RawSeq { epoch: 7, seq: 41 }),
                protocol: Some("nats".into()),
                publisher: Some("nats".into()),
            })
        );
    }
}

#[tokio::test]
async fn what_the_bridge_sealed_is_believed() {
    let headers = [
        (header::ID, "t:01JB3V9Q0H7T5W4M2N6K8R1C3D"),
        (header::PUBLISHER, "gateway"),
        (header::RECEIVED, "2026-01-15T11:59:59.5Z"),
        (header::PROTOCOL, "mqtt"),
    ];
    let draft = draft(sealed(&headers, r#"{"temperature": 21.5}"#)).await;
    assert_eq!(draft.id.as_deref(), Some("t:01JB3V9Q0H7T5W4M2N6K8R1C3D"));
    assert_eq!(draft.time, Some(at("2026-01-15T11:59:59.5Z")));
    let intake = draft.intake.unwrap();
    assert_eq!(intake.recordedtime, Some(at("2026-01-15T11:59:59.5Z")));
    assert_eq!(
        (intake.protocol.as_deref(), intake.publisher.as_deref()),
        (Some("mqtt"), Some("gateway"))
    );
    assert_eq!(intake.rawseq, Some(RawSeq { epoch: 7, seq: 41 }));
}

#[tokio::test]
async fn what_is_refused_keeps_who_brought_it_and_when() {
    let headers = [
        (header::ID, "t:k1"),
        (header::PUBLISHER, "gateway"),
        (header::RECEIVED, "2026-01-15T11:59:59.5Z"),
        (header::PROTOCOL, "mqtt"),
    ];
    for payload in ["{", r#"{"temperature": 1, "time": "2020-01-01T00:00:00Z"}"#] {
        let failure = worker().handle(sealed(&headers, payload)).await.unwrap_err();
        let intake = failure.intake().unwrap();
        assert_eq!(intake.recordedtime, Some(at("2026-01-15T11:59:59.5Z")));
        assert_eq!(
            (intake.protocol.as_deref(), intake.publisher.as_deref()),
            (Some("mqtt"), Some("gateway"))
        );
        let failure = worker()
            .handle(delivery("t", &headers, payload))
            .await
            .unwrap_err();
        let intake = failure.intake().unwrap();
        assert_eq!(intake.publisher.as_deref(), Some("nats"), "no seal, no belief");
    }
}

#[tokio::test]
async fn a_seal_holds_for_its_subject_payload_and_key_alone() {
    let headers = [(header::ID, "t:k")];
    let with = |subject: &str, key: &Key, payload: &str| {
        let seal = seal::seal(key, subject, &headers, payload.as_bytes());
        delivery("t", &[(header::ID, "t:k"), (header::SEAL, &seal)], r#"{"a": 1}"#)
    };
    let other = Key::parse(&"ff".repeat(32)).unwrap();
    for (raw, id) in [
        (with(SUBJECT, &key(), r#"{"a": 1}"#), "t:k"),
        (with("raw.site.u", &key(), r#"{"a": 1}"#), "t:7-41"),
        (with(SUBJECT, &key(), r#"{"a": 2}"#), "t:7-41"),
        (with(SUBJECT, &other, r#"{"a": 1}"#), "t:7-41"),
    ] {
        assert_eq!(draft(raw).await.id.as_deref(), Some(id));
    }
    let without_key = Validate::new(policies(), None);
    let emit = without_key
        .handle(with(SUBJECT, &key(), r#"{"a": 1}"#))
        .await
        .unwrap();
    assert_eq!(emit.drafts()[0].id.as_deref(), Some("t:7-41"));
}

#[tokio::test]
async fn the_right_to_backfill_is_the_bridges_to_give() {
    let late = r#"{"time": "2004-03-10T18:00:00Z", "temperature": 13.6}"#;
    let headers = [
        (header::ID, "t:k"),
        (header::RECEIVED, STORED),
        (header::BACKFILL, "1"),
    ];
    assert_eq!(
        draft(sealed(&headers, late)).await.time,
        Some(at("2004-03-10T18:00:00Z"))
    );
    let (reason, faults) = refused(sealed(&headers[..2], late)).await;
    assert_eq!((reason.as_str(), faults[0].pointer.as_str()), ("time", "/time"));
    assert_eq!(refused(delivery("t", &headers, late)).await.0, "time");
}

#[tokio::test]
async fn an_id_of_another_thing_is_refused_even_sealed() {
    for id in ["u:k", "t", "t:", "tt:k", "t:a b"] {
        assert_eq!(
            refused(sealed(&[(header::ID, id)], r#"{"a": 1}"#)).await.0,
            "id",
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_cloud_event_names_itself_and_its_time() {
    let event = |id: &str, subject: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/x", "type": "x", "subject": subject,
            "time": "2026-01-15T11:30:00Z", "data": {"temperature": 21.5},
        })
        .to_string()
    };
    let direct = draft(delivery("t", &[], event("e-1", "t"))).await;
    assert_eq!(direct.id.as_deref(), Some("t:e-1"));
    assert_eq!(direct.time, Some(at("2026-01-15T11:30:00Z")));
    let bridged = [(header::ID, "t:k"), (header::RECEIVED, STORED)];
    assert_eq!(
        draft(sealed(&bridged, &event("e-1", "t"))).await.id.as_deref(),
        Some("t:k")
    );
    let (reason, faults) = refused(delivery("t", &[], event("e-1", "u"))).await;
    assert_eq!(
        (reason.as_str(), faults[0].pointer.as_str()),
        ("subject", "/subject")
    );
    for id in ["a b", "é", &"x".repeat(129)] {
        let (reason, faults) = refused(delivery("t", &[], event(id, "t"))).await;
        assert_eq!(
            (reason.as_str(), faults[0].pointer.as_str()),
            ("id", "/id"),
            "{id}"
        );
    }
}

#[tokio::test]
async fn equal_payloads_of_a_thing_that_numbers_them_are_one_reading() {
    let entry = json!({"thing": "t", "policy": {"sequenced": true}});
    let worker = Validate::new(
        Policies::fixed(&[serde_json::from_value(entry).unwrap()]),
        Some(key()),
    );
    let id = async |raw| worker.handle(raw).await.unwrap().drafts()[0].id.clone().unwrap();
    let payload = r#"{"time": "2026-01-15T11:59:00Z", "a": 1}"#;
    let first = id(delivery("t", &[], payload)).await;
    assert_eq!(
        first,
        format!("t:{}", telltale_schemas::id::digest(payload.as_bytes()))
    );
    assert_eq!(id(delivery("t", &[], payload)).await, first);
    assert_ne!(id(delivery("t", &[], r#"{"a": 1}"#)).await, first);
    assert_eq!(id(delivery("u", &[], payload)).await, "u:7-41");
    let told = id(sealed(&[(header::ID, "t:k")], payload)).await;
    assert_eq!(told, "t:k", "what the device was told stays");
}

#[tokio::test]
async fn values_are_judged_by_the_things_policy() {
    let expected = json!([
        {"n": "humidity", "v": 40.0, "q": 2},
        {"n": "temperature", "u": "Cel", "v": 95.0, "q": 4, "failed": ["gross_range"]},
    ]);
    assert_eq!(
        records(&[], r#"{"humidity": 40, "temperature": 95}"#).await,
        expected
    );
    let missing =
        json!([{"n": "temperature", "u": "Cel", "q": 9, "failed": ["missing"], "sentinel": "-200"}]);
    assert_eq!(records(&[], r#"{"temperature": -200}"#).await, missing);
    let null = json!([{"n": "temperature", "u": "Cel", "q": 9, "failed": ["missing"]}]);
    assert_eq!(records(&[], r#"{"temperature": null}"#).await, null);
    let passed = json!([{"n": "temperature", "u": "Cel", "v": 0.0, "q": 1}]);
    let fahrenheit = r#"[{"n": "t/temperature", "u": "degF", "v": 32}]"#;
    assert_eq!(records(&[], fahrenheit).await, passed);
}

#[tokio::test]
async fn senml_names_lose_their_thing() {
    for name in ["t/x", "t:x", "t.x", "x"] {
        let records = records(&[], json!([{"n": name, "v": 1}]).to_string()).await;
        assert_eq!(records, json!([{"n": "x", "v": 1.0, "q": 2}]), "{name}");
    }
    assert_eq!(records(&[], r#"[{"n": "t", "v": 1}]"#).await[0]["n"], "value");
}

#[tokio::test]
async fn the_bad_ways_are_told_apart_and_pointed_at() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
    let ahead = r#"{"time": "2026-01-15T13:00:00Z", "temperature": 1}"#;
    let many = (0..1_001).map(|n| json!({"n": "x", "t": n - 2_000, "v": n}));
    let many = many.collect::<Value>().to_string();
    for (payload, reason, pointer) in [
        (r#"{"temperature": 21."#, "json", "/temperature"),
        (
            r#"{"temperature": 1, "temperature": 2}"#,
            "duplicate_key",
            "/temperature",
        ),
        (&deep, "depth", &"/a".repeat(32)),
        (r#"{"temperature": 1e400}"#, "number", "/temperature"),
        (r#"{"temperature": "warm"}"#, "type", "/temperature"),
        (
            r#"[{"n": "x", "v": 1}, {"n": "temperature", "u": "furlong", "v": 1}]"#,
            "unit",
            "/1/u",
        ),
        (r#"{"tem perature": 1}"#, "name", "/tem perature"),
        (ahead, "time", "/time"),
        (
            r#"[{"bver": 11, "n": "temperature", "v": 1}]"#,
            "version",
            "/0/bver",
        ),
        (&many, "records", "/1000"),
    ] {
        let (found, faults) = refused(delivery("t", &[], payload)).await;
        let found = (found.as_str(), faults.first().map(|fault| fault.pointer.as_str()));
        assert_eq!(found, (reason, Some(pointer)), "{payload:.60}");
    }
}

#[tokio::test]
async fn faults_point_into_what_the_device_sent() {
    let event = |data: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"e","source":"/x","type":"x","time":"2026-01-15T13:00:00Z","data":{data}}}"#
        )
    };
    let times = r#"[{"bn": "t/", "bt": 1768482000, "n": "a", "v": 1}, {"n": "b", "v": 1, "t": -3600}]"#;
    for (payload, reason, pointers) in [
        (
            r#"[{"n": "temperature", "vs": "warm"}, {"n": "x", "v": 1}]"#.to_owned(),
            "type",
            vec!["/0/vs"],
        ),
        (
            r#"[{"bu": "furlong"}, {"n": "x", "v": 1}]"#.to_owned(),
            "unit",
            vec!["/1"],
        ),
        (
            event(r#"{"temperature": "warm"}"#),
            "type",
            vec!["/data/temperature"],
        ),
        (
            event(r#"[{"n": "temperature", "vb": true}]"#),
            "type",
            vec!["/data/0/vb"],
        ),
        (event(r#"{"x": 1}"#), "time", vec!["/time"]),
        (times.to_owned(), "time", vec!["/0"]),
        (
            r#"{"a/b": {"~c": 1}, "temperature": true}"#.to_owned(),
            "name",
            vec!["/a~1b/~0c"],
        ),
    ] {
        let (found, faults) = refused(delivery("t", &[], payload.as_str())).await;
        let found_at: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!((found.as_str(), found_at), (reason, pointers), "{payload}");
    }
}

#[tokio::test]
async fn a_payload_has_a_size() {
    let full = |bytes: usize| format!(r#"{{"x": "{}"}}"#, "y".repeat(bytes - 9));
    assert_eq!(full(PAYLOAD_MAX).len(), PAYLOAD_MAX);
    assert_eq!(records(&[], full(PAYLOAD_MAX)).await[0]["n"], "x");
    let (reason, faults) = refused(delivery("t", &[], full(PAYLOAD_MAX + 1))).await;
    assert_eq!(reason, "size");
    assert_eq!(faults, [Fault::at("", "262145 bytes are more than 262144")]);
}

#[tokio::test]
async fn the_same_message_gives_the_same_answer() {
    let raw = || delivery("t", &[], r#"[{"n": "b", "v": 1, "t": -5}, {"n": "a", "v": 2}]"#);
    let (first, second) = (draft(raw()).await, draft(raw()).await);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

#[test]
fn its_flags_are_in_order() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    <Line as clap::CommandFactory>::command().debug_assert();
    let line = <Line as clap::Parser>::try_parse_from(["validate", "--seal-key-file", "k"]).unwrap();
    assert_eq!(line.args.seal_key_file, Some("k".into()));
}
