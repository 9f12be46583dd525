//! F13: everything is started in the wrong order. F32: a right is taken away while all runs.
use super::{PATIENCE, QUARANTINED, READINGS, ready, send, unready};
use std::{fs, time::Duration};
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
    for (n, (name, right, told)) in rights.into_iter().enumerate() {
        assert!(whole.contains(&format!("\"{right}\"")), "{right} is a right");
        fs::write(
            &path,
            whole.replace(&format!("\"{right}\""), "\"nothing.at.all\""),
        )
        .unwrap();
        pipeline.stack.reload().unwrap();
        send(&pipeline, 20 * (n + 1), 20 * (n + 2));
        unready(&pipeline, name, &[told], Duration::from_secs(30)).await;

        fs::write(&path, &whole).unwrap();
        pipeline.stack.reload().unwrap();
        ready(&pipeline, name).await;
        let rows = i64::try_from(20 * (n + 2)).unwrap();
        pipeline.until(READINGS, rows, PATIENCE).await;
    }
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
