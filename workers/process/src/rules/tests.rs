//! What follows from readings by rules.
use super::*;
use crate::heard::{Follows, Heard, Said};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::Delivery;
use telltale_schemas::{Envelope, Reading, Record, Timestamp};

const START: i64 = 1_700_000_000_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(START + second * 1_000_000).unwrap()
}

/// A reading of that thing, `second` seconds after the start, stored a second later.
fn reading(thing: &str, second: i64, values: &Value) -> Heard {
    let envelope: Envelope<Reading> = serde_json::from_value(json!({
        "specversion": "1.0", "type": "telltale.reading.v1", "source": "/here/validate", "subject": thing,
        "id": format!("{thing}:{second}"), "time": at(second).to_string(), "data": {"records": []}
    }))
    .unwrap();
    let values = values.as_object().unwrap().iter();
    let records = values.map(|(name, value)| Record {
        v: value.as_f64(),
        vs: value.as_str().map(str::to_owned),
        vb: value.as_bool(),
        ..Record::named(name)
    });
    Heard {
        cause: Arc::new(Delivery::of(envelope).cause),
        stored: at(second + 1),
        records: records.collect(),
        annotation: Map::new(),
        rule: None,
    }
}

fn engine(rules: &[Value]) -> Engine {
    let mut engine = Engine::default();
    put(&mut engine, rules);
    engine
}

fn put(engine: &mut Engine, rules: &[Value]) -> Vec<Change> {
    let documents: BTreeMap<String, Vec<u8>> = rules
        .iter()
        .map(|rule| {
            (
                rule["name"].as_str().unwrap().to_owned(),
                rule.to_string().into_bytes(),
            )
        })
        .collect();
    let (changes, refused) = engine.refresh(&documents);
    assert_eq!(refused, []);
    changes
}

fn hear(engine: &mut Engine, heard: &Heard) -> Vec<Follows> {
    let mut out = Vec::new();
    engine.at_once(heard, &mut out);
    engine.hear(heard, &mut out);
    out
}

fn ids(out: &[Follows]) -> Vec<String> {
    out.iter().map(|made| made.draft.id.clone().unwrap()).collect()
}

fn event(made: &Follows) -> (&str, Value) {
    match &made.draft.message {
        Said::Event(event) => (&event.name, Value::Object(event.detail.clone())),
        other => panic!("{other:?} is no event"),
    }
}

fn alarm() -> Value {
    json!({"name": "ice", "things": ["road-*"], "when": "t < 0.0 && h > 80.0", "for": "30s", "clear": "t > 1.0",
        "severity": "warning", "then": [{"event": "ice_risk", "detail": {"temperature": "t", "limit": 0}},
        {"command": "on", "thing": "lamp-3", "input": {"level": "80"}, "expires": "60s"}]})
}

#[test]
fn a_reading_that_matches_causes_all_that_the_rule_says() {
    let mut engine = engine(&[json!({"name": "hot", "when": "t > 30.0", "then": [
        {"event": "hot", "detail": {"t": "t", "doubled": ["t * 2.0", 5], "gone": "absent"}},
        {"command": "fan", "input": "int(t)", "expires": "60s"},
        {"derive": "excess", "value": "t - 30.0", "unit": "Cel"}]})]);
    assert!(hear(&mut engine, &reading("a", 0, &json!({"t": 30}))).is_empty());
    let out = hear(&mut engine, &reading("a", 1, &json!({"t": 31})));
    assert_eq!(
        ids(&out),
        ["a:1.process.hot", "a:1.process.hot.1", "a:1.process.hot.2"]
    );
    assert_eq!(event(&out[0]), ("hot", json!({"t": 31.0, "doubled": [62.0, 5]})));
    let (Said::Command(command), Said::Derivation(derived)) = (&out[1].draft.message, &out[2].draft.message)
    else {
        panic!("{out:?}");
    };
    assert_eq!((command.name.as_str(), &command.input), ("fan", &json!(31)));
    assert_eq!(out[1].draft.expirytime, Some(at(62)), "60 s after it was stored");
    assert_eq!(derived.rule.as_deref(), Some("hot"));
    let record = &derived.records[0];
    assert_eq!(
        (record.n.as_str(), record.v, record.u.as_deref()),
        ("excess", Some(1.0), Some("Cel"))
    );
    assert!(out.iter().all(|made| made.draft.time == Some(at(1))));
}

#[test]
fn a_command_begins_so_long_after_its_reading_was_stored_and_has_its_priority() {
    let later = json!({"command": "open", "start": "5s", "expires": "60s", "priority": 9});
    let mut at_once = engine(&[json!({"name": "air", "when": "t > 30.0", "then": [later]})]);
    let mut waiting = engine(&[json!({"name": "air", "when": "t > 30.0", "for": "10s", "then": [later]})]);
    let first = reading("a", 0, &json!({"t": 31}));
    let mut out = hear(&mut at_once, &first);
    hear(&mut waiting, &first);
    waiting.passed("a", at(10), &mut out);
    // Stored a second after it was measured; the alarm, as if it had been.
    for (made, start) in out.iter().zip([6, 16]) {
        let Said::Command(command) = &made.draft.message else {
            panic!("{made:?}");
        };
        assert_eq!((command.priority, command.start), (Some(9), Some(at(start))));
        assert_eq!(made.draft.expirytime, Some(at(start + 55)));
    }
    assert_eq!(out.len(), 2);
}

#[test]
fn an_alarm_is_raised_once_and_cleared_once() {
    let mut engine = engine(&[alarm()]);
    let mut said = Vec::new();
    for (second, t) in [
        (0, -1),
        (10, -1),
        (20, 1),
        (30, -1),
        (50, -2),
        (61, -3),
        (70, -4),
        (80, 0),
        (90, 1),
        (100, 2),
        (110, 2),
        (120, -1),
    ] {
        for made in hear(&mut engine, &reading("road-1", second, &json!({"t": t, "h": 90}))) {
            said.push((second, made));
        }
    }
    let key = format!("ice:road-1:{}", START + 30_000_000);
    let when: Vec<i64> = said.iter().map(|(second, _)| *second).collect();
    let made: Vec<Follows> = said.into_iter().map(|(_, made)| made).collect();
    assert_eq!(
        ids(&made),
        [
            format!("{key}.raised"),
            format!("{key}.raised.1"),
            format!("{key}.cleared")
        ]
    );
    assert_eq!(
        when,
        [61, 61, 100],
        "30 s after 30, told by the next reading; over above 1"
    );
    let since = at(30).to_string();
    assert_eq!(
        event(&made[0]),
        (
            "ice_risk",
            json!({"temperature": -2.0, "limit": 0, "alarm": "ice:road-1",
        "state": "raised", "severity": "warning", "since": since})
        )
    );
    assert_eq!(made[0].draft.time, Some(at(60)));
    assert_eq!(made[1].draft.thing.as_deref(), Some("lamp-3"));
    assert_eq!(
        made[1].draft.expirytime,
        Some(at(121)),
        "60 s after the moment at which it was raised was stored"
    );
    assert_eq!(event(&made[2]).1["state"], "cleared");
}

#[test]
fn an_alarm_is_raised_in_silence_and_the_same_one_as_with_a_reading() {
    let first = reading("road-1", 0, &json!({"t": -1, "h": 90}));
    let mut silent = engine(&[alarm()]);
    assert!(hear(&mut silent, &first).is_empty());
    assert_eq!(silent.waits("road-1"), Some(at(30)));
    let mut out = Vec::new();
    silent.passed("road-1", at(29), &mut out);
    silent.passed("road-2", at(99), &mut out);
    assert!(out.is_empty());
    silent.passed("road-1", at(30), &mut out);
    let mut spoken = engine(&[alarm()]);
    hear(&mut spoken, &first);
    let told = hear(&mut spoken, &reading("road-1", 40, &json!({"t": 5, "h": 90})));
    assert_eq!(ids(&told)[..2], ids(&out)[..]);
    assert_eq!(format!("{:?}", told[0].draft), format!("{:?}", out[0].draft));
    assert_eq!(silent.waits("road-1"), None);
}

#[test]
fn what_a_reading_lacks_changes_nothing() {
    let mut engine = engine(&[alarm()]);
    hear(&mut engine, &reading("road-1", 0, &json!({"t": -1, "h": 90})));
    assert!(hear(&mut engine, &reading("road-1", 10, &json!({"h": 90}))).is_empty());
    assert!(hear(&mut engine, &reading("road-1", 20, &json!({"other": 5}))).is_empty());
    assert_eq!(
        hear(&mut engine, &reading("road-1", 31, &json!({"x": 1}))).len(),
        2
    );
    assert_eq!(engine.take_tally(), Tally::default());
}

#[test]
fn windows_and_what_was_before_are_of_the_thing_alone() {
    let rule = json!({"name": "w", "when": "count('v', '10s') >= 1.0", "then": [{"event": "e", "detail": {
        "avg": "avg('v', '10s')", "min": "min('v', '10s')", "max": "max('v', '10s')", "sum": "sum('v', '10s')",
        "count": "count('v', '10s')", "first": "first('v', '10s')", "last": "last('v', '10s')",
        "stddev": "stddev('v', '10s')", "rate": "rate('v', '10s')", "before": "previous['v']", "age": "age('u')"}}]});
    let mut engine = engine(&[rule]);
    hear(&mut engine, &reading("a", 0, &json!({"v": 100, "u": 1})));
    hear(&mut engine, &reading("b", 5, &json!({"v": 7})));
    hear(&mut engine, &reading("a", 6, &json!({"v": 2})));
    hear(&mut engine, &reading("a", 8, &json!({"v": 4})));
    let out = hear(&mut engine, &reading("a", 10, &json!({"v": 6})));
    assert_eq!(
        event(&out[0]).1,
        json!({"avg": 4.0, "min": 2.0, "max": 6.0, "sum": 12.0, "count": 3.0, "first": 2.0,
        "last": 6.0, "stddev": (8.0_f64 / 3.0).sqrt(), "rate": 1.0, "before": 4.0, "age": 10.0})
    );
}

#[test]
fn records_that_failed_take_part_only_where_the_rule_says_so() {
    let then = json!([{"event": "e", "detail": {"n": "count('v', '1m')", "q": "q['v']"}}]);
    let good = json!({"name": "good", "when": "v > 1.0", "then": then});
    let all = json!({"name": "all", "use": "all", "when": "v > 1.0", "then": then});
    let mut engine = engine(&[good, all]);
    let mut failed = reading("a", 0, &json!({"v": 2}));
    failed.records[0].q = Some(telltale_schemas::Flag::Fail);
    let out = hear(&mut engine, &failed);
    assert_eq!(ids(&out), ["a:0.process.all"]);
    assert_eq!(event(&out[0]).1, json!({"n": 1.0, "q": 4}));
    let out = hear(&mut engine, &reading("a", 1, &json!({"v": 2})));
    assert_eq!(
        (event(&out[0]).1, event(&out[1]).1),
        (json!({"n": 2.0}), json!({"n": 1.0}))
    );
}

#[test]
fn a_reading_of_several_times_is_several_instants() {
    let mut engine = engine(&[
        json!({"name": "hot", "when": "t > 30.0", "then": [{"event": "hot", "detail": {"t": "t"}}]}),
    ]);
    let mut heard = reading("a", 10, &json!({"t": 40}));
    let older = Record {
        t: Some(at(5).as_seconds()),
        v: Some(50.0),
        ..Record::named("t")
    };
    heard.records.insert(0, older);
    let out = hear(&mut engine, &heard);
    assert_eq!(
        ids(&out),
        [
            format!("a:10.process.hot@{}", at(5).as_micros()),
            "a:10.process.hot".to_owned()
        ]
    );
    assert_eq!(event(&out[0]).1, json!({"t": 50.0}));
}

#[test]
fn an_alarm_with_a_key_is_one_over_several_things() {
    let mut engine = engine(&[
        json!({"name": "jam", "when": "v < 10.0", "key": "road", "severity": "major", "then": [{"event": "jam"}]}),
    ]);
    let out = hear(&mut engine, &reading("a", 0, &json!({"v": 5, "road": "A8"})));
    assert_eq!(ids(&out), [format!("jam:A8:{START}.raised")]);
    assert!(hear(&mut engine, &reading("b", 1, &json!({"v": 5, "road": "A8"}))).is_empty());
    assert_eq!(
        hear(&mut engine, &reading("b", 2, &json!({"v": 5, "road": "A7"}))).len(),
        1
    );
    let out = hear(&mut engine, &reading("b", 3, &json!({"v": 15, "road": "A8"})));
    assert_eq!(ids(&out), [format!("jam:A8:{START}.cleared")]);
}

#[test]
fn what_was_kept_goes_on_as_if_nothing_had_been() {
    let counting = json!({"name": "n", "when": "count('t', '1m') > 2.0", "then": [{"event": "n", "detail": {"n": "count('t', '1m')", "p": "previous['t']"}}]});
    let readings: Vec<Heard> = (0..40)
        .map(|n| {
            reading(
                "road-1",
                n * 7,
                &json!({"t": f64::from(i32::try_from(n).unwrap() % 9) - 4.0, "h": 85}),
            )
        })
        .collect();
    let mut whole = engine(&[alarm(), counting.clone()]);
    let mut broken = engine(&[alarm(), counting]);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for heard in &readings {
        whole.at_once(heard, &mut one);
        whole.hear(heard, &mut one);
        broken.at_once(heard, &mut other);
        broken.hear(heard, &mut other);
        let kept = serde_json::to_string(&broken).unwrap();
        broken = serde_json::from_str(&kept).unwrap();
        assert_eq!(serde_json::to_string(&broken).unwrap(), kept);
    }
    assert!(one.len() > 20, "{}", one.len());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[test]
fn what_came_round_eight_times_causes_nothing_more() {
    let mut engine = engine(&[
        json!({"name": "self", "when": "a > 0.0", "then": [{"derive": "a", "value": "a + 1.0"}]}),
        json!({"name": "alarm", "when": "a > 0.0", "severity": "info", "then": [{"event": "e"}]}),
    ]);
    let mut heard = reading("a", 0, &json!({"a": 1}));
    let hop = "process;1;1;2";
    let mut cause = (*heard.cause).clone();
    cause.hops = format!("validate;1;1;2,annotate;1;1;2,{}", [hop; 7].join(","));
    heard.cause = Arc::new(cause.clone());
    assert_eq!(hear(&mut engine, &heard).len(), 2);
    cause.hops = format!("{},{hop}", cause.hops);
    heard.cause = Arc::new(cause);
    assert!(hear(&mut engine, &heard).is_empty());
    assert_eq!(
        engine.take_tally().stopped,
        BTreeMap::from([("self".to_owned(), 1)])
    );
}

#[test]
fn a_late_reading_is_judged_by_rules_that_look_at_it_alone() {
    let plain = json!({"name": "plain", "when": "t < 0.0", "then": [{"event": "e"}]});
    let looking = json!({"name": "looking", "when": "min('t', '1m') < 0.0", "then": [{"event": "e"}]});
    let mut engine = engine(&[plain, looking, alarm()]);
    let mut out = Vec::new();
    engine.at_once(&reading("road-1", -60, &json!({"t": -1, "h": 90})), &mut out);
    assert_eq!(ids(&out), ["road-1:-60.process.plain"]);
    assert_eq!(engine.waits("road-1"), None);
}

#[test]
fn a_bad_document_is_refused_and_stops_no_other() {
    let mut engine = Engine::default();
    let documents = BTreeMap::from([
        ("a".to_owned(), b"{".to_vec()),
        (
            "b".to_owned(),
            json!({"name": "b", "when": "v >", "then": [{"event": "e"}]})
                .to_string()
                .into_bytes(),
        ),
        (
            "c".to_owned(),
            json!({"name": "d", "when": "v > 0.0", "then": [{"event": "e"}]})
                .to_string()
                .into_bytes(),
        ),
        (
            "e".to_owned(),
            json!({"name": "e", "when": "v > 0.0", "then": [{"event": "e"}]})
                .to_string()
                .into_bytes(),
        ),
        (
            "w".to_owned(),
            json!({"name": "w", "window": {"of": "v", "every": "1m", "functions": ["avg"]}})
                .to_string()
                .into_bytes(),
        ),
    ]);
    let (changes, refused) = engine.refresh(&documents);
    let names: Vec<&str> = refused.iter().map(|document| document.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(
        (refused[1].wrong[0].pointer.as_str(), refused[1].wrong[0].place),
        ("/when", Some((1, 4)))
    );
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["e", "w"], "of every kind");
    assert_eq!(hear(&mut engine, &reading("x", 0, &json!({"v": 1}))).len(), 1);
    assert_eq!(engine.refresh(&documents).0, []);
}

#[test]
fn a_rule_that_changes_or_goes_leaves_no_alarm_raised() {
    let mut engine = engine(&[alarm()]);
    let cold = |second| reading("road-1", second, &json!({"t": -1, "h": 90}));
    hear(&mut engine, &cold(0));
    assert_eq!(hear(&mut engine, &cold(40)).len(), 2);
    // Another threshold: what is raised stays so.
    let mut other = alarm();
    other["when"] = "t < -5.0".into();
    assert_eq!(put(&mut engine, &[other]).len(), 1);
    assert!(hear(&mut engine, &cold(50)).is_empty());
    let changes = put(&mut engine, &[]);
    assert_eq!(
        changes,
        [Change {
            name: "ice".to_owned(),
            rule: None
        }]
    );
    let out = hear(&mut engine, &cold(60));
    assert_eq!(ids(&out), [format!("ice:road-1:{START}.cleared")]);
    assert_eq!(event(&out[0]).1["why"], "the rule is gone");
    assert!(hear(&mut engine, &cold(70)).is_empty());
}

#[test]
fn an_error_is_counted_and_stops_no_other_rule() {
    let bad = json!({"name": "bad", "when": "v + 'x' > 1.0", "then": [{"event": "e"}]});
    let good = json!({"name": "good", "when": "v > 0.0", "then": [{"event": "e", "detail": {"x": "1 / 0"}}]});
    let mut engine = engine(&[bad, good]);
    assert_eq!(hear(&mut engine, &reading("a", 0, &json!({"v": 1}))).len(), 1);
    let failed = engine.take_tally().failed;
    let counts: Vec<(&str, u64)> = failed
        .iter()
        .map(|(rule, (count, _))| (rule.as_str(), *count))
        .collect();
    assert_eq!(counts, [("bad", 1), ("good", 1)]);
}
