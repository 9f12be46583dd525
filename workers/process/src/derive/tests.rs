//! All operators together.
#![expect(clippy::float_cmp, reason = "these numbers come out exactly")]
use super::*;
use crate::derive::testing::{at, flagged, heard, told};
use serde_json::{Value, json};
use telltale_schemas::Flag;

fn rule(document: Value) -> Rule {
    serde_json::from_value(document).unwrap()
}

fn derive(documents: &[Value]) -> Derive {
    let mut derive = Derive::default();
    for document in documents {
        let rule = rule(document.clone());
        derive.apply(&rule.name.clone(), Some(&rule)).unwrap();
    }
    derive
}

fn dew_point() -> Value {
    json!({"name": "dew", "virtual": {"thing": "bridge-7", "name": "dew_point", "unit": "Cel",
        "inputs": {"t": "road-1/air_temperature", "h": "air-1/air_humidity"}, "max_age": "5m",
        "value": "dew_point(t, h)"}})
}

#[test]
fn a_virtual_sensor_follows_every_input_and_waits_for_all() {
    let (mut derive, mut out) = (derive(&[dew_point()]), Vec::new());
    derive.hear(&heard("road-1", 0.0, &[("air_temperature", 20.0)]), &mut out);
    assert!(out.is_empty(), "humidity is not known");
    let humid = flagged(heard("air-1", 10.0, &[("air_humidity", 100.0)]), Flag::Suspect);
    derive.hear(&humid, &mut out);
    derive.hear(&heard("road-1", 5.0, &[("air_temperature", 10.0)]), &mut out);
    derive.hear(&heard("road-1", 400.0, &[("air_temperature", 5.0)]), &mut out);
    let told = told(&out);
    assert_eq!(told.len(), 2, "humidity was too old for the last one: {told:?}");
    assert_eq!(
        (told[0].id.as_str(), told[0].thing.as_str(), told[0].at),
        ("air-1:10.process.dew", "bridge-7", 10.0)
    );
    assert!((told[0].value - 20.0).abs() < 1e-9);
    assert_eq!(
        (told[0].q, told[0].unit.as_deref()),
        (Some(Flag::Suspect), Some("Cel"))
    );
    assert_eq!(told[1].at, 10.0, "as new as its newest input");
    assert!((told[1].value - 10.0).abs() < 1e-9);
}

#[test]
fn a_virtual_sensor_may_be_written_in_cel() {
    let mut document = dew_point();
    document["virtual"]["value"] = json!("h > 80.0 && t < 3.0");
    let (mut derive, mut out) = (derive(&[document]), Vec::new());
    derive.hear(&heard("road-1", 0.0, &[("air_temperature", 2.0)]), &mut out);
    derive.hear(&heard("air-1", 0.0, &[("air_humidity", 90.0)]), &mut out);
    assert_eq!(told(&out)[0].value, 1.0);
    assert!(derive.take_tally().is_empty());
}

#[test]
fn what_cannot_be_computed_is_counted_by_rule() {
    let (mut derive, mut out) = (derive(&[dew_point()]), Vec::new());
    derive.hear(&heard("road-1", 0.0, &[("air_temperature", 2.0)]), &mut out);
    derive.hear(&heard("air-1", 0.0, &[("air_humidity", -3.0)]), &mut out);
    assert!(out.is_empty());
    assert_eq!(derive.take_tally().failed["dew"].0, 1);
    assert!(derive.take_tally().is_empty());
}

#[test]
fn a_rule_that_means_nothing_is_refused_with_its_place() {
    let mut unknown = dew_point();
    unknown["virtual"]["value"] = json!("t + humidity");
    let mut broken = dew_point();
    broken["virtual"]["value"] = json!("t +\n");
    let anomaly = json!({"name": "a", "anomaly": {"of": "x", "window": 10, "step": 11}});
    let window =
        json!({"name": "w", "window": {"of": "x", "every": "7d", "slide": "500ms", "functions": ["avg"]}});
    let mut things = dew_point();
    things["things"] = json!(["road-1"]);
    for (document, pointer) in [
        (unknown, "/virtual/value"),
        (broken, "/virtual/value"),
        (anomaly, "/anomaly/step"),
        (window, "/window/slide"),
        (things, "/things"),
    ] {
        let wrong = check(&rule(document)).unwrap_err();
        assert_eq!(wrong[0].pointer, pointer, "{wrong:?}");
    }
}

#[test]
fn a_rule_hears_neither_itself_nor_what_came_too_far() {
    let changed = json!({"name": "c", "on_change": {"of": "x"}});
    let (mut derive, mut out) = (derive(&[changed]), Vec::new());
    let mut own = heard("a", 0.0, &[("x", 1.0)]);
    own.rule = Some("c".into());
    derive.hear(&own, &mut out);
    let mut far = heard("a", 1.0, &[("x", 1.0)]);
    let cause = std::sync::Arc::make_mut(&mut far.cause);
    cause.hops = ["process;1;0;0"; HOPS_MAX].join(",");
    derive.hear(&far, &mut out);
    assert!(out.is_empty());
    assert_eq!(derive.take_tally().stopped["c"], 1);
}

#[test]
fn what_was_computed_takes_part_though_it_is_older_than_its_thing() {
    let changed = json!({"name": "c", "on_change": {"of": "x"}});
    let (mut derive, mut out) = (derive(&[changed]), Vec::new());
    derive.late(&heard("a", 0.0, &[("x", 1.0)]), &mut out);
    assert!(out.is_empty(), "measured, and late");
    for (time, value) in [(1.0, 1.0), (2.0, 2.0), (1.5, 3.0)] {
        let mut computed = heard("a", time, &[("x", value)]);
        computed.rule = Some("another".into());
        derive.late(&computed, &mut out);
    }
    let said: Vec<_> = told(&out).iter().map(|told| told.value).collect();
    assert_eq!(said, [1.0, 2.0]);
}

#[test]
fn a_rule_that_computes_the_same_goes_on_and_another_begins_anew() {
    let mut document = json!({"name": "w", "window": {"of": "x", "every": "60s", "functions": ["sum"]}});
    let (mut derive, mut out) = (derive(std::slice::from_ref(&document)), Vec::new());
    derive.hear(&heard("a", 0.0, &[("x", 1.0)]), &mut out);
    document["description"] = json!("the same");
    derive.apply("w", Some(&rule(document.clone()))).unwrap();
    assert_eq!(derive.waits("a"), Some(at(60.0)));
    document["window"]["every"] = json!("30s");
    derive.apply("w", Some(&rule(document))).unwrap();
    assert_eq!(derive.waits("a"), None);
    derive.apply("w", None).unwrap();
    assert!(derive.rules.is_empty());
}

#[test]
fn what_is_kept_goes_on_as_if_nothing_had_been() {
    let documents = [
        dew_point(),
        json!({"name": "w", "window": {"of": "x", "every": "60s", "slide": "7s", "functions": ["avg", "stddev", "last"]}}),
        json!({"name": "c", "things": ["road-*"], "on_change": {"of": "x", "deadband": 0.3, "at_most": "20s"}}),
        json!({"name": "a", "anomaly": {"of": "x", "window": 40, "step": 7}}),
        json!({"name": "again", "on_change": {"of": "x_changed", "deadband": 0.9}}),
    ];
    let run = |restarts: bool| {
        let (mut derive, mut said) = (derive(&documents), Vec::new());
        for n in 0..500_u32 {
            let value = f64::from(n.wrapping_mul(7_919) % 101) / 7.0;
            let thing = ["road-1", "air-1", "sea-1"][n as usize % 3];
            let time = f64::from(n) * 1.7;
            let values = [
                ("x", value),
                ("air_temperature", value),
                ("air_humidity", value + 1.0),
            ];
            let mut out = Vec::new();
            derive.hear(&heard(thing, time, &values), &mut out);
            derive.passed(thing, at(time), &mut out);
            if n % 11 == 0 {
                derive.late(&heard(thing, time - 5.0, &values), &mut out);
            }
            said.extend(told(&out));
            if restarts && n % 50 == 7 {
                let kept = rmp_serde::to_vec_named(&derive).unwrap();
                derive = rmp_serde::from_slice(&kept).unwrap();
                assert_eq!(rmp_serde::to_vec_named(&derive).unwrap(), kept, "the same bytes");
            }
        }
        said
    };
    let said = run(false);
    assert!(said.len() > 1_000, "{}", said.len());
    assert_eq!(said, run(true));
}
