//! A worker is killed at each of the eight named points, under load; and the suite is proven to see a real bug.
use std::time::Duration;
use telltale_cli::commands::chaos::points::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_at_any_point() {
    let report = points::run(Options {
        rounds: 3,
        ..Options::default()
    })
    .await
    .unwrap();
    assert!(report.holds(), "{report}");
    let of = |point: &str| -> u32 {
        let kills = report.kills.iter().filter(|((at, _), _)| *at == point);
        kills.map(|(_, count)| count).sum()
    };
    for point in telltale_runtime::fault::Point::ALL {
        assert_eq!(of(point.word()), 3, "{point}: {report}");
    }
    assert!(report.rows > 500 && report.entries > 50, "under load: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_acknowledges_before_it_commits_is_found_out() {
    let report = points::run(Options {
        rounds: 3,
        bug: true,
        ack_wait: Duration::from_secs(1),
        ..Options::default()
    })
    .await
    .unwrap();
    let lost = report
        .violations
        .iter()
        .find(|violation| violation.oracle == "I1");
    assert!(lost.is_some_and(|lost| lost.count > 0), "{report}");
    assert!(
        report.violations.iter().any(|violation| violation.oracle == "I5"),
        "the balance shows it too: {report}"
    );
}
