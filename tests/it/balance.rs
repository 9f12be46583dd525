//! The balance: true while messages are under way, exact at rest, and whatever is lost is named.
use bytes::Bytes;
use serde_json::Value;
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use telltale_cli::stack::StackOptions;
use telltale_nats::{async_nats::jetstream, client};
use telltale_tests::{
    eventually_async,
    load::{self, Load},
    pipeline::Pipeline,
};

const SOON: Duration = Duration::from_secs(90);
/// Sent without a pause, and again as many until enough was seen, whatever the machine.
const LOADS: usize = 1_000;

async fn status(pipeline: &Pipeline) -> Value {
    let output = pipeline.telltale(&["status", "-o", "json"]).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

async fn streams(pipeline: &Pipeline) -> jetstream::Context {
    client::context(pipeline.stack.context().unwrap().nats().await.unwrap())
}

fn send(pipeline: &Pipeline, thing: &str, count: usize) {
    for n in 0..count {
        let body = format!(r#"{{"temperature":{n}}}"#);
        let path = format!("/things/{thing}/readings");
        let answer = pipeline.http.post(&path, &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

async fn last(js: &jetstream::Context, stream: &str) -> u64 {
    js.get_stream(stream)
        .await
        .unwrap()
        .cached_info()
        .state
        .last_sequence
}

/// Waits until something comes to a stream after that sequence.
async fn comes(js: &jetstream::Context, stream: &str, after: u64) -> u64 {
    eventually_async(stream, SOON, || async {
        let last = last(js, stream).await;
        (last > after).then_some(last)
    })
    .await
}

/// What is missing of this RAW, once that many are.
async fn missing(pipeline: &Pipeline, count: i64) -> Value {
    eventually_async(&format!("{count} are missing"), SOON, || async {
        let status = status(pipeline).await;
        (status["balance"]["missing"] == count && status["balance"]["in_flight"] == 0).then_some(status)
    })
    .await
}

/// The metric of `store` for all of a site's lives.
async fn metric(pipeline: &Pipeline, name: &str, wanted: f64) {
    eventually_async(name, SOON, || async {
        let (found, wanted) = (pipeline.metric("store", name), wanted);
        ((found - wanted).abs() < 0.5).then_some(())
    })
    .await;
}

/// Each is sent twice, and of five such pairs one has a second half that cannot be decoded.
fn loads(from: usize) -> Vec<Load> {
    (from..from + LOADS)
        .map(|n| Load {
            thing: format!("load-{}", n / 2 % 100),
            key: format!("k{}", n / 2),
            payload: Bytes::from(if n % 10 == 9 {
                "no JSON".to_owned()
            } else {
                format!(r#"{{"temperature":{}}}"#, n / 2)
            }),
        })
        .collect()
}

/// The parts of a balance but what is missing.
fn sum(balance: &Value) -> i64 {
    let parts = [
        "stored",
        "duplicate",
        "quarantined",
        "unkept",
        "removed",
        "in_flight",
    ];
    parts.iter().map(|part| balance[*part].as_i64().unwrap()).sum()
}

/// Ends the load, also where the test fails: it would be waited for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_nothing_is_missing_and_at_rest_the_balance_is_exact() {
    let mut pipeline = Pipeline::start(StackOptions {
        // What a killed one had in hand comes again no earlier.
        ack_wait: Some(Duration::from_secs(5)),
        ..StackOptions::default()
    })
    .await;
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut looks, mut flying) = (0, 0);
    std::thread::scope(|scope| {
        let (client, over, sent) = (pipeline.http.clone(), &over, &sent);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let done = load::over_http(&client, &loads(sent.load(Ordering::Relaxed)), 16);
                sent.fetch_add(done.accepted, Ordering::Relaxed);
            }
        });
        let _over = Over(over);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while looks < 5 || (flying == 0 && looks < 100) {
                    if looks == 1 {
                        pipeline.kill("annotate", SOON).await;
                    }
                    if looks == 2 {
                        pipeline.kill("store", SOON).await;
                    }
                    let status = status(&pipeline).await;
                    let balance = &status["balance"];
                    assert_eq!(balance["missing"], 0, "{status}");
                    assert_eq!(balance["accepted"], sum(balance), "{status}");
                    assert!(pipeline.metric("store", "telltale_balance_missing").abs() < 0.5);
                    flying += i64::from(balance["in_flight"].as_i64().unwrap() > 0);
                    looks += 1;
                }
            });
        });
    });
    assert!(flying > 0, "something was under way");
    let all = i64::try_from(sent.into_inner()).unwrap();
    let (rows, refused) = (all / 2, all / 10);
    let status = eventually_async("all is settled", SOON, || async {
        let status = pipeline.at_rest(SOON).await;
        (status["balance"]["settled"] == status["balance"]["accepted"]).then_some(status)
    })
    .await;
    let balance = &status["balance"];
    let found = ["stored", "duplicate", "quarantined"].map(|fate| balance[fate].as_i64().unwrap());
    let sent_again = balance["accepted"].as_i64().unwrap() - all;
    assert_eq!(
        found,
        [rows, all - rows - refused + sent_again, refused],
        "{status}"
    );
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(rows));
    assert_eq!(
        pipeline.count("select count(*) from quarantine").await,
        Some(refused)
    );
    metric(&pipeline, "telltale_balance_in_flight", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_on_the_way_is_named_and_can_be_written_off() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = streams(&pipeline).await;
    send(&pipeline, "first", 3);
    pipeline.until("select count(*) from readings", 3, SOON).await;

    // Deleted before annotate has read it: VALID has nothing, nor has what comes after.
    pipeline.stack.stop_one("annotate").await.unwrap();
    let before = last(&js, "VALID").await;
    send(&pipeline, "lost", 1);
    let valid = comes(&js, "VALID", before).await;
    let stream = js.get_stream("VALID").await.unwrap();
    stream.delete_message(valid).await.unwrap();
    pipeline.stack.start_one("annotate").await.unwrap();

    // Deleted before store has read it: VALID still has it.
    pipeline.stack.stop_one("store").await.unwrap();
    let before = last(&js, "READINGS").await;
    send(&pipeline, "found", 1);
    let readings = comes(&js, "READINGS", before).await;
    let stream = js.get_stream("READINGS").await.unwrap();
    stream.delete_message(readings).await.unwrap();
    pipeline.stack.start_one("store").await.unwrap();
    send(&pipeline, "after", 1);

    let told = missing(&pipeline, 2).await;
    let lost = &told["balance"]["lost"];
    assert_eq!(
        (&lost[0]["sequence"], &lost[0]["last_seen"]),
        (&4.into(), &Value::Null),
        "{told}"
    );
    assert_eq!(
        (&lost[1]["sequence"], &lost[1]["last_seen"], &lost[1]["thing"]),
        (&5.into(), &"VALID".into(), &"found".into()),
        "{told}"
    );
    assert_eq!(told["holes"]["READINGS"], readings.to_string());
    metric(&pipeline, "telltale_balance_missing", 2.0).await;
    let text = pipeline.telltale(&["status", "-o", "table"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("missing 2") && text.contains("VALID"), "{text}");

    let refused = pipeline.telltale(&["status", "--write-off", "3..5"]).await;
    assert_eq!(refused.status.code(), Some(1), "3 is stored");
    let done = pipeline
        .telltale(&["status", "--write-off", "4..5", "--note", "a test"])
        .await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let well = pipeline.at_rest(SOON).await;
    assert_eq!(
        (&well["balance"]["removed"], &well["balance"]["missing"]),
        (&2.into(), &0.into())
    );
    metric(&pipeline, "telltale_balance_missing", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_stream_that_was_purged_or_made_anew_is_missed() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = streams(&pipeline).await;
    send(&pipeline, "kept", 2);
    pipeline.until("select count(*) from readings", 2, SOON).await;
    pipeline.stack.stop_one("validate").await.unwrap();
    send(&pipeline, "purged", 3);
    js.get_stream("RAW").await.unwrap().purge().await.unwrap();
    let told = missing(&pipeline, 3).await;
    assert_eq!(told["balance"]["missing_sequences"], "3..5", "{told}");
    assert_eq!(told["balance"]["lost"][0]["last_seen"], Value::Null);

    send(&pipeline, "gone", 2);
    // The greatest sequence of this life must have been seen, else nobody can know of it.
    pipeline.at_least("select max(last) from epochs", 7, SOON).await;
    let old = told["balance"]["epoch"].as_u64().unwrap();
    js.delete_stream("RAW").await.unwrap();
    let made = pipeline.telltale(&["provision"]).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pipeline.stack.start_one("validate").await.unwrap();
    send(&pipeline, "new", 1);
    pipeline.until("select count(*) from readings", 3, SOON).await;
    metric(&pipeline, "telltale_balance_missing", 5.0).await;
    let told = missing(&pipeline, 0).await;
    assert_eq!(
        (&told["balance"]["accepted"], &told["balance"]["stored"]),
        (&1.into(), &1.into())
    );
    let before = &told["other_balances"][0];
    assert_eq!(
        (&before["epoch"], &before["missing"]),
        (&old.into(), &5.into()),
        "{told}"
    );
    assert_eq!(before["missing_sequences"], "3..7");
    assert_eq!(told["healthy"], false);

    let epoch = old.to_string();
    let off = ["status", "--write-off", "3..7", "--epoch", &epoch];
    assert!(pipeline.telltale(&off).await.status.success());
    pipeline.at_rest(SOON).await;
}
