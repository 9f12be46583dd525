//! Messages that always fail, panic or hang: each ends in the quarantine with all its attempts, and nobody else feels it.
use std::{collections::BTreeMap, time::Duration};
use telltale_cli::commands::chaos::poison::{self, Options, Report};
use telltale_tests::size;

/// A machine that compiles beside us makes hundreds of milliseconds of nothing; what this is about were seconds.
const FLOOR_MS: f64 = 1_000.0;

fn assert_unharmed(report: &Report) {
    assert!(report.holds(), "{report}");
    let (alone, with) = (report.without.p99, report.with.p99);
    assert!(with <= 2.0 * alone.max(FLOOR_MS), "{report}");
}

/// Good readings, alone and beside the poison.
fn good() -> u64 {
    size(1_000, 3_000) as u64
}

fn entries(wanted: &[(&str, i64)]) -> BTreeMap<(String, i32), i64> {
    wanted
        .iter()
        .map(|(reason, count)| (((*reason).to_owned(), 5), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_poison_than_may_be_unacknowledged_stops_nobody() {
    let report = poison::run(Options {
        good: good(),
        fails: 2_100,
        burst: true,
        // All attempts together take so long that a worker that waited for them would be seen.
        retry_first: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await
    .unwrap();
    assert_unharmed(&report);
    assert_eq!(report.stored.cast_unsigned(), good(), "{report}");
    assert_eq!(report.quarantined, entries(&[("attempts", 2_100)]), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_panic_and_hang_hold_nobody_up() {
    let report = poison::run(Options {
        good: good(),
        stage: "annotate",
        fails: 0,
        panics: 30,
        hangs: 3,
        ..Options::default()
    })
    .await
    .unwrap();
    assert_unharmed(&report);
    assert_eq!(report.stored.cast_unsigned(), good(), "{report}");
    let wanted = entries(&[("panic", 30), ("timeout", 3)]);
    assert_eq!(report.quarantined, wanted, "{report}");
}
