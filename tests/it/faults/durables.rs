//! F5: what comes again later than the broker remembers. F20: an operator purges, deletes and makes a stream again. F21: a durable is deleted, or begins anew.
use super::{PATIENCE, QUARANTINED, READINGS, connect, ready, send, unready};
use futures::StreamExt as _;
use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};
use telltale_cli::stack::{StackOptions, scratch};
use telltale_nats::{Lane, Name, async_nats::jetstream, client};
use telltale_tests::{eventually_async, pipeline::Pipeline};

async fn context(pipeline: &Pipeline) -> jetstream::Context {
    client::context(connect(pipeline, "operator").await)
}

async fn provision(pipeline: &Pipeline) {
    let output = pipeline.telltale(&["provision"]).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_an_operator_deletes_is_named_and_provisioning_mends_it() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = context(&pipeline).await;
    send(&pipeline, 0, 50);
    pipeline.until(READINGS, 50, PATIENCE).await;

    for (n, (stream, reader, writer)) in [
        ("READINGS", "store", "annotate"),
        ("VALID", "annotate", "validate"),
    ]
    .into_iter()
    .enumerate()
    {
        js.delete_stream(stream).await.unwrap();
        unready(&pipeline, reader, &[stream], PATIENCE).await;
        // What is accepted meanwhile waits where it is: nothing takes what follows from it.
        let sent = 50 * (n + 2);
        send(&pipeline, sent - 50, sent);
        unready(&pipeline, writer, &["publish"], PATIENCE).await;
        provision(&pipeline).await;
        for name in [reader, writer] {
            ready(&pipeline, name).await;
        }
        pipeline
            .until(READINGS, i64::try_from(sent).unwrap(), PATIENCE)
            .await;
    }
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    pipeline.at_rest(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_purges_is_counted_as_missing_to_the_message() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = context(&pipeline).await;
    send(&pipeline, 0, 50);
    pipeline.until(READINGS, 50, PATIENCE).await;
    // Half of them are stopped between two stages, and purged there.
    pipeline.stack.stop_one("annotate").await.unwrap();
    send(&pipeline, 50, 100);
    let raw = js.get_stream("RAW").await.unwrap();
    eventually_async("all is validated", PATIENCE, || async {
        (raw.get_info().await.ok()?.state.messages == 0).then_some(())
    })
    .await;
    js.get_stream("VALID").await.unwrap().purge().await.unwrap();
    pipeline.stack.start_one("annotate").await.unwrap();
    send(&pipeline, 100, 120);
    pipeline.until(READINGS, 70, PATIENCE).await;
    let status = eventually_async("status tells what is missing", PATIENCE, || async {
        let output = pipeline.telltale(&["status", "-o", "json"]).await;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["balance"]["missing"].as_i64()? > 0).then_some(status)
    })
    .await;
    let balance = &status["balance"];
    assert_eq!(balance["missing"], 50, "{status}");
    assert_eq!(balance["stored"], 70, "{status}");
    assert_eq!(balance["missing_sequences"], "51..100", "{status}");
    assert_eq!(status["healthy"], false, "{status}");
}

/// What a subscriber with effects sees: how often each id came.
fn counting(
    pipeline: &Pipeline,
    client: &telltale_nats::async_nats::Client,
) -> Arc<Mutex<HashMap<String, u32>>> {
    let seen: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let (client, counted) = (client.clone(), Arc::clone(&seen));
    let site = Name::new(pipeline.stack.env("TELLTALE_SITE")).unwrap();
    tokio::spawn(async move {
        let mut messages = client.subscribe(Lane::Annotated.filter_at(&site)).await.unwrap();
        while let Some(message) = messages.next().await {
            let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let id = body["id"].as_str().unwrap().to_owned();
            *counted.lock().unwrap().entry(id).or_default() += 1;
        }
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_is_deleted_or_begins_anew_replays_all_and_changes_nothing() {
    const COUNT: usize = 200;
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = context(&pipeline).await;
    let client = connect(&pipeline, "client").await;
    let seen = counting(&pipeline, &client);
    client.flush().await.unwrap();
    send(&pipeline, 0, COUNT);
    let rows = i64::try_from(COUNT).unwrap();
    pipeline.until(READINGS, rows, PATIENCE).await;

    for (stream, worker) in [("VALID", "annotate"), ("READINGS", "store")] {
        let received = pipeline.metric(worker, "telltale_messages_received_total");
        js.get_stream(stream)
            .await
            .unwrap()
            .delete_consumer(worker)
            .await
            .unwrap();
        unready(&pipeline, worker, &[stream], PATIENCE).await;
        provision(&pipeline).await;
        ready(&pipeline, worker).await;
        eventually_async("everything is delivered again", PATIENCE, || async {
            let now = pipeline.metric(worker, "telltale_messages_received_total");
            // Packs count as one each.
            (now - received >= if worker == "store" { COUNT as f64 } else { 1.0 }).then_some(())
        })
        .await;
        pipeline.at_rest(PATIENCE).await;
    }
    // The server's own way: the durable is there all the time.
    let received = pipeline.metric("store", "telltale_messages_received_total");
    let answer: serde_json::Value = js
        .request("CONSUMER.RESET.READINGS.store", &serde_json::json!({ "seq": 1 }))
        .await
        .unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
    eventually_async("everything is delivered once more", PATIENCE, || async {
        (pipeline.metric("store", "telltale_messages_received_total") - received >= COUNT as f64)
            .then_some(())
    })
    .await;
    send(&pipeline, COUNT, COUNT + 1);
    pipeline.until(READINGS, rows + 1, PATIENCE).await;
    let status = pipeline.at_rest(PATIENCE).await;

    assert_eq!(
        pipeline.count(READINGS).await,
        Some(rows + 1),
        "a replay adds no row"
    );
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    assert_eq!(status["balance"]["duplicate"], 0, "{status}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), COUNT + 1, "every id was seen");
    let most = seen.values().max().copied();
    assert!(
        most >= Some(2),
        "the replay came by here: whoever has effects keeps account of ids"
    );
}

/// The runtime's point behind the broker's confirmation of what a worker published.
const CONFIRMED: &str = "annotate.after_publish";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_when_the_broker_has_forgotten_it_is_twice_on_the_wire_and_one_row() {
    let folder = scratch("points").unwrap();
    let options = StackOptions {
        ack_wait: Some(Duration::from_secs(2)),
        env: vec![("TELLTALE_FAULT_DIR".into(), folder.display().to_string())],
        ..StackOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    let js = context(&pipeline).await;
    let stream = js.get_stream("READINGS").await.unwrap();
    let mut forgetful = stream.cached_info().config.clone();
    forgetful.duplicate_window = Duration::from_millis(100);
    js.update_stream(forgetful).await.unwrap();

    fs::write(folder.join(format!("{CONFIRMED}.armed")), "").unwrap();
    send(&pipeline, 0, 20);
    eventually_async("annotate is killed", PATIENCE, || async {
        folder.join(format!("{CONFIRMED}.fired")).exists().then_some(())
    })
    .await;
    pipeline.until(READINGS, 20, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    let stored = js
        .get_stream("READINGS")
        .await
        .unwrap()
        .cached_info()
        .state
        .messages;
    assert!(stored > 20, "nothing came twice: {stored}");
    assert_eq!(pipeline.count(READINGS).await, Some(20));
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    fs::remove_dir_all(folder).ok();
}
