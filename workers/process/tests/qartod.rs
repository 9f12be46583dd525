//! Quality by neighbours: the vectors of others, and what we promise beyond them.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use telltale_process::{Follows, Heard, Said, quality::Quality};
use telltale_runtime::Delivery;
use telltale_schemas::{
    Envelope, Observation, Record, Timestamp,
    quality::{AMENDMENTS_MAX, Amendment, GrossRange},
    thing::Policy,
};

const START: &str = "2026-01-15T00:00:00Z";

fn at(seconds: f64) -> Timestamp {
    let start = Timestamp::parse(START).unwrap();
    Timestamp::from_seconds(start.as_seconds() + seconds).unwrap()
}

fn policy(quality: &Value) -> Policy {
    serde_json::from_value(json!({"properties": {"p": {"quality": quality}}})).unwrap()
}

/// As `validate` leaves it.
fn record(value: Option<f64>) -> Record {
    let mut record = Record {
        v: value,
        q: Some(2.try_into().unwrap()),
        ..Record::named("p")
    };
    if value.is_none() {
        record.missing(None);
    }
    record
}

fn heard(id: &str, seconds: f64, records: Vec<Record>) -> Heard {
    let envelope = Envelope::new(id, "/site/annotate", "t", at(seconds), Observation::default());
    Heard {
        cause: Arc::new(Delivery::of(envelope).cause),
        stored: at(seconds),
        records,
        annotation: serde_json::Map::new(),
        rule: None,
    }
}

fn amendments(follows: &Follows) -> Vec<Amendment> {
    let Said::Event(event) = &follows.draft.message else {
        panic!("{follows:?} is no event")
    };
    assert_eq!(event.name, "quality");
    serde_json::from_value(event.detail["of"].clone()).unwrap()
}

/// Flags and failed tests of rows, as `store` has them: what the message said, amended by what followed.
#[derive(Debug, Default)]
struct Rows {
    quality: Quality,
    amended: BTreeMap<(Timestamp, String, u16), Amendment>,
    events: Vec<String>,
}

impl Rows {
    fn hear(&mut self, mut heard: Heard, policy: &Policy) -> Heard {
        for (ordinal, record) in heard.records.iter().enumerate() {
            let row = Amendment {
                id: heard.cause.id.clone(),
                time: heard.time_of(record),
                ordinal: u16::try_from(ordinal).unwrap(),
                n: record.n.clone(),
                q: record.q.unwrap(),
                failed: record.failed.clone(),
            };
            self.amended
                .entry((row.time, row.id.clone(), row.ordinal))
                .or_insert(row);
        }
        let mut out = Vec::new();
        self.quality.hear(&mut heard, Some(policy), &mut out);
        for follows in &out {
            self.events.push(follows.draft.id.clone().unwrap());
            for amendment in amendments(follows) {
                let key = (amendment.time, amendment.id.clone(), amendment.ordinal);
                let row = self.amended.get_mut(&key).expect("what is amended was heard");
                let before = row.clone();
                row.join(&amendment);
                assert_ne!(*row, before, "an amendment changes something");
            }
        }
        heard
    }

    fn flags(&self) -> Vec<u8> {
        self.amended.values().map(|row| row.q.into()).collect()
    }
}

/// One reading for each value; `null` is a missing one.
fn flags(quality: &Value, interval: f64, values: &[Option<f64>]) -> Vec<u8> {
    let (policy, mut rows) = (policy(quality), Rows::default());
    for (n, value) in values.iter().enumerate() {
        // What was kept comes back the same.
        let kept = serde_json::to_vec(&rows.quality).unwrap();
        rows.quality = serde_json::from_slice(&kept).unwrap();
        rows.hear(
            heard(&format!("t:{n:03}"), n as f64 * interval, vec![record(*value)]),
            &policy,
        );
    }
    rows.flags()
}

fn vectors() -> Option<Vec<Value>> {
    let folder = std::env::var_os("TELLTALE_DATA").map(PathBuf::from);
    let folder =
        folder.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")));
    let Ok(text) = std::fs::read(folder.join("qartod.json")) else {
        eprintln!(
            "SKIPPED: {} has no qartod.json (TELLTALE_DATA names the folder)",
            folder.display()
        );
        return None;
    };
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_vectors_of_ioos_come_out_flag_for_flag() {
    for vector in vectors().unwrap_or_default() {
        let parameters = &vector["parameters"];
        let values: Vec<Option<f64>> = serde_json::from_value(vector["values"].clone()).unwrap();
        let wanted: Vec<u8> = serde_json::from_value(vector["flags"].clone()).unwrap();
        let seconds = |name: &str| format!("{}s", parameters[name]);
        let quality = match vector["test"].as_str().unwrap() {
            "gross_range" => {
                let spans: GrossRange = serde_json::from_value(parameters.clone()).unwrap();
                let flags: Vec<u8> = values
                    .iter()
                    .map(|value| spans.judge(value.unwrap()).into())
                    .collect();
                assert_eq!(flags, wanted);
                continue;
            }
            "spike" => json!({"spike": {
                "method": parameters["method"],
                "suspect": parameters["suspect_threshold"],
                "fail": parameters["fail_threshold"],
            }}),
            "rate_of_change" => json!({"rate_of_change": {"threshold": parameters["threshold_per_second"]}}),
            "flat_line" => json!({"flat_line": {
                "tolerance": parameters["tolerance"],
                "suspect": seconds("suspect_seconds"),
                "fail": seconds("fail_seconds"),
            }}),
            other => panic!("{other} is a test that we do not have"),
        };
        let interval = parameters["interval_seconds"].as_f64().unwrap_or(60.0);
        assert_eq!(flags(&quality, interval, &values), wanted, "{vector}");
    }
}

#[test]
fn a_spike_is_told_of_the_reading_before_under_the_id_of_the_one_that_decides() {
    let policy = policy(&json!({"spike": {"suspect": 5, "fail": 50}}));
    let mut rows = Rows::default();
    for (n, value) in [1.0, 20.0, 2.0].into_iter().enumerate() {
        rows.hear(
            heard(&format!("t:{n}"), n as f64, vec![record(Some(value))]),
            &policy,
        );
    }
    assert_eq!(rows.events, ["t:2.process.quality"]);
    assert_eq!(rows.flags(), [2, 3, 2]);
    let middle = &rows.amended.values().nth(1).unwrap();
    assert_eq!(middle.failed, ["spike"]);
}

#[test]
fn a_differential_spike_goes_up_and_down_again() {
    let quality = json!({"spike": {"method": "differential", "suspect": 2, "fail": 5}});
    let values = [0.0, 10.0, 20.0, 17.0, 20.0, 8.0, 20.0].map(Some);
    // A slope is none however steep; of both steps the smaller counts.
    assert_eq!(flags(&quality, 1.0, &values), [2, 1, 3, 3, 3, 4, 2]);
}

#[test]
fn a_reading_of_many_records_is_its_own_neighbourhood() {
    let policy = policy(&json!({"spike": {"suspect": 5}, "rate_of_change": {"threshold": 4}}));
    let values = [1.0, 2.0, 30.0, 3.0, 4.0];
    let records = values.iter().enumerate().map(|(n, value)| Record {
        t: Some(at(n as f64).as_seconds()),
        ..record(Some(*value))
    });
    let mut rows = Rows::default();
    let heard = rows.hear(heard("t:0", 4.0, records.collect()), &policy);
    let told: Vec<u8> = heard
        .records
        .iter()
        .map(|record| record.q.unwrap().into())
        .collect();
    assert_eq!(told, [1, 3, 3, 3, 1], "rules see what was found");
    assert_eq!(rows.flags(), told);
    assert_eq!(heard.records[2].failed, ["rate_of_change", "spike"]);
    assert_eq!(rows.events, ["t:0.process.quality"]);
}

#[test]
fn more_amendments_than_an_event_holds_are_several_events() {
    let policy = policy(&json!({"rate_of_change": {"threshold": 4}}));
    let records = (0..450).map(|n| Record {
        t: Some(at(f64::from(n)).as_seconds()),
        ..record(Some(1.0))
    });
    let mut heard = heard("t:0", 449.0, records.collect());
    let mut out = Vec::new();
    Quality::default().hear(&mut heard, Some(&policy), &mut out);
    let ids: Vec<_> = out
        .iter()
        .map(|follows| follows.draft.id.clone().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "t:0.process.quality",
            "t:0.process.quality.1",
            "t:0.process.quality.2"
        ]
    );
    let counts: Vec<_> = out.iter().map(|follows| amendments(follows).len()).collect();
    assert_eq!(counts, [AMENDMENTS_MAX, AMENDMENTS_MAX, 50]);
}

#[test]
fn what_comes_again_or_late_changes_nothing() {
    let policy = policy(&json!({"rate_of_change": {"threshold": 1}, "gap": {"max": "30s"}}));
    let mut rows = Rows::default();
    let mut hear = |id: &str, seconds, value| {
        rows.hear(heard(id, seconds, vec![record(Some(value))]), &policy);
        rows.flags()
    };
    assert_eq!(hear("t:1", 100.0, 1.0), [1]);
    assert_eq!(hear("t:1", 100.0, 1.0), [1], "again");
    assert_eq!(hear("t:0", 50.0, 900.0), [2, 1], "late: nobody compares it");
    assert_eq!(hear("t:2", 110.0, 2.0), [2, 1, 1], "and it is nobody's neighbour");
    assert_eq!(hear("t:3", 141.0, 2.0), [2, 1, 1, 3], "a gap");
    assert_eq!(rows.amended.values().last().unwrap().failed, ["gap"]);
}

#[test]
fn thresholds_are_in_the_unit_of_the_property() {
    let policy: Policy = serde_json::from_value(json!({"properties": {"p": {
        "unit": "degF", "quality": {"rate_of_change": {"threshold": 1.0}},
    }}}))
    .unwrap();
    let mut rows = Rows::default();
    // In kelvin or degrees Celsius, as records are, that is 5/9 a second.
    for (n, value) in [0.0, 0.5, 1.1].into_iter().enumerate() {
        rows.hear(
            heard(&format!("t:{n}"), n as f64, vec![record(Some(value))]),
            &policy,
        );
    }
    assert_eq!(rows.flags(), [1, 1, 3]);
}

#[test]
fn a_thing_that_moves_faster_than_it_can_is_suspect_in_both_coordinates() {
    let policy: Policy = serde_json::from_value(json!({"properties": {"position": {
        "quality": {"location": {"max_speed": 50.0}},
    }}}))
    .unwrap();
    let mut rows = Rows::default();
    for (n, latitude) in [43.0, 43.0001, 44.0].into_iter().enumerate() {
        let coordinate = |name: &str, value| Record {
            n: format!("position.{name}"),
            ..record(Some(value))
        };
        let records = vec![coordinate("lat", latitude), coordinate("lon", 7.0)];
        rows.hear(heard(&format!("t:{n}"), n as f64, records), &policy);
    }
    assert_eq!(rows.flags(), [2, 2, 1, 1, 3, 3]);
}

#[test]
fn nothing_is_remembered_of_a_thing_that_asks_for_nothing() {
    let mut rows = Rows::default();
    let asking = policy(&json!({"spike": {"fail": 1}}));
    rows.hear(heard("t:0", 0.0, vec![record(Some(1.0))]), &asking);
    assert_ne!(rows.quality, Quality::default());
    rows.hear(heard("t:1", 1.0, vec![record(Some(1.0))]), &Policy::default());
    assert_eq!(rows.quality, Quality::default());
}
