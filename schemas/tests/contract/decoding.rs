//! From what devices send to records, and for which reason and where the rest is refused.
mod splitting;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};
use telltale_schemas::{
    Flag, Record, Timestamp,
    decode::{self, Decoded},
};

/// A reason, and the pointer of the first fault.
type Place = (&'static str, String);

const THING: &str = "road-weather-17";
const SENML: Option<&str> = Some("application/senml+json");
const EVENT: Option<&str> = Some("application/cloudevents+json; charset=utf-8");

fn received() -> Timestamp {
    Timestamp::parse("2026-01-15T07:41:09.311Z").unwrap()
}

fn decode(content_type: Option<&str>, payload: impl AsRef<[u8]>) -> Result<Decoded, Place> {
    decode::decode(content_type, payload.as_ref(), Some(THING), received())
        .map_err(|refusal| (refusal.reason, refusal.faults[0].pointer.clone()))
}

fn refused(content_type: Option<&str>, payload: impl AsRef<[u8]>) -> Place {
    let text = String::from_utf8_lossy(payload.as_ref()).into_owned();
    decode(content_type, payload).expect_err(&text)
}

fn at(reason: &'static str, pointer: &str) -> Place {
    (reason, pointer.to_owned())
}

fn number(n: &str, v: f64) -> Record {
    Record {
        v: Some(v),
        ..Record::named(n)
    }
}

#[test]
fn plain_json_becomes_one_record_for_each_value() {
    let text =
        r#"{"temperature":21.5,"wet":true,"state":"ok","road":{"surface":{"t":-1}},"visibility":null}"#;
    let decoded = decode(Some("application/json"), text).unwrap();
    let mut missing = Record::named("visibility");
    missing.missing(None);
    let wanted = [
        number("road.surface.t", -1.0),
        Record {
            vs: Some("ok".into()),
            ..Record::named("state")
        },
        number("temperature", 21.5),
        missing,
        Record {
            vb: Some(true),
            ..Record::named("wet")
        },
    ];
    assert_eq!(decoded.records, wanted);
    assert_eq!(decoded.records[3].q, Some(Flag::Missing));
    assert_eq!((decoded.key, decoded.time, decoded.subject), (None, None, None));
}

#[test]
fn the_member_time_is_the_time() {
    let time = |text: &str| decode(None, text).unwrap().time.map(|time| time.to_string());
    assert_eq!(
        time(r#"{"time":"2026-01-15T08:41:09+01:00","a":1}"#).as_deref(),
        Some("2026-01-15T07:41:09Z")
    );
    assert_eq!(
        time(r#"{"time":1768462869.25,"a":1}"#).as_deref(),
        Some("2026-01-15T07:41:09.25Z")
    );
    assert_eq!(time(r#"{"a":{"time":5}}"#), None);
    for text in [
        r#"{"time":"yesterday","a":1}"#,
        r#"{"time":null,"a":1}"#,
        r#"{"time":1e300,"a":1}"#,
    ] {
        assert_eq!(refused(None, text), at("time", "/time"), "{text}");
    }
}

#[test]
fn what_plain_json_cannot_mean_is_refused() {
    let json = Some("application/json");
    for (text, reason, pointer) in [
        (r#"{"a":[1,2]}"#, "shape", "/a"),
        (r#"{"a":{"b":[]}}"#, "shape", "/a/b"),
        (r#"[{"n":"a","v":1}]"#, "shape", ""),
        ("21.5", "shape", ""),
        ("null", "shape", ""),
        ("{}", "records", ""),
        (r#"{"time":1768462869}"#, "records", ""),
        (r#"{"a":{}}"#, "records", ""),
        (r#"{"Brücke":1}"#, "name", "/Brücke"),
        (r#"{"a b":1}"#, "name", "/a b"),
        (r#"{"":1}"#, "name", "/"),
        (r#"{"a":{"":1}}"#, "name", "/a/"),
        (r#"{"a.b":1,"a":{"b":2}}"#, "duplicate_key", "/a.b"),
        (r#"{"a":1,"a":2}"#, "duplicate_key", "/a"),
        (r#"{"a":1e400}"#, "number", "/a"),
        (r#"{"a":9007199254740993}"#, "number", "/a"),
        (r#"{"a":21.5"#, "json", ""),
    ] {
        assert_eq!(refused(json, text), at(reason, pointer), "{text}");
    }
    assert_eq!(refused(json, format!(r#"{{"{}":1}}"#, "n".repeat(129))).0, "name");
    let many: Vec<String> = (0..1_001).map(|i| format!(r#""a{i}":1"#)).collect();
    assert_eq!(refused(json, format!("{{{}}}", many.join(","))).0, "records");
    let most = format!("{{{}}}", many[..1_000].join(","));
    assert_eq!(decode(json, most).unwrap().records.len(), 1_000);
}

#[test]
fn without_a_content_type_the_first_byte_decides() {
    for content_type in [None, Some(""), Some("application/x-www-form-urlencoded")] {
        assert_eq!(
            decode(content_type, r#"{"a":1}"#).unwrap().records,
            [number("a", 1.0)]
        );
        assert_eq!(
            decode(content_type, r#" [{"n":"a","v":1}]"#).unwrap().records,
            [number("a", 1.0)]
        );
        let event = r#"{"specversion":"1.0","id":"k1","source":"/d","type":"t","data":{"a":1}}"#;
        assert_eq!(decode(content_type, event).unwrap().key.as_deref(), Some("k1"));
        let cbor = crate::cbor::encode(&json!([{ "n": "a", "v": 1 }]));
        assert_eq!(decode(content_type, cbor).unwrap().records, [number("a", 1.0)]);
        for payload in [
            &b""[..],
            b"  ",
            b"21.5",
            b"temperature=21",
            b"\xa1\x61a\x01",
            b" \x80",
            b"<xml/>",
            b"\x00",
        ] {
            assert_eq!(refused(content_type, payload), at("json", ""), "{payload:?}");
        }
    }
}

#[test]
fn a_content_type_decides_whatever_the_bytes() {
    assert!(decode(Some("Application/JSON; charset=utf-8"), r#"{"a":1}"#).is_ok());
    assert!(
        decode(
            Some("application/senml+json;charset=utf-8"),
            r#"[{"n":"a","v":1}]"#
        )
        .is_ok()
    );
    assert_eq!(refused(SENML, r#"{"a":1}"#), at("senml", ""));
    assert_eq!(refused(EVENT, r#"[{"n":"a","v":1}]"#), at("cloudevent", ""));
    assert_eq!(refused(Some("application/senml+cbor"), r#"{"a":1}"#).0, "cbor");
    // Not a CloudEvent, if the publisher says that it is none.
    let plain = decode(Some("application/json"), r#"{"specversion":"1.0","id":"x"}"#).unwrap();
    assert_eq!((plain.key, plain.records.len()), (None, 2));
    for content_type in [
        "text/plain",
        "application/xml",
        "application/cloudevents-batch+json",
        "json",
        "*/*",
    ] {
        assert_eq!(
            refused(Some(content_type), r#"{"a":1}"#),
            at("content_type", ""),
            "{content_type}"
        );
    }
}

#[test]
fn a_senml_name_loses_its_thing() {
    let name = |name: &str| {
        let text = json!([{ "n": name, "v": 1 }]).to_string();
        decode(SENML, text).map(|decoded| decoded.records[0].n.clone())
    };
    for (full, property) in [
        ("road-weather-17/temperature", "temperature"),
        ("road-weather-17:temperature", "temperature"),
        ("road-weather-17.temperature", "temperature"),
        ("road-weather-17/a/b", "a/b"),
        ("road-weather-17", "value"),
        ("road-weather-17/", "value"),
        ("road-weather-170/temperature", "road-weather-170/temperature"),
        ("other/temperature", "other/temperature"),
        ("temperature", "temperature"),
    ] {
        assert_eq!(name(full).as_deref(), Ok(property), "{full}");
    }
    assert_eq!(name(&"n".repeat(128)), Ok("n".repeat(128)));
    assert_eq!(name(&"n".repeat(129)), Err(at("name", "/0/n")));
    let long = format!("road-weather-17/{}", "n".repeat(128));
    assert_eq!(name(&long), Ok("n".repeat(128)));
}

#[test]
fn senml_times_become_one_time_and_what_differs_from_it() {
    let text = r#"[{"bt":1768462860,"n":"a","v":2,"t":9},{"n":"b","v":1},{"n":"c","v":3,"t":9}]"#;
    let decoded = decode(SENML, text).unwrap();
    assert_eq!(
        decoded.time,
        Some(Timestamp::parse("2026-01-15T07:41:09Z").unwrap())
    );
    let times: Vec<_> = decoded
        .records
        .iter()
        .map(|record| (record.n.as_str(), record.t))
        .collect();
    assert_eq!(times, [("b", Some(1_768_462_860.0)), ("a", None), ("c", None)]);
}

#[test]
fn senml_without_time_counts_from_its_receipt() {
    let decoded = decode(SENML, r#"[{"n":"a","v":1}]"#).unwrap();
    assert_eq!((decoded.time, decoded.records[0].t), (Some(received()), None));
    let decoded = decode(SENML, r#"[{"n":"a","v":1,"t":-10}]"#).unwrap();
    assert_eq!(decoded.time, Some(received().plus_micros(-10_000_000)));
}

fn event(members: &Value) -> String {
    let mut event = json!({ "specversion": "1.0", "id": "k-1", "source": "/sensors/7", "type": "reading" });
    for (name, value) in members.as_object().unwrap() {
        event[name.as_str()] = value.clone();
    }
    event.to_string()
}

#[test]
fn a_cloud_event_gives_id_time_and_data() {
    let text = event(&json!({
        "subject": THING, "time": "2026-01-15T07:41:09Z", "datacontenttype": "application/json",
        "dataschema": "urn:x", "comexampleext": 5, "data": { "temperature": 21.5 },
    }));
    let wanted = Decoded {
        key: Some("k-1".into()),
        time: Some(Timestamp::parse("2026-01-15T07:41:09Z").unwrap()),
        is_relative: false,
        subject: Some(THING.into()),
        records: vec![number("temperature", 21.5)],
    };
    assert_eq!(decode(EVENT, &text), Ok(wanted.clone()));
    assert_eq!(decode(None, &text), Ok(wanted));
}

#[test]
fn the_data_of_a_cloud_event_is_decoded_alike() {
    let pack = json!([{ "n": "road-weather-17/a", "v": 1, "t": -9 }]);
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let time = "2026-01-15T07:41:09Z";
    let nine_before = Timestamp::parse("2026-01-15T07:41:00Z").unwrap();
    for members in [
        json!({ "time": time, "data": pack }),
        json!({ "time": time, "datacontenttype": "application/senml+json", "data": pack }),
        json!({ "time": time, "data_base64": base64(pack.to_string().as_bytes()) }),
        json!({ "time": time, "data_base64": base64(&crate::cbor::encode(&pack)) }),
        json!({ "time": time, "datacontenttype": "application/senml+cbor",
                "data_base64": base64(&crate::cbor::encode(&pack)) }),
    ] {
        let decoded = decode(EVENT, event(&members)).unwrap();
        assert_eq!(
            (decoded.time, decoded.records),
            (Some(nine_before), vec![number("a", 1.0)]),
            "{members}"
        );
    }
    // The data's own time is nearer to the measurement than the event's.
    let members = json!({ "time": time, "data": { "time": 1_768_462_860, "a": 1 } });
    assert_eq!(decode(EVENT, event(&members)).unwrap().time, Some(nine_before));
    assert_eq!(
        decode(EVENT, event(&json!({ "data": { "a": 1 } }))).unwrap().time,
        None
    );
}

#[test]
fn what_is_wrong_with_a_cloud_event_is_said_in_its_place() {
    let data = json!({ "a": 1 });
    for (members, reason, pointer) in [
        (
            json!({ "data": data, "subject": "another" }),
            "subject",
            "/subject",
        ),
        (
            json!({ "data": data, "specversion": "0.3" }),
            "cloudevent",
            "/specversion",
        ),
        (json!({ "data": data, "id": null }), "cloudevent", ""),
        (json!({ "data": data, "id": "" }), "cloudevent", "/id"),
        (json!({ "data": data, "id": 7 }), "cloudevent", "/id"),
        (json!({ "data": data, "id": "k".repeat(129) }), "id", "/id"),
        (json!({ "data": data, "id": "two words" }), "id", "/id"),
        (json!({ "data": data, "id": "clé" }), "id", "/id"),
        (json!({ "data": data, "source": null }), "cloudevent", ""),
        (json!({ "data": data, "type": null }), "cloudevent", ""),
        (json!({ "data": data, "Upper": 1 }), "cloudevent", "/Upper"),
        (
            json!({ "data": data, "with-dash": 1 }),
            "cloudevent",
            "/with-dash",
        ),
        (json!({ "data": data, "time": "yesterday" }), "time", "/time"),
        (
            json!({ "data": data, "datacontenttype": "text/xml" }),
            "content_type",
            "/datacontenttype",
        ),
        (
            json!({ "data": data, "data_base64": "" }),
            "cloudevent",
            "/data_base64",
        ),
        (json!({ "data_base64": "###" }), "cloudevent", "/data_base64"),
        (
            json!({ "data_base64": STANDARD.encode(r#"{"a":[]}"#) }),
            "shape",
            "/data_base64/a",
        ),
        (json!({}), "cloudevent", ""),
        (json!({ "data": null }), "cloudevent", ""),
        (json!({ "data": "text" }), "shape", "/data"),
        (json!({ "data": { "a": [] } }), "shape", "/data/a"),
        (json!({ "data": [{ "n": "a" }] }), "senml", "/data/0"),
        (
            json!({ "data": { "specversion": "1.0", "a": 1 } }),
            "cloudevent",
            "/data",
        ),
        (
            json!({ "data": [], "datacontenttype": "application/json" }),
            "shape",
            "/data",
        ),
        (
            json!({ "data": [], "datacontenttype": "application/senml+cbor" }),
            "cloudevent",
            "/data",
        ),
    ] {
        assert_eq!(refused(EVENT, event(&members)), at(reason, pointer), "{members}");
    }
}

#[test]
fn records_that_grow_too_large_once_resolved_are_refused() {
    let unit = "u".repeat(64);
    let name = "n".repeat(128);
    let text = "x".repeat(200);
    let entries: Vec<Value> = (0..1_000).map(|_| json!({ "vs": text })).collect();
    let mut pack = vec![json!({ "bn": name, "bu": unit })];
    pack.extend(entries);
    assert_eq!(
        decode(SENML, Value::from(pack.clone()).to_string()).map(|d| d.records.len()),
        Ok(1_000)
    );
    for entry in &mut pack[1..] {
        entry["vs"] = Value::from("x".repeat(240));
    }
    assert_eq!(refused(SENML, Value::from(pack).to_string()), at("size", ""));
}

#[test]
fn where_a_record_stood_can_be_asked_afterwards() {
    let event = event(&json!({ "data": { "a": { "b": 1 }, "c": 2 } }));
    for (payload, index, pointer) in [
        (r#"{"a":{"b":1},"c":2}"#, 0, Some("/a/b")),
        (r#"{"a":{"b":1},"c":2}"#, 2, None),
        (
            r#"[{"bn":"x"},{"n":"a","v":1,"t":5},{"n":"b","v":1}]"#,
            0,
            Some("/2"),
        ),
        (
            r#"[{"bn":"x"},{"n":"a","v":1,"t":5},{"n":"b","v":1}]"#,
            1,
            Some("/1"),
        ),
        (&event, 1, Some("/data/c")),
        ("nonsense", 0, None),
    ] {
        let got = decode::pointer(None, payload.as_bytes(), received(), index);
        assert_eq!(got.as_deref(), pointer, "{payload} {index}");
    }
}

#[test]
fn a_payload_says_whether_its_times_count_from_the_receipt() {
    let relative = r#"[{"n":"a","v":1,"t":-5}]"#;
    let mixed = r#"[{"n":"a","v":1,"bt":1768462860},{"n":"b","v":1,"bt":-5}]"#;
    let absolute = r#"[{"n":"a","v":1,"bt":1768462860},{"n":"b","v":1,"t":-5}]"#;
    let cloud_event = |time: Option<&str>| {
        let pack: Value = serde_json::from_str(relative).unwrap();
        event(&json!({ "datacontenttype": "application/senml+json", "data": pack, "time": time }))
    };
    for (content_type, payload, is_relative) in [
        (SENML, relative.to_owned(), true),
        (SENML, mixed.to_owned(), true),
        (SENML, absolute.to_owned(), false),
        (EVENT, cloud_event(None), true),
        (EVENT, cloud_event(Some("2026-01-15T07:41:00Z")), false),
        (None, r#"{"a":1,"time":1768462860}"#.to_owned(), false),
    ] {
        let decoded = decode::decode(content_type, payload.as_bytes(), None, received()).unwrap();
        assert_eq!(decoded.is_relative, is_relative, "{payload}");
    }
}

proptest! {
    #[test]
    fn any_payload_is_decoded_or_refused(
        content_type in prop::option::of(prop_oneof![
            Just("application/json"), Just("application/senml+json"), Just("application/senml+cbor"),
            Just("application/cloudevents+json"), Just("")
        ]),
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            crate::strict::any_json().prop_map(|value| value.to_string().into_bytes()),
        ],
    ) {
        let whole = decode(content_type, &payload);
        if let Ok(decoded) = whole {
            prop_assert!((1..=1_000).contains(&decoded.records.len()));
            prop_assert!(decoded.records.iter().all(|record| decode::is_property(&record.n)));
        }
        let _either = splitting::split(content_type, &String::from_utf8_lossy(&payload));
    }

    #[test]
    fn plain_json_keeps_every_value(members in prop::collection::btree_map("[a-z][a-z0-9_]{0,9}", -1e9..1e9, 1..20)) {
        let text = serde_json::to_string(&members).unwrap();
        prop_assume!(!members.contains_key("time"));
        let records = decode(None, text).unwrap().records;
        let back: std::collections::BTreeMap<_, _> =
            records.into_iter().map(|record| (record.n, record.v.unwrap())).collect();
        prop_assert_eq!(back, members);
    }
}
