//! Windows, by hand.
use super::*;
use crate::derive::testing::{HOUR, Told, at, flagged, heard, told, with};
use telltale_schemas::{Flag, Record};

const SECOND: i64 = 1_000_000;

fn windows(take: Use, every: i64, slide: i64) -> Windows {
    let window = Window {
        of: "speed".into(),
        every: format!("{every}s"),
        slide: None,
        functions: vec![Function::Count, Function::Sum],
    };
    Windows::new("r", take, &window, every * SECOND, slide * SECOND).unwrap()
}

fn said(out: &[Follows], name: &str) -> Vec<(f64, f64)> {
    let told = told(out).into_iter().filter(|told| told.name == name);
    told.map(|told| (told.at, told.value)).collect()
}

#[test]
fn a_window_is_told_when_its_thing_s_time_has_reached_its_end() {
    let (mut windows, mut out) = (windows(Use::Good, 60, 60), Vec::new());
    for (time, value) in [(0.0, 1.0), (59.999, 2.0)] {
        windows.hear(&heard("car", time, &[("speed", value)]), &mut out);
    }
    assert!(out.is_empty());
    assert_eq!(windows.waits("car"), Some(at(60.0)));
    windows.hear(&heard("car", 60.0, &[("speed", 4.0)]), &mut out);
    let start = HOUR * SECOND;
    let one = |name: &str, value, unit: Option<&str>| Told {
        id: format!("r:car:{start}"),
        thing: "car".into(),
        at: 60.0,
        name: name.into(),
        value,
        unit: unit.map(str::to_owned),
        q: None,
    };
    let first = [
        one("speed_count_60s", 2.0, Some("count")),
        one("speed_sum_60s", 3.0, None),
    ];
    assert_eq!(told(&out), first);
    assert_eq!(
        out[0].cause.id, "car:59.999",
        "it follows from its own last reading"
    );
    out.clear();
    windows.passed("car", at(120.0), &mut out);
    assert_eq!(said(&out, "speed_sum_60s"), [(120.0, 4.0)], "in silence, too");
    assert_eq!(windows.waits("car"), None);
}

#[test]
fn windows_that_slide_share_their_values() {
    let (mut windows, mut out) = (windows(Use::Good, 60, 20), Vec::new());
    for (time, value) in [(5.0, 1.0), (25.0, 2.0), (45.0, 4.0), (200.0, 8.0)] {
        windows.hear(&heard("car", time, &[("speed", value)]), &mut out);
    }
    let sums = [(20.0, 1.0), (40.0, 3.0), (60.0, 7.0), (80.0, 6.0), (100.0, 4.0)];
    assert_eq!(said(&out, "speed_sum_60s"), sums);
    out.clear();
    windows.passed("car", at(1_000.0), &mut out);
    assert_eq!(
        said(&out, "speed_sum_60s"),
        [(220.0, 8.0), (240.0, 8.0), (260.0, 8.0)]
    );
}

#[test]
fn between_windows_that_do_not_touch_nothing_counts() {
    let (mut windows, mut out) = (windows(Use::Good, 10, 60), Vec::new());
    for time in [5.0, 30.0, 61.0, 119.0] {
        windows.hear(&heard("car", time, &[("speed", 1.0)]), &mut out);
    }
    assert_eq!(said(&out, "speed_count_10s"), [(10.0, 1.0), (70.0, 1.0)]);
}

#[test]
fn a_late_reading_takes_part_while_its_window_is_open() {
    let (mut windows, mut out) = (windows(Use::Good, 60, 60), Vec::new());
    windows.hear(&heard("car", 90.0, &[("speed", 1.0)]), &mut out);
    assert_eq!(windows.late(&heard("car", 70.0, &[("speed", 2.0)])), 0);
    assert_eq!(
        windows.late(&heard("car", 30.0, &[("speed", 4.0)])),
        1,
        "too late"
    );
    windows.passed("car", at(120.0), &mut out);
    assert_eq!(said(&out, "speed_sum_60s"), [(120.0, 3.0)]);
}

#[test]
fn a_reading_of_many_times_fills_many_windows() {
    let records = [10.0, 70.0, 130.0].map(|time| Record {
        v: Some(time),
        t: Some(HOUR as f64 + time),
        ..Record::named("speed")
    });
    let (mut windows, mut out) = (windows(Use::Good, 60, 60), Vec::new());
    windows.hear(&with("car", 130.0, records.into()), &mut out);
    assert_eq!(said(&out, "speed_sum_60s"), [(60.0, 10.0), (120.0, 70.0)]);
}

#[test]
fn what_failed_takes_no_part_unless_all_is_used_and_the_worst_flag_is_carried() {
    let readings = [
        flagged(heard("car", 1.0, &[("speed", 1.0)]), Flag::Pass),
        flagged(heard("car", 2.0, &[("speed", 2.0)]), Flag::Suspect),
        flagged(heard("car", 3.0, &[("speed", 4.0)]), Flag::Fail),
        flagged(with("car", 4.0, vec![Record::named("speed")]), Flag::Missing),
    ];
    for (take, sum, flag) in [(Use::Good, 3.0, Flag::Suspect), (Use::All, 7.0, Flag::Fail)] {
        let (mut windows, mut out) = (windows(take, 60, 60), Vec::new());
        for reading in &readings {
            windows.hear(reading, &mut out);
        }
        windows.passed("car", at(60.0), &mut out);
        let told = told(&out);
        assert_eq!((told[1].value, told[1].q), (sum, Some(flag)));
    }
}

#[test]
fn things_do_not_mix_and_are_forgotten() {
    let (mut windows, mut out) = (windows(Use::Good, 60, 60), Vec::new());
    for thing in ["a", "b"] {
        windows.hear(&heard(thing, 1.0, &[("speed", 1.0)]), &mut out);
    }
    windows.forget("b");
    for thing in ["a", "b"] {
        windows.passed(thing, at(60.0), &mut out);
    }
    assert_eq!(told(&out).iter().filter(|told| told.thing == "a").count(), 2);
    assert_eq!(told(&out).len(), 2);
}
