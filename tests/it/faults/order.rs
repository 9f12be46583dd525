//! F13: everything is started in the wrong order. F32: a right is taken away while all runs.
use super::{PATIENCE, QUARANTINED, READINGS, ready, send, unready};
use std::{
    fs,
    time::{Duration, Instant},
};
use telltale_cli::stack::StackOptions;
use telltale_tests::{eventually_async, pipeline::Pipeline};

const OURS: [&str; 4] = ["bridge", "validate", "annotate", "store"];

#[tokio::test(flavor = "multi_thread")]
async fn started_long_before_its_servers_everything_waits_unready_and_then_serves() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    for name in OURS.into_iter().chain(["postgres", "nats"]) {
        pipeline.stack.stop_one(name).await.unwrap();
    }
    let restarts: Vec<u32> = OURS.map(|name| pipeline.stack.restarts(name)).to_vec();
    let supervisor = pipeline.stack.supervisor();
    for name in OURS {
        supervisor.unit(name).unwrap().start();
    }
    for name in OURS {
        unready(&pipeline, name, &["nats"], PATIENCE).await;
    }
    let pids = OURS.map(|name| pipeline.stack.pid(name).unwrap());
    // Five minutes take too long here; a crash loop would have begun well before.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let answer = pipeline
        .http
        .post("/things/t/readings", &[], br#"{"temperature":1}"#);
    let accepted = answer.as_ref().is_ok_and(|answer| answer.status < 300);
    assert!(!accepted, "nothing is accepted without a broker: {answer:?}");

    pipeline.stack.start_one("nats").await.unwrap();
    for name in ["bridge", "validate", "annotate"] {
        ready(&pipeline, name).await;
    }
    unready(&pipeline, "store", &["postgres"], PATIENCE).await;
    send(&pipeline, 0, 20);
    pipeline.stack.start_one("postgres").await.unwrap();
    ready(&pipeline, "store").await;
    pipeline.until(READINGS, 20, PATIENCE).await;
    assert_eq!(
        OURS.map(|name| pipeline.stack.pid(name).unwrap()),
        pids,
        "nobody was started again"
    );
    assert_eq!(OURS.map(|name| pipeline.stack.restarts(name)).to_vec(), restarts);
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_is_named_within_half_a_minute_and_missed_no_more_once_given_back() {
    let mut pipeline = Pipeline::start(StackOptions {
        // What could not be passed on comes again no earlier.
        ack_wait: Some(Duration::from_secs(5)),
        ..StackOptions::default()
    })
    .await;
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;
    let path = pipeline.stack.layout().users();
    let whole = fs::read_to_string(&path).unwrap();
    let rights = [
        ("annotate", "annotated.local.*", "annotated.local."),
        (
            "store",
            "$JS.API.CONSUMER.MSG.NEXT.READINGS.store",
            "READINGS.store",
        ),
    ];
    let mut less = whole.clone();
    for (_, right, _) in rights {
        let right = format!("\"{right}\"");
        assert!(whole.contains(&right), "{right} is a right");
        less = less.replace(&right, "\"nothing.at.all\"");
    }
    fs::write(&path, &less).unwrap();
    pipeline.stack.reload().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    send(&pipeline, 20, 40);
    for (name, _, told) in rights {
        let left = end.saturating_duration_since(Instant::now());
        unready(&pipeline, name, &[told], left).await;
    }
    fs::write(&path, &whole).unwrap();
    pipeline.stack.reload().unwrap();
    for (name, ..) in rights {
        ready(&pipeline, name).await;
    }
    pipeline.until(READINGS, 40, PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    // Ready is not said too early: it stays so.
    eventually_async("all is at rest", PATIENCE, || async {
        let all = OURS.map(|name| pipeline.health(name).get("/readyz"));
        all.iter()
            .all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200))
            .then_some(())
    })
    .await;
}
