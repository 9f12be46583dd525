//! The traps of RFC 8428, one by one.
use serde_json::{Value, json};
use telltale_schemas::{Record, Timestamp, senml};

const NOW: f64 = 1_498_780_179.0;

fn resolve(pack: &Value) -> Result<Vec<Record>, (&'static str, String)> {
    let now = Timestamp::from_seconds(NOW).unwrap();
    senml::resolve(pack, now).map_err(|refusal| (refusal.reason, refusal.faults[0].pointer.clone()))
}

fn names(pack: &Value) -> Vec<String> {
    resolve(pack)
        .unwrap()
        .into_iter()
        .map(|record| record.n)
        .collect()
}

fn times(pack: &Value) -> Vec<f64> {
    resolve(pack)
        .unwrap()
        .into_iter()
        .map(|record| record.t.unwrap())
        .collect()
}

#[test]
fn a_time_is_relative_below_2_to_the_28() {
    let pack = json!([{ "n": "a", "v": 1, "t": 268_435_455 }, { "n": "a", "v": 1, "t": 268_435_456 }]);
    assert_eq!(times(&pack), [268_435_456.0, NOW + 268_435_455.0]);
    assert_eq!(times(&json!([{ "n": "a", "v": 1, "t": -5 }])), [NOW - 5.0]);
    let sum = json!([{ "bt": 268_435_450, "n": "a", "v": 1, "t": 6 }]);
    assert_eq!(times(&sum), [268_435_456.0]);
}

#[test]
fn a_time_that_no_calendar_has_is_refused() {
    let pack = json!([{ "n": "a", "v": 1 }, { "n": "a", "v": 1, "t": 1e300 }]);
    assert_eq!(resolve(&pack), Err(("time", "/1/t".into())));
    assert_eq!(
        resolve(&json!([{ "bt": -1e300, "n": "a", "v": 1 }])),
        Err(("time", "/0/bt".into()))
    );
}

#[test]
fn base_fields_hold_until_the_next_of_the_same() {
    let pack = json!([
        { "bn": "x/", "bt": 1_600_000_000, "bu": "Cel", "n": "a", "v": 1 },
        { "n": "b", "v": 2, "t": 1, "u": "K" },
        { "n": "c", "v": 3, "bt": 1_700_000_000 },
        { "n": "d", "v": 4, "bn": "y/" },
        { "n": "e", "v": 5, "bn": "" },
    ]);
    assert_eq!(names(&pack), ["x/a", "x/b", "x/c", "y/d", "e"]);
    assert_eq!(times(&pack), [1.6e9, 1.6e9 + 1.0, 1.7e9, 1.7e9, 1.7e9]);
    let units: Vec<_> = resolve(&pack)
        .unwrap()
        .into_iter()
        .map(|record| record.u.unwrap())
        .collect();
    assert_eq!(units, ["Cel", "K", "Cel", "Cel", "Cel"]);
}

#[test]
fn records_come_out_in_the_order_of_time_and_equal_times_in_theirs() {
    let pack = json!([
        { "n": "late", "v": 1, "t": 10 },
        { "n": "first", "v": 1, "t": 0 },
        { "n": "second", "v": 1, "t": 0 },
    ]);
    assert_eq!(names(&pack), ["first", "second", "late"]);
}

#[test]
fn zero_and_false_are_values() {
    let records =
        resolve(&json!([{ "n": "a", "v": 0 }, { "n": "b", "vb": false }, { "n": "c", "vs": "" }])).unwrap();
    assert_eq!(records[0].v, Some(0.0));
    assert_eq!(records[1].vb, Some(false));
    assert_eq!(records[2].vs.as_deref(), Some(""));
}

#[test]
fn a_base_value_is_added_to_numbers_alone_and_stands_for_a_missing_one() {
    let pack = json!([
        { "bv": 20, "bs": 100, "n": "a", "v": 1.5 },
        { "n": "b" },
        { "n": "c", "vs": "text", "s": 5 },
        { "bv": 1 },
    ]);
    let records = resolve(&pack).unwrap();
    assert_eq!(
        records.iter().map(|record| record.v).collect::<Vec<_>>(),
        [Some(21.5), Some(20.0), None]
    );
    assert_eq!(
        records.iter().map(|record| record.s).collect::<Vec<_>>(),
        [Some(100.0), Some(100.0), Some(105.0)]
    );
}

#[test]
fn a_sum_needs_no_value() {
    let records = resolve(&json!([{ "n": "energy", "u": "W", "s": 12.5 }])).unwrap();
    assert_eq!((records[0].v, records[0].s), (None, Some(12.5)));
}

#[test]
fn exactly_one_value_is_asked_for() {
    for (record, pointer) in [
        (json!({ "n": "a" }), "/0"),
        (json!({ "n": "a", "u": "Cel", "t": 1 }), "/0"),
        (json!({ "n": "a", "v": 1, "vs": "x" }), "/0"),
        (json!({ "n": "a", "vb": true, "vs": "x" }), "/0"),
        (json!({}), "/0"),
    ] {
        let reason = resolve(&json!([record])).unwrap_err();
        assert!(reason.0 == "senml" || reason.0 == "name", "{record}");
        assert_eq!(reason.1, pointer, "{record}");
    }
}

#[test]
fn what_rfc_8428_forbids_is_refused_with_reason_and_place() {
    for (record, reason, pointer) in [
        (json!({ "n": "a", "v": 1, "foo_": 1 }), "senml", "/0/foo_"),
        (json!({ "n": "a", "v": 1, "bver": 11 }), "version", "/0/bver"),
        (json!({ "n": "a", "v": 1, "bver": 5 }), "version", "/0/bver"),
        (json!({ "n": "a", "v": 1, "bver": "10" }), "senml", "/0/bver"),
        (json!({ "n": "a", "vd": "AA==" }), "senml", "/0/vd"),
        (json!({ "n": "a", "vd": "+/+/" }), "senml", "/0/vd"),
        (json!({ "n": "a", "v": "1" }), "senml", "/0/v"),
        (json!({ "n": "a", "v": null }), "senml", "/0/v"),
        (json!({ "n": "a", "v": true }), "senml", "/0/v"),
        (json!({ "n": "a", "vb": "true" }), "senml", "/0/vb"),
        (json!({ "n": "a", "v": 1, "t": "now" }), "senml", "/0/t"),
        (json!({ "n": "a", "v": 1, "u": 1 }), "senml", "/0/u"),
        (json!({ "n": 1, "v": 1 }), "senml", "/0/n"),
        (json!({ "v": 1 }), "name", "/0"),
        (json!({ "n": "/3/0/9", "v": 1 }), "name", "/0/n"),
        (json!({ "bn": "/3/0/", "v": 1 }), "name", "/0/bn"),
        (json!({ "n": "-a", "v": 1 }), "name", "/0/n"),
        (json!({ "n": "a b", "v": 1 }), "name", "/0/n"),
        (json!({ "n": "Brücke", "v": 1 }), "name", "/0/n"),
        (json!({ "n": "a", "v": 1e308, "bv": 1e308 }), "number", "/0/v"),
        (json!(1), "senml", "/0"),
    ] {
        assert_eq!(
            resolve(&json!([record])),
            Err((reason, pointer.into())),
            "{record}"
        );
    }
    for pack in [json!({}), json!("x"), Value::Null] {
        assert_eq!(resolve(&pack), Err(("senml", String::new())));
    }
}

#[test]
fn another_version_anywhere_refuses_the_whole_pack_first() {
    let pack = json!([{ "n": "a b", "v": 1 }, { "bver": 11 }]);
    assert_eq!(resolve(&pack), Err(("version", "/1/bver".into())));
    assert!(resolve(&json!([{ "bver": 10, "n": "a", "v": 1, "unknown": [1, 2] }])).is_ok());
}

#[test]
fn a_thousand_records_are_taken_and_one_more_is_not() {
    let pack = |records: usize| Value::from(vec![json!({ "n": "a", "v": 1 }); records]);
    assert_eq!(resolve(&pack(1_000)).unwrap().len(), 1_000);
    assert_eq!(resolve(&pack(1_001)), Err(("records", "/1000".into())));
    assert_eq!(resolve(&json!([])), Err(("records", String::new())));
    assert_eq!(resolve(&json!([{ "bn": "a" }])), Err(("records", String::new())));
}

#[test]
fn a_long_base_name_or_unit_is_not_multiplied() {
    let long = "a".repeat(200_000);
    assert_eq!(
        resolve(&json!([{ "bn": long, "v": 1 }])),
        Err(("name", "/0/bn".into()))
    );
    assert_eq!(
        resolve(&json!([{ "n": "a", "bu": long, "v": 1 }])),
        Err(("unit", "/0/bu".into()))
    );
}

#[test]
fn records_go_out_as_a_resolved_pack_and_come_back() {
    let time = Timestamp::from_seconds(1_600_000_000.25).unwrap();
    let mut missing = Record::named("m");
    missing.missing(Some("-200".into()));
    let records = vec![
        Record {
            v: Some(-0.85),
            u: Some("Cel".into()),
            t: Some(1_600_000_000.0),
            ..Record::named("a")
        },
        Record {
            vb: Some(true),
            ut: Some(60.0),
            ..Record::named("b/c")
        },
        Record {
            vd: Some("3q2-7w".into()),
            s: Some(1.5),
            ..Record::named("d")
        },
        missing,
    ];
    let pack = senml::to_senml("urn:dev:1", time, &records);
    assert_eq!(
        pack,
        json!([
            { "n": "urn:dev:1/a", "u": "Cel", "v": -0.85, "t": 1_600_000_000 },
            { "n": "urn:dev:1/b/c", "vb": true, "ut": 60.0, "t": 1_600_000_000.25 },
            { "n": "urn:dev:1/d", "vd": "3q2-7w", "s": 1.5, "t": 1_600_000_000.25 },
        ])
    );
    let back = resolve(&pack).unwrap();
    assert_eq!(
        (back.len(), back[0].v, back[2].t),
        (3, Some(-0.85), Some(1_600_000_000.25))
    );
}

#[test]
fn a_thing_whose_name_senml_forbids_is_spelt_so_that_it_may() {
    let records = [Record {
        v: Some(1.0),
        ..Record::named("a")
    }];
    for (thing, name) in [("Brücke", "Br:C3:BCcke/a"), (":x y", "x:x:20y/a"), ("t1", "t1/a")] {
        let pack = senml::to_senml(thing, Timestamp::from_seconds(NOW).unwrap(), &records);
        assert_eq!(names(&pack), [name]);
    }
}
