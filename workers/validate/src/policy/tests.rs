//! One record and its policy, case by case.
use super::*;
use serde_json::json;

/// Where that is expected of property `p`.
fn policy(property: Value) -> Policy {
    let properties: Value = [("p".to_owned(), property)].into_iter().collect();
    serde_json::from_value(json!({ "properties": properties })).unwrap()
}

fn number(v: f64, u: Option<&str>) -> Record {
    Record {
        v: Some(v),
        u: u.map(str::to_owned),
        ..Record::named("p")
    }
}

fn text(vs: &str) -> Record {
    Record {
        vs: Some(vs.to_owned()),
        ..Record::named("p")
    }
}

fn judged(mut record: Record, property: Value) -> Value {
    judge(&mut record, &policy(property)).unwrap();
    serde_json::to_value(record).unwrap()
}

fn refused(mut record: Record, property: Value) -> (&'static str, Part, String) {
    let wrong = judge(&mut record, &policy(property)).unwrap_err();
    (wrong.reason, wrong.part, wrong.message)
}

#[test]
fn a_range_flags_and_does_not_refuse() {
    let range = json!({"type": "number", "minimum": -40, "maximum": 80});
    for (v, expected) in [
        (-40.0, json!({"n": "p", "v": -40.0, "q": 1})),
        (80.0, json!({"n": "p", "v": 80.0, "q": 1})),
        (
            80.1,
            json!({"n": "p", "v": 80.1, "q": 4, "failed": ["gross_range"]}),
        ),
        (
            -41.0,
            json!({"n": "p", "v": -41.0, "q": 4, "failed": ["gross_range"]}),
        ),
    ] {
        assert_eq!(judged(number(v, None), range.clone()), expected);
    }
    assert_eq!(judged(number(3.0, None), json!({"maximum": 2}))["q"], 4);
    assert_eq!(judged(number(1.0, None), json!({"minimum": 2}))["q"], 4);
    assert_eq!(
        judged(text("x"), json!({"minimum": 2}))["q"],
        2,
        "a text has no range"
    );
}

#[test]
fn what_nothing_is_configured_for_is_not_evaluated() {
    let mut record = number(1.0, None);
    judge(&mut record, &Policy::default()).unwrap();
    assert_eq!(record.q, Some(Flag::NotEvaluated));
    assert_eq!(judged(number(1.0, None), json!({}))["q"], 2);
    assert_eq!(
        judged(number(1.0, None), json!({"type": "number", "unit": "Cel"}))["q"],
        2
    );
    assert_eq!(judged(number(1.0, None), json!({"missing": [-200]}))["q"], 1);
}

#[test]
fn a_sentinel_becomes_a_missing_value_and_stays_readable() {
    let missing = |sentinel: &str| json!({"n": "p", "q": 9, "failed": ["missing"], "sentinel": sentinel});
    for (record, policy, sentinel) in [
        (number(-200.0, None), json!({"missing": [-200]}), "-200"),
        (
            number(-200.0, None),
            json!({"missing": [-200], "minimum": 0, "type": "integer"}),
            "-200",
        ),
        (number(127.5, None), json!({"missing": [-1, 127.5]}), "127.5"),
        (text("N/A"), json!({"type": "number", "missing": ["N/A"]}), "N/A"),
        (
            Record {
                vb: Some(false),
                ..Record::named("p")
            },
            json!({"missing": [false]}),
            "false",
        ),
    ] {
        assert_eq!(judged(record, policy), missing(sentinel));
    }
    let with_unit = judged(
        number(-328.0, Some("degF")),
        json!({"unit": "Cel", "missing": [-200]}),
    );
    let expected = json!({"n": "p", "u": "Cel", "q": 9, "failed": ["missing"], "sentinel": "-328"});
    assert_eq!(
        with_unit, expected,
        "compared in the policy's unit, told as it was sent"
    );
    assert_eq!(judged(text("-200"), json!({"missing": [-200]}))["vs"], "-200");
    assert_eq!(judged(number(0.0, None), json!({"missing": [-200]}))["v"], 0.0);
}

#[test]
fn what_came_without_a_value_stays_missing() {
    let mut record = Record::named("p");
    record.missing(None);
    let judged = judged(
        record.clone(),
        json!({"type": "number", "unit": "hPa", "minimum": 0}),
    );
    assert_eq!(
        judged,
        json!({"n": "p", "u": "Pa", "q": 9, "failed": ["missing"]})
    );
    judge(&mut record, &Policy::default()).unwrap();
    assert_eq!(record.q, Some(Flag::Missing));
}

#[test]
fn another_type_is_refused() {
    let bytes = Record {
        vd: Some("AA".into()),
        ..Record::named("p")
    };
    let flag = Record {
        vb: Some(true),
        ..Record::named("p")
    };
    for (record, kind, message) in [
        (
            text("hot"),
            "number",
            "`p` is a string; the policy of its thing wants a number",
        ),
        (
            number(1.5, None),
            "integer",
            "`p` is the number 1.5; the policy of its thing wants an integer",
        ),
        (
            number(1.0, None),
            "string",
            "`p` is the number 1; the policy of its thing wants a string",
        ),
        (
            number(1.0, None),
            "boolean",
            "`p` is the number 1; the policy of its thing wants a boolean",
        ),
        (
            flag,
            "integer",
            "`p` is the boolean true; the policy of its thing wants an integer",
        ),
        (
            bytes,
            "string",
            "`p` is bytes; the policy of its thing wants a string",
        ),
    ] {
        let expected = ("type", Part::Value, message.to_owned());
        assert_eq!(refused(record, json!({"type": kind})), expected);
    }
    let sum = Record {
        s: Some(3.0),
        ..Record::named("p")
    };
    assert_eq!(judged(sum, json!({"type": "number"}))["s"], 3.0);
    assert_eq!(judged(number(2.0, None), json!({"type": "integer"}))["v"], 2.0);
}

#[test]
fn the_policys_unit_is_what_the_device_sends() {
    let range = json!({"unit": "degF", "minimum": 32, "maximum": 212});
    let boiling = judged(number(212.0, None), range.clone());
    assert_eq!(boiling, json!({"n": "p", "u": "Cel", "v": 100.0, "q": 1}));
    assert_eq!(judged(number(212.5, None), range.clone())["q"], 4);
    assert_eq!(
        judged(number(50.0, Some("Cel")), range.clone())["q"],
        1,
        "the record's own unit wins"
    );
    assert_eq!(judged(number(101.0, Some("Cel")), range)["q"], 4);
    assert_eq!(
        judged(number(1013.0, None), json!({"unit": "hPa"}))["v"],
        101_300.0
    );
}

#[test]
fn aliases_of_a_unit_are_one_unit() {
    for alias in ["Cel", "°C", "degC", "Celsius"] {
        let record = judged(number(21.5, Some(alias)), json!({"unit": "Cel", "maximum": 80}));
        assert_eq!(
            record,
            json!({"n": "p", "u": "Cel", "v": 21.5, "q": 1}),
            "{alias}"
        );
    }
}

#[test]
fn a_unit_that_is_unknown_or_does_not_convert_is_refused() {
    let (reason, part, message) = refused(number(1.0, Some("furlong")), json!({}));
    assert_eq!((reason, part), ("unit", Part::Unit));
    assert_eq!(message, "unit `furlong` is not known for `p`");
    let (reason, _, message) = refused(number(1.0, Some("%RH")), json!({"unit": "Cel"}));
    assert_eq!(
        (reason, message.as_str()),
        ("unit", "unit `%RH` of `p` does not convert to `Cel`")
    );
    let (reason, _, message) = refused(number(1.0, Some("furlong")), json!({"unit": "Cel"}));
    assert_eq!(
        (reason, message.as_str()),
        ("unit", "unit `furlong` is not known for `p`")
    );
    let mut record = number(1.0, Some("furlong"));
    assert_eq!(judge(&mut record, &Policy::default()).unwrap_err().reason, "unit");
    let mut endless = number(1.0, Some(&"x".repeat(100_000)));
    assert!(judge(&mut endless, &Policy::default()).unwrap_err().message.len() < 100);
}

#[test]
fn a_sum_is_converted_where_the_unit_is_proportional() {
    let sum = |u: &str| Record {
        s: Some(2.0),
        u: Some(u.to_owned()),
        ..Record::named("p")
    };
    assert_eq!(
        judged(sum("kW"), json!({})),
        json!({"n": "p", "u": "W", "s": 2000.0, "q": 2})
    );
    assert_eq!(judged(sum("Cel"), json!({}))["s"], 2.0);
    assert_eq!(refused(sum("degF"), json!({})).0, "unit");
}

#[test]
fn a_text_keeps_a_unit_that_needs_no_conversion() {
    let with = |u: &str| Record {
        u: Some(u.to_owned()),
        ..text("5")
    };
    assert_eq!(judged(with("degC"), json!({}))["u"], "Cel");
    assert_eq!(refused(with("kW"), json!({})).0, "unit");
    assert_eq!(judged(text("5"), json!({"unit": "kW"})).get("u"), None);
}

#[test]
fn what_overflows_in_its_primary_unit_is_refused() {
    let (reason, part, _) = refused(number(1e308, Some("kW")), json!({}));
    assert_eq!((reason, part), ("number", Part::Value));
}

#[test]
fn a_bound_that_is_excluded_is_outside() {
    let range = json!({"exclusiveMinimum": 0, "exclusiveMaximum": 100});
    for (v, q) in [(0.0, 4), (0.1, 1), (99.9, 1), (100.0, 4)] {
        assert_eq!(judged(number(v, None), range.clone())["q"], q, "{v}");
    }
    let both = json!({"minimum": 0, "exclusiveMaximum": 100, "unit": "degF"});
    assert_eq!(
        judged(number(100.0, Some("degF")), both.clone())["failed"],
        json!(["gross_range"])
    );
    assert_eq!(judged(number(0.0, Some("degF")), both.clone())["q"], 1);
    assert_eq!(judged(number(37.0, Some("Cel")), both)["q"], 1, "98.6 °F");
}

#[test]
fn a_value_that_is_none_of_those_it_can_have_is_kept_and_flagged() {
    let modes = json!({"enum": ["off", "auto", 3, true]});
    for record in [
        text("auto"),
        number(3.0, None),
        Record {
            vb: Some(true),
            ..Record::named("p")
        },
    ] {
        assert_eq!(judged(record, modes.clone())["q"], 1);
    }
    let expected = json!({"n": "p", "vs": "on", "q": 4, "failed": ["enum"]});
    assert_eq!(judged(text("on"), modes.clone()), expected);
    assert_eq!(
        judged(number(4.0, None), modes.clone())["failed"],
        json!(["enum"])
    );
    let sum = Record {
        s: Some(3.0),
        ..Record::named("p")
    };
    assert_eq!(judged(sum, modes)["q"], 2, "a sum is no value");
    let in_units = json!({"unit": "km/h", "enum": [50, 130]});
    assert_eq!(
        judged(number(130.0, None), in_units.clone())["q"],
        1,
        "as it was sent"
    );
    assert_eq!(judged(number(36.0, Some("m/s")), in_units)["q"], 4);
}

#[test]
fn each_test_that_failed_is_named() {
    let all = json!({"writeOnly": true, "maximum": 1, "enum": [1], "missing": [-1]});
    assert_eq!(
        judged(number(2.0, None), all.clone())["failed"],
        json!(["write_only", "gross_range", "enum"])
    );
    assert_eq!(
        judged(number(1.0, None), all.clone()),
        json!({"n": "p", "v": 1.0, "q": 4, "failed": ["write_only"]})
    );
    assert_eq!(judged(number(-1.0, None), all)["failed"], json!(["missing"]));
    assert_eq!(judged(number(1.0, None), json!({"readOnly": true}))["q"], 2);
}

#[test]
fn a_property_that_a_description_lacks_is_kept_and_flagged() {
    let policy: Policy = serde_json::from_value(json!({
        "declared": true,
        "properties": {"position": {}, "secret": {"writeOnly": true}, "air.humidity": {"maximum": 100}},
    }))
    .unwrap();
    let judged = |name: &str| {
        let mut record = Record {
            v: Some(101.0),
            ..Record::named(name)
        };
        judge(&mut record, &policy).unwrap();
        json!([record.v, record.q, record.failed])
    };
    assert_eq!(judged("humidity"), json!([101.0, 2, ["undeclared"]]));
    assert_eq!(judged("air.humidity"), json!([101.0, 4, ["gross_range"]]));
    assert_eq!(judged("air.pressure"), json!([101.0, 2, ["undeclared"]]));
    assert_eq!(
        judged("position.lat"),
        json!([101.0, 2, []]),
        "inside of an object"
    );
    assert_eq!(judged("position.wgs84.lat"), json!([101.0, 2, []]));
    assert_eq!(judged("positions"), json!([101.0, 2, ["undeclared"]]));
    assert_eq!(judged("secret.key"), json!([101.0, 4, ["write_only"]]));

    let mut missing = Record::named("humidity");
    missing.missing(None);
    judge(&mut missing, &policy).unwrap();
    assert_eq!(
        json!([missing.q, missing.failed]),
        json!([9, ["missing", "undeclared"]])
    );
    let mut unit = number(1.0, Some("furlong"));
    assert_eq!(judge(&mut unit, &policy).unwrap_err().reason, "unit");
}
