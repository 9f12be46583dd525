//! What was refused is worked on: given back, corrected, given up; and nothing happens twice.
mod cap;
mod crashes;
mod entries;
mod operator;
mod packs;

use operator::{Counting, left_in, load, put_type, replay};
use std::time::{Duration, Instant};
use telltale_cli::stack::StackOptions;
use telltale_tests::{load::over_http, pipeline::Pipeline, size};

const SOON: Duration = Duration::from_secs(60);
const OPEN: &str = "select count(*) from quarantine where state = 'open'";

/// Of a hundred, ten are wrongly said to send text.
const THINGS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_the_policy_is_right_all_is_given_back_once_and_nobody_is_told_twice() {
    let events = size(3_000, 10_000);
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let counting = Counting::start(&pipeline).await;
    let misjudged: Vec<String> = (0..THINGS / 10).map(|n| format!("t{n}")).collect();
    put_type(&pipeline, &misjudged, "string").await;

    let loads = load(events, THINGS);
    let client = pipeline.http.clone();
    tokio::task::spawn_blocking(move || over_http(&client, &loads, 24))
        .await
        .unwrap();
    let refused = i64::try_from(events / 10).unwrap();
    let total = i64::try_from(events).unwrap();
    pipeline
        .until("select count(*) from readings", total - refused, SOON)
        .await;
    pipeline.until(OPEN, refused, SOON).await;
    assert_eq!(
        pipeline
            .rows("select reason, stage, count(*) from quarantine group by 1, 2")
            .await,
        [format!("type|validate|{refused}")]
    );

    put_type(&pipeline, &misjudged, "number").await;
    let began = Instant::now();
    let done = replay(&pipeline, &["--reason", "type", "--yes"]).await;
    assert_eq!(
        (&done["replayed"], &done["left"]),
        (&refused.into(), &0.into()),
        "{done}"
    );
    let handed_over = began.elapsed();
    pipeline.until("select count(*) from readings", total, SOON).await;
    println!(
        "{refused} replayed: handed over in {handed_over:.1?}, rows after {:.1?}",
        began.elapsed()
    );
    assert_eq!(pipeline.count(OPEN).await, Some(0), "the quarantine is empty");

    // Again: nothing is open, and even what is named is not given back twice.
    let again = replay(&pipeline, &["--reason", "type", "--yes"]).await;
    assert_eq!(
        (&again["replayed"], &again["before"]),
        (&0.into(), &refused.into())
    );
    let seen = counting.all(events).await;
    assert_eq!(seen.len(), events, "each reading was told of");
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "told of more than once: {twice:?}");
    let status = pipeline.at_rest(SOON).await;
    assert_eq!(status["balance"]["stored"], total, "{status}");
    assert_eq!(status["balance"]["quarantined"], 0, "{status}");
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(total));
    let ids = "select count(distinct message_id) from readings";
    assert_eq!(pipeline.count(ids).await, Some(total));

    for stream in ["QUARANTINE", "REDO"] {
        assert_eq!(left_in(&pipeline, stream).await, 0, "{stream}");
    }
}
