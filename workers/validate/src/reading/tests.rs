//! Time window, order and limits of a reading.
use super::*;
use serde_json::json;

const RECEIVED: &str = "2026-01-15T12:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn origin(backfill: bool) -> Origin {
    let mut origin = Origin::received_at(at(RECEIVED));
    origin.backfill = backfill;
    origin
}

fn policy(json: serde_json::Value) -> Policy {
    serde_json::from_value(json).unwrap()
}

fn record(n: &str, t: Option<&str>) -> Record {
    Record {
        v: Some(1.0),
        t: t.map(|t| at(t).as_seconds()),
        ..Record::named(n)
    }
}

fn timed(times: &[Option<&str>]) -> Decoded {
    Decoded {
        records: times.iter().map(|t| record("p", *t)).collect(),
        ..Decoded::default()
    }
}

fn refused(decoded: Decoded, policy: &Policy, backfill: bool) -> Refused {
    make(decoded, policy, &origin(backfill)).unwrap_err()
}

#[test]
fn a_time_is_measured_against_the_receipt() {
    for (time, late, ahead, is_taken) in [
        ("2026-01-15T12:05:00Z", None, None, true),
        ("2026-01-15T12:05:00.000001Z", None, None, false),
        ("2026-01-08T12:00:00Z", None, None, true),
        ("2026-01-08T11:59:59.999999Z", None, None, false),
        ("2026-01-15T13:00:00Z", None, Some("1h"), true),
        ("2026-01-15T12:00:31Z", None, Some("30s"), false),
        ("2026-01-15T10:29:00Z", Some("90m"), None, false),
        ("2025-12-15T12:00:00Z", Some("40d"), None, true),
    ] {
        let policy = policy(json!({"late": late, "ahead": ahead}));
        let made = make(timed(&[Some(time)]), &policy, &origin(false));
        assert_eq!(
            made.map_err(|refused| refused.reason).map(|made| made.time),
            is_taken.then_some(at(time)).ok_or("time"),
            "{time}"
        );
    }
}

#[test]
fn who_may_backfill_may_be_late_but_not_ahead() {
    let policy = Policy::default();
    let made = make(timed(&[Some("2004-03-10T18:00:00Z")]), &policy, &origin(true)).unwrap();
    assert_eq!(made.time, at("2004-03-10T18:00:00Z"));
    assert_eq!(
        refused(timed(&[Some("2026-01-15T13:00:00Z")]), &policy, true).reason,
        "time"
    );
}

#[test]
fn a_refused_time_names_both() {
    let refused = refused(
        timed(&[None, Some("2026-01-15T13:00:00Z")]),
        &Policy::default(),
        false,
    );
    let faults = refused.faults(|index, part| format!("/{index}/{part:?}"));
    assert_eq!(
        faults,
        [Fault::at(
            "/1/Time",
            "measured at 2026-01-15T13:00:00Z but received at 2026-01-15T12:00:00Z: too far ahead, \
             the latest would be 2026-01-15T12:05:00Z",
        )]
    );
}

#[test]
fn a_time_outside_the_calendar_is_refused() {
    let decoded = Decoded {
        records: vec![Record {
            t: Some(1e300),
            ..record("p", None)
        }],
        ..Decoded::default()
    };
    assert_eq!(refused(decoded, &Policy::default(), true).reason, "time");
}

#[test]
fn without_a_time_the_receipt_counts() {
    let made = make(timed(&[None, None]), &Policy::default(), &origin(false)).unwrap();
    assert_eq!(made.time, at(RECEIVED));
    assert!(made.reading.records.iter().all(|record| record.t.is_none()));
}

#[test]
fn records_are_in_the_order_of_time_and_tell_it_where_it_differs() {
    let (early, late) = ("2026-01-15T11:58:00Z", "2026-01-15T11:59:00.5Z");
    let decoded = Decoded {
        time: Some(at("2026-01-15T11:59:00Z")),
        records: vec![
            record("a", Some(late)),
            record("b", None),
            record("c", Some(early)),
            record("d", Some(late)),
        ],
        ..Decoded::default()
    };
    let made = make(decoded, &Policy::default(), &origin(false)).unwrap();
    assert_eq!(made.time, at(late));
    let told: Vec<_> = made
        .reading
        .records
        .iter()
        .map(|record| (record.n.as_str(), record.t))
        .collect();
    let seconds = |text| Some(at(text).as_seconds());
    assert_eq!(
        told,
        [
            ("c", seconds(early)),
            ("b", seconds("2026-01-15T11:59:00Z")),
            ("a", None),
            ("d", None),
        ]
    );
}

#[test]
fn none_and_more_than_a_thousand_records_are_refused() {
    assert_eq!(refused(timed(&[]), &Policy::default(), false).reason, "records");
    assert_eq!(
        refused(timed(&[None; 1_001]), &Policy::default(), false).reason,
        "records"
    );
    let made = make(timed(&[None; 1_000]), &Policy::default(), &origin(false)).unwrap();
    assert_eq!(made.reading.records.len(), 1_000);
}

#[test]
fn what_becomes_too_large_once_resolved_is_refused() {
    let texts = |count: usize, text: &str| Decoded {
        records: vec![
            Record {
                vs: Some(text.to_owned()),
                ..Record::named("p")
            };
            count
        ],
        ..Decoded::default()
    };
    assert_eq!(
        refused(texts(90, &"\u{1}".repeat(1_000)), &Policy::default(), false).reason,
        "size"
    );
    let made = make(texts(500, &"x".repeat(1_000)), &Policy::default(), &origin(false));
    assert!(made.is_ok(), "what only might be too large is counted");
}

#[test]
fn all_places_of_the_first_reason_are_told_up_to_a_limit() {
    let policy = policy(json!({"properties": {"p": {"type": "string"}, "u": {"unit": "Cel"}}}));
    let mut decoded = timed(&[None; 100]);
    decoded.records.insert(
        1,
        Record {
            u: Some("%RH".into()),
            ..record("u", None)
        },
    );
    let refused = refused(decoded, &policy, false);
    assert_eq!(refused.reason, "type");
    let faults = refused.faults(|index, _| index.to_string());
    assert_eq!(faults.len(), FAULTS_MAX);
    assert_eq!(
        (faults[0].pointer.as_str(), faults[1].pointer.as_str()),
        ("0", "2")
    );
}
