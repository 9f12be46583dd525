//! Things that are gone are forgotten, and nothing that is owed is.
use super::*;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::Delivery;
use telltale_schemas::{Envelope, Observation, Record};

const DAY: i64 = 86_400;
const SPANS: Spans = Spans {
    lateness: 2_000_000,
    remember: 30 * DAY * 1_000_000,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros((1_768_003_200 + second) * 1_000_000).unwrap()
}

/// Stored when it was measured.
fn heard(thing: &str, second: i64, value: f64) -> Heard {
    let envelope: Envelope<Observation> = serde_json::from_value(json!({
        "specversion": "1.0", "id": format!("{thing}:{second}"), "type": "telltale.observation.v1",
        "source": "/site/annotate", "subject": thing, "time": at(second), "data": {"records": [], "annotation": {}}
    }))
    .unwrap();
    Heard {
        cause: Arc::new(Delivery::of(envelope).cause),
        stored: at(second),
        records: vec![Record {
            v: Some(value),
            ..Record::named("x")
        }],
        annotation: serde_json::Map::new(),
        rule: None,
    }
}

/// With a rule of each kind that remembers something of a thing.
fn state() -> State {
    let rules = [
        json!({"name": "high", "things": ["alarmed"], "when": "x > 9.0", "severity": "minor", "then": [{"event": "high"}]}),
        json!({"name": "stays", "things": ["patient"], "when": "x > 9.0", "for": "40d", "then": [{"event": "stays"}]}),
        json!({"name": "rises", "when": "x > previous[\"x\"]", "then": [{"event": "rises"}]}),
        json!({"name": "changed", "on_change": {"of": "x"}}),
        json!({"name": "odd", "anomaly": {"of": "x", "window": 10, "step": 1}}),
        json!({"name": "hourly", "window": {"of": "x", "every": "1h", "functions": ["sum"]}}),
    ];
    let mut state = State::default();
    let texts = rules.iter().map(|rule| {
        let name = rule["name"].as_str().unwrap().to_owned();
        (name, rule.to_string().into_bytes())
    });
    let (changes, refused) = state.rules.refresh(&texts.collect::<BTreeMap<_, _>>());
    assert_eq!(refused, []);
    for change in changes {
        state.derive.apply(&change.name, change.rule.as_ref()).unwrap();
    }
    state
}

fn pass(state: &mut State, now: Timestamp, out: &mut Vec<Follows>) {
    while state.due(now, SPANS).is_some() {
        state.turn(None, SPANS, out);
    }
}

fn hear(state: &mut State, heard: Heard, out: &mut Vec<Follows>) {
    pass(state, heard.stored, out);
    state.take(heard, SPANS, out);
}

fn ids(out: &mut Vec<Follows>) -> Vec<String> {
    out.drain(..).map(|made| made.draft.id.unwrap()).collect()
}

#[test]
fn a_thing_that_is_silent_for_long_enough_is_as_one_that_was_never_heard_of() {
    let (mut state, mut out) = (state(), Vec::new());
    // As one that hears only of what stays.
    let fresh = {
        let mut state = self::state();
        hear(&mut state, heard("stays", 0, 1.0), &mut out);
        pass(&mut state, at(30 * DAY - 1), &mut out);
        rmp_serde::to_vec_named(&state).unwrap().len()
    };
    out.clear();
    for n in 0..100 {
        hear(&mut state, heard(&format!("gone-{n}"), 0, 1.0), &mut out);
    }
    hear(&mut state, heard("stays", 0, 1.0), &mut out);
    hear(&mut state, heard("stays", 20 * DAY, 2.0), &mut out);
    assert_eq!(state.things(), 101);
    pass(&mut state, at(30 * DAY - 1), &mut out);
    assert_eq!(state.things(), 101);
    hear(&mut state, heard("stays", 30 * DAY + 1, 3.0), &mut out);
    assert_eq!(state.things(), 1);
    let sums = ids(&mut out);
    assert!(
        sums.iter().any(|id| id.starts_with("hourly:gone-99:")),
        "{sums:?}"
    );
    pass(&mut state, at(50 * DAY), &mut out);
    let kept = rmp_serde::to_vec_named(&state).unwrap().len();
    assert!(
        kept < fresh + 200,
        "{kept} bytes for one thing, and {fresh} before"
    );
    // It comes back: nothing is known of what was before.
    out.clear();
    hear(&mut state, heard("gone-1", 51 * DAY, 1.0), &mut out);
    pass(&mut state, at(51 * DAY + 3), &mut out);
    let said = ids(&mut out);
    assert!(said.iter().any(|id| id.ends_with("process.changed")), "{said:?}");
    assert!(!said.iter().any(|id| id.ends_with("process.rises")), "{said:?}");
}

#[test]
fn what_is_owed_is_still_said() {
    let (mut state, mut out) = (state(), Vec::new());
    hear(&mut state, heard("alarmed", 0, 10.0), &mut out);
    hear(&mut state, heard("patient", 0, 10.0), &mut out);
    pass(&mut state, at(39 * DAY), &mut out);
    assert_eq!(state.things(), 2, "an alarm is raised, another may be");
    out.clear();
    pass(&mut state, at(41 * DAY), &mut out);
    assert!(ids(&mut out)[0].starts_with("stays:patient:"));
    pass(&mut state, at(200 * DAY), &mut out);
    hear(&mut state, heard("alarmed", 201 * DAY, 1.0), &mut out);
    pass(&mut state, at(202 * DAY), &mut out);
    let said = ids(&mut out);
    assert!(
        said.iter()
            .any(|id| id.starts_with("high:alarmed:") && id.ends_with(".cleared")),
        "{said:?}"
    );
    pass(&mut state, at(240 * DAY), &mut out);
    assert_eq!(
        state.things(),
        1,
        "what was raised is over; the other alarm is raised"
    );
}

#[test]
fn it_is_forgotten_at_the_same_place_of_the_stream_however_often_the_clock_is_looked_at() {
    let run = |looks: i64| {
        let (mut state, mut out) = (state(), Vec::new());
        for (second, thing) in [
            (0, "a"),
            (DAY, "b"),
            (31 * DAY, "a"),
            (31 * DAY, "b"),
            (70 * DAY, "a"),
        ] {
            for look in 1..=looks {
                pass(
                    &mut state,
                    at(second - 40 * DAY + look * 40 * DAY / looks),
                    &mut out,
                );
            }
            hear(&mut state, heard(thing, second, 5.0), &mut out);
        }
        pass(&mut state, at(71 * DAY), &mut out);
        (ids(&mut out), rmp_serde::to_vec_named(&state).unwrap())
    };
    assert_eq!(run(1), run(80));
}
