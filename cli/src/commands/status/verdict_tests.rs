//! Verdicts on made-up looks.
use super::*;
use crate::commands::status::{
    look::{Database, StreamLook},
    ranges::Ranges,
};
use std::time::Instant;
use telltale_nats::barrier::Raw;

fn life(epoch: u64, last: i64, settled: i64, stored: i64, missing: &[(i64, i64)]) -> Life {
    Life {
        site: "s".into(),
        epoch,
        last,
        settled,
        fates: [("stored".to_owned(), stored)].into(),
        missing: Ranges::new(missing.iter().copied()),
    }
}

fn look(after: Duration, last: u64, lives: Vec<Life>) -> Look {
    let durable = |worker: &str, stream: &str| DurableLook {
        worker: worker.into(),
        stream: stream.into(),
        pending: 0,
        in_flight: 0,
        waiting: 1,
        settled: last,
        oldest_s: None,
    };
    let stream = StreamLook {
        full: Some(0.1),
        holes: Ranges::default(),
    };
    Look {
        at: Instant::now() + after,
        processes: Vec::new(),
        streams: [
            ("RAW".to_owned(), stream.clone()),
            ("READINGS".to_owned(), stream),
        ]
        .into(),
        durables: vec![
            durable("validate", "RAW"),
            durable("store", "READINGS"),
            durable("extra", "READINGS"),
        ],
        raw: Raw {
            epoch: 7,
            last,
            left: last,
        },
        database: Ok(Database {
            lives,
            quarantine: BTreeMap::new(),
        }),
    }
}

fn still(last: u64) -> (Look, Look) {
    let at = |after| look(after, last, vec![life(7, 9, 9, 9, &[])]);
    (at(Duration::ZERO), at(Duration::from_secs(1)))
}

fn judged(first: &Look, second: &Look) -> Report {
    judge("s", first, second, Duration::from_mins(1))
}

#[test]
fn what_flows_is_in_flight_and_what_is_left_behind_the_barrier_is_missing() {
    let first = look(Duration::ZERO, 100, vec![life(7, 89, 0, 89, &[])]);
    let second = Duration::from_secs(1);
    let report = judged(&first, &look(second, 120, vec![life(7, 109, 0, 109, &[])]));
    let balance = report.balance.unwrap();
    assert_eq!((balance.stored, balance.in_flight, balance.missing), (109, 11, 0));
    assert!(report.healthy, "{:?}", report.problems);
    assert!((report.rates.accepted_per_s - 20.0).abs() < 0.5);

    let report = judged(
        &first,
        &look(second, 120, vec![life(7, 109, 100, 107, &[(40, 42)])]),
    );
    let balance = report.balance.unwrap();
    assert_eq!(
        (
            balance.in_flight,
            balance.missing,
            balance.missing_sequences.as_str()
        ),
        (11, 2, "40..41")
    );
    assert!(!report.healthy);
    assert_eq!(
        balance.stored
            + balance.duplicate
            + balance.quarantined
            + balance.unkept
            + balance.removed
            + balance.in_flight
            + balance.missing,
        balance.accepted
    );
}

#[test]
fn a_life_that_raw_had_before_has_a_balance_of_its_own() {
    let lives = || vec![life(3, 50, 50, 49, &[(50, 51)]), life(7, 9, 9, 9, &[])];
    let report = judged(
        &look(Duration::ZERO, 9, lives()),
        &look(Duration::from_secs(1), 9, lives()),
    );
    assert_eq!(report.balance.unwrap().missing, 0);
    assert_eq!(
        (report.other_balances[0].epoch, report.other_balances[0].missing),
        (3, 1)
    );
    assert!(
        report.problems[0].contains("RAW 50 of s (epoch 3)"),
        "{:?}",
        report.problems
    );
}

#[test]
fn a_hole_in_a_stream_is_a_problem_while_somebody_had_yet_to_read_it() {
    let (first, mut second) = still(9);
    second.streams.get_mut("READINGS").unwrap().holes = Ranges::new([(4, 6)]);
    let report = judged(&first, &second);
    assert!(report.healthy && report.holes["READINGS"] == "4..5");
    second.durables[2].settled = 3;
    let report = judged(&first, &second);
    assert!(
        report.problems[0].contains("READINGS has lost"),
        "{:?}",
        report.problems
    );
}

#[test]
fn a_worker_that_nobody_runs_or_that_is_behind_is_named() {
    let (mut first, mut second) = still(9);
    assert!(judged(&first, &second).healthy);
    second.durables[1].oldest_s = Some(61.0);
    assert!(judged(&first, &second).problems[0].contains("store is behind in READINGS"));
    for look in [&mut first, &mut second] {
        look.durables[0].waiting = 0;
        look.durables[2].waiting = 0;
    }
    let problems = judged(&first, &second).problems;
    assert!(
        problems[0].contains("nobody reads RAW as validate"),
        "{problems:?}"
    );
    assert_eq!(
        problems.len(),
        2,
        "an extension that has nothing to do may be away: {problems:?}"
    );
    second.durables[2].pending = 1;
    assert_eq!(judged(&first, &second).problems.len(), 3);
}

#[test]
fn a_database_that_is_away_leaves_the_balance_open() {
    let (first, mut second) = still(9);
    second.database = Err("PostgreSQL is away".into());
    let report = judged(&first, &second);
    assert!(report.balance.is_none() && report.problems == ["PostgreSQL is away"]);
}
