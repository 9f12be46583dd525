//! What is away comes back, and nobody is punished for it.
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    load::{self, Load},
    pipeline::Pipeline,
    size,
};

fn loads(from: usize, to: usize) -> Vec<Load> {
    (from..to)
        .map(|n| Load {
            thing: format!("t{}", n % 50),
            key: format!("k{n}"),
            payload: format!(r#"{{"temperature":{n}}}"#).into(),
        })
        .collect()
}

/// Longer than a message's five attempts with their back-off (0.2 + 0.4 + 0.8 + 1.6 + 3.2 s) together.
const LONGER_THAN_ALL_ATTEMPTS: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_quarantines_nothing() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads(0, 500), 8));
    pipeline
        .until("select count(*) from readings", 500, Duration::from_secs(20))
        .await;

    pipeline.stack.stop_one("postgres").await.unwrap();
    let away = tokio::time::Instant::now();
    let mut sent = 500;
    while away.elapsed() < LONGER_THAN_ALL_ATTEMPTS {
        // Readings are accepted all the time.
        tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads(sent, sent + 50), 8));
        sent += 50;
        // All the time, not as fast as can be: others test beside us.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (status, body) = pipeline.health("store").get("/readyz?verbose").unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("postgres"), "store says what it waits for: {body}");
    pipeline.stack.start_one("postgres").await.unwrap();

    let sent = i64::try_from(sent).unwrap();
    pipeline
        .until("select count(*) from readings", sent, Duration::from_secs(60))
        .await;
    let status = pipeline.at_rest(Duration::from_secs(30)).await;
    assert_eq!(
        pipeline.count("select count(*) from quarantine").await,
        Some(0),
        "{status}"
    );
}

/// Readings that a copy has taken through.
fn handled(pipeline: &Pipeline, name: &str) -> f64 {
    pipeline.metric(name, "telltale_processed_total")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_share_the_work_and_one_that_is_killed_loses_none() {
    let mut pipeline = Pipeline::start(StackOptions {
        // What a killed one had in hand comes again no earlier.
        ack_wait: Some(Duration::from_secs(5)),
        ..StackOptions::default()
    })
    .await;
    let copy = pipeline.stack.start_copy("validate").await.unwrap();
    let before = [handled(&pipeline, "validate"), handled(&pipeline, &copy)];

    let all = size(4_000, 20_000);
    let more = all / 4;
    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads(0, all), 24));
    let rows = |count: usize| i64::try_from(count).unwrap();
    pipeline
        .until(
            "select count(*) from readings",
            rows(all),
            Duration::from_secs(60),
        )
        .await;
    let shares = [
        handled(&pipeline, "validate") - before[0],
        handled(&pipeline, &copy) - before[1],
    ];
    assert!(
        shares.iter().all(|share| *share >= all as f64 / 4.0),
        "each handles at least a quarter: {shares:?}"
    );

    let client = pipeline.http.clone();
    let sending = tokio::task::spawn_blocking(move || load::over_http(&client, &loads(all, all + more), 24));
    pipeline
        .at_least(
            "select count(*) from readings",
            rows(all + more / 10),
            Duration::from_secs(60),
        )
        .await;
    pipeline.stack.kill(&copy).unwrap();
    sending.await.unwrap();
    pipeline
        .until(
            "select count(*) from readings",
            rows(all + more),
            Duration::from_secs(90),
        )
        .await;
    pipeline.at_rest(Duration::from_secs(60)).await;
}
