//! A new worker beside a running system: nothing else notices.
mod new_worker;
mod untouched;

use std::{path::Path, process::Stdio, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_tests::{pipeline::Pipeline, python};
use untouched::untouched;

const NAME: &str = "over-limit";

/// A hundred readings of which 49, those of 61 to 109, are over the limit of 60; waits for their events.
async fn raise_events(pipeline: &mut Pipeline) {
    for n in 0..100 {
        let body = format!(r#"{{"surface_temperature":{}}}"#, 10 + n);
        let answer = pipeline
            .http
            .post("/things/road/readings", &[], body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let raised = "select count(*) from events where name = 'over_limit'";
    pipeline.until(raised, 49, Duration::from_secs(30)).await;
}

/// The Python worker of docs/EXTENDING.md, as it stands there.
fn documented_worker() -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/EXTENDING.md")).unwrap();
    let program = text
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    assert!(
        program.lines().filter(|line| !line.trim().is_empty()).count() <= 33,
        "about 30 lines"
    );
    program.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_worker_joins_a_running_system() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let before = untouched(&pipeline, NAME).await;
    let manifest = pipeline.stack.dir().join("over-limit.json");
    std::fs::write(
        &manifest,
        r#"{"name":"over-limit","inputs":["annotated"],"outputs":["event"],"events":["over_limit"],"commands":[],
            "buckets":[],"sql":[],"consumer":{"ack_wait_s":30,"max_ack_pending":2000,"attempts_max":5}}"#,
    )
    .unwrap();
    let admit = pipeline.telltale(&["admit", manifest.to_str().unwrap()]).await;
    assert!(
        admit.status.success(),
        "{}",
        String::from_utf8_lossy(&admit.stderr)
    );

    let seed = pipeline.stack.dir().join(".telltale/credentials/over-limit.nk");
    let command = tokio::task::block_in_place(|| python::command(&documented_worker(), &[]));
    let mut worker = tokio::process::Command::from(command)
        .env("TELLTALE_NATS_URL", pipeline.stack.env("NATS_URL"))
        .env("TELLTALE_NATS_SEED_FILE", &seed)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    raise_events(&mut pipeline).await;
    assert_eq!(
        pipeline
            .count("select count(distinct causation_id) from events")
            .await,
        Some(49)
    );
    worker.kill().await.unwrap();
    assert_eq!(untouched(&pipeline, NAME).await, before);
}

/// The example of the runtime, which is the worker that the documents show.
fn built_worker() -> std::path::PathBuf {
    let done = telltale_cli::stack::cargo()
        .args([
            "build",
            "--quiet",
            "--package",
            "telltale-runtime",
            "--example",
            "over_limit",
        ])
        .status()
        .unwrap();
    assert!(done.success(), "the example is built");
    telltale_tests::pipeline::binary("examples/over_limit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_worker_joins_a_running_system_and_leaves_it() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let before = untouched(&pipeline, NAME).await;
    let program = tokio::task::spawn_blocking(built_worker).await.unwrap();
    let admit = pipeline.telltale(&["admit", program.to_str().unwrap()]).await;
    assert!(
        admit.status.success(),
        "{}",
        String::from_utf8_lossy(&admit.stderr)
    );
    pipeline.stack.start_one(NAME).await.unwrap();
    raise_events(&mut pipeline).await;
    pipeline.stack.stop_one(NAME).await.unwrap();
    assert_eq!(untouched(&pipeline, NAME).await, before);
    let (_, ready) = pipeline.health("store").get("/readyz?verbose").unwrap();
    assert!(ready.contains("ready"), "{ready}");
}
