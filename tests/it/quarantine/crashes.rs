//! A replay that is cut off is finished by the next one, whatever it had done.
use super::{
    OPEN, SOON,
    operator::{Counting, left_in, load, put_type, replay, streams},
};
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    eventually_async,
    load::over_http,
    pipeline::{Pipeline, binary},
};

const EVENTS: usize = 2_000;
const THINGS: usize = 50;

/// What a replay has done when it is killed.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begun,
    HandedOver,
    LeftTheStream,
    Settled,
}

/// How far the replay has come, in that step's own measure.
async fn measure(pipeline: &mut Pipeline, step: Step) -> u64 {
    match step {
        Step::Begun => {
            let begun = "select count(*) from quarantine where state = 'open' and replay_begun is not null";
            u64::try_from(pipeline.count(begun).await.unwrap()).unwrap()
        }
        Step::HandedOver => {
            let stream = streams(pipeline).await.get_stream("REDO").await.unwrap();
            stream.cached_info().state.last_sequence
        }
        Step::LeftTheStream => EVENTS as u64 - left_in(pipeline, "QUARANTINE").await,
        Step::Settled => {
            let settled = "select count(*) from quarantine where state = 'replayed'";
            u64::try_from(pipeline.count(settled).await.unwrap()).unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replay_that_is_killed_at_any_step_is_finished_by_the_next_and_adds_nothing() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let counting = Counting::start(&pipeline).await;
    let things: Vec<String> = (0..THINGS).map(|n| format!("t{n}")).collect();
    put_type(&pipeline, &things, "string").await;
    let client = pipeline.http.clone();
    tokio::task::spawn_blocking(move || over_http(&client, &load(EVENTS, THINGS), 16))
        .await
        .unwrap();
    let total = i64::try_from(EVENTS).unwrap();
    pipeline.until(OPEN, total, SOON).await;
    put_type(&pipeline, &things, "number").await;

    for step in [Step::Begun, Step::HandedOver, Step::LeftTheStream, Step::Settled] {
        let before = measure(&mut pipeline, step).await;
        let mut command = tokio::process::Command::new(binary("telltale"))
            .args(["quarantine", "replay", "--all", "--yes"])
            .current_dir(pipeline.stack.dir())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let end = tokio::time::Instant::now() + SOON;
        while measure(&mut pipeline, step).await <= before {
            assert!(tokio::time::Instant::now() < end, "{step:?} never came");
        }
        command.kill().await.unwrap();
        let open = pipeline.count(OPEN).await.unwrap();
        assert!(open > 0, "it was cut off before its end: {step:?}");
        println!("killed after {step:?}: {open} are open");
    }
    // And the stage itself is killed, while it takes back what is left.
    let last = tokio::spawn({
        let dir = pipeline.stack.dir().to_owned();
        async move {
            tokio::process::Command::new(binary("telltale"))
                .args(["quarantine", "replay", "--all", "--yes"])
                .current_dir(dir)
                .status()
                .await
                .unwrap()
        }
    });
    let rows = pipeline.count("select count(*) from readings").await.unwrap();
    pipeline
        .at_least("select count(*) from readings", rows + 1, SOON)
        .await;
    pipeline.kill("validate", SOON).await;
    assert!(last.await.unwrap().success());

    pipeline
        .until("select count(*) from readings", total, Duration::from_secs(120))
        .await;
    assert_eq!(pipeline.count(OPEN).await, Some(0));
    let again = replay(&pipeline, &["--all", "--yes"]).await;
    assert_eq!(again["replayed"], 0);
    eventually_async("REDO is empty", Duration::from_secs(120), || async {
        (left_in(&pipeline, "REDO").await == 0).then_some(())
    })
    .await;
    let seen = counting.all(EVENTS).await;
    assert_eq!(seen.len(), EVENTS);
    assert!(seen.values().all(|times| *times == 1), "nobody is told twice");
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(total));
    assert_eq!(left_in(&pipeline, "QUARANTINE").await, 0);
    let handed_over = measure(&mut pipeline, Step::HandedOver).await;
    assert_eq!(
        handed_over, EVENTS as u64,
        "a replay that is begun again has the name that it had"
    );
    pipeline.at_rest(SOON).await;
}
