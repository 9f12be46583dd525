//! What is written of an answer.
use super::*;
use crate::Draft;
use serde_json::Value;
use telltale_schemas::{Command, Derivation, Event, Observation, Reading};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn writer() -> Writer {
    Writer {
        stage: "over-limit",
        source: "/a8/over-limit".into(),
        events: &["over_limit"],
        commands: &[],
    }
}

fn cause() -> Cause {
    Cause {
        id: "t1:k1".into(),
        site: Name::new("a8").unwrap(),
        thing: Name::new("t1").unwrap(),
        time: Timestamp::parse("2026-01-15T07:41:09.25Z").unwrap(),
        recordedtime: Timestamp::parse("2026-01-15T07:41:10Z").ok(),
        relativetime: true,
        rawseq: "7-12".parse().ok(),
        protocol: Some("http".into()),
        publisher: Some("gateway".into()),
        correlationid: None,
        causationid: None,
        traceparent: Some(TRACE.into()),
        expirytime: None,
        source: "/a8/annotate".into(),
        hops: "validate;1;1;2".into(),
        sequence: None,
        attempt: 1,
        redo: false,
    }
}

fn single<O: Outbound>(n: usize, draft: Draft<O>) -> (Outgoing, Value) {
    match writer().write(&cause(), "h", n, draft).unwrap() {
        Written::Single(outgoing, _) => {
            let body = serde_json::from_slice(&outgoing.payload).unwrap();
            (outgoing, body)
        }
        Written::Reading(_) => panic!("a reading travels in a pack"),
    }
}

fn header_of<'a>(outgoing: &'a Outgoing, name: &str) -> Option<&'a str> {
    let found = outgoing.headers.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn what_follows_carries_its_cause_and_an_id_that_names_the_effect() {
    let (outgoing, body) = single(3, Draft::<Event>::new(Event::new("over_limit")));
    assert_eq!(outgoing.subject, "event.a8.t1.over_limit");
    assert_eq!(outgoing.stream, "EVENTS");
    for (member, value) in [
        ("id", "t1:k1.over-limit.3"),
        ("source", "/a8/over-limit"),
        ("subject", "t1"),
        ("type", "telltale.event.v1"),
        ("time", "2026-01-15T07:41:09.25Z"),
        ("recordedtime", "2026-01-15T07:41:10Z"),
        ("rawseq", "7-12"),
        ("protocol", "http"),
        ("publisher", "gateway"),
        ("causationid", "t1:k1"),
        ("correlationid", "t1:k1"),
        ("traceparent", TRACE),
    ] {
        assert_eq!(body[member], value, "{member}");
    }
    assert_eq!(
        header_of(&outgoing, header::MSG_ID),
        Some("t1:k1.over-limit.3@7-12")
    );
    assert_eq!(header_of(&outgoing, header::HOPS), Some("h"));
    let child = header_of(&outgoing, header::TRACEPARENT).unwrap();
    assert_eq!(id::trace_id(child), id::trace_id(TRACE));
    assert_ne!(child, TRACE, "a hop has a span of its own");
}

#[test]
fn a_reading_stays_itself_and_what_is_derived_does_not() {
    let (outgoing, body) = single(0, Draft::<Observation>::new(Observation::default()));
    assert_eq!(
        (&body["id"], &body["causationid"]),
        (&Value::from("t1:k1"), &Value::Null)
    );
    assert_eq!(outgoing.subject, "annotated.a8.t1");
    let (_, body) = single(
        0,
        Draft::<Derivation>::new(Derivation::default())
            .keyed("rule:t1:2026")
            .about("t/2"),
    );
    assert_eq!(
        (body["id"].as_str(), body["subject"].as_str()),
        (Some("rule:t1:2026"), Some("t/2"))
    );
}

#[test]
fn that_times_count_from_the_receipt_is_told_on_with_the_time_of_the_cause_alone() {
    let (_, body) = single(0, Draft::<Observation>::new(Observation::default()));
    assert_eq!(body["relativetime"], true);
    let own = Draft::<Derivation>::new(Derivation::default()).at(Timestamp::from_micros(0).unwrap());
    let (_, body) = single(0, own);
    assert_eq!(body["relativetime"], Value::Null);
}

#[test]
fn readings_are_left_to_be_packed() {
    let draft = Draft::<Reading>::new(Reading::default()).keyed("t1:own");
    match writer().write(&cause(), "h", 0, draft).unwrap() {
        Written::Reading(reading) => {
            let body: Value = serde_json::from_slice(&reading.body).unwrap();
            assert_eq!(
                (body["id"].as_str(), reading.site.plain()),
                (Some("t1:own"), "a8")
            );
        }
        Written::Single(..) => panic!("not alone"),
    }
}

#[test]
fn a_name_that_is_not_declared_is_refused() {
    let error = writer()
        .write(&cause(), "", 0, Draft::<Event>::new(Event::new("panic_now")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "event `panic_now` is not declared by `over-limit`"
    );
    let error = writer()
        .write(&cause(), "", 0, Draft::<Command>::new(Command::new("lamp", true)))
        .unwrap_err();
    assert!(error.to_string().contains("command `lamp`"));
}

#[test]
fn hops_are_appended() {
    let (start, end) = (
        Timestamp::from_micros(5).unwrap(),
        Timestamp::from_micros(9).unwrap(),
    );
    assert_eq!(hops("", &hop("validate", 2, start, end)), "validate;2;5;9");
    assert_eq!(hops("a;1;1;2", &hop("b", 1, start, end)), "a;1;1;2,b;1;5;9");
    assert_eq!(message_id("x", None), "x");
}
