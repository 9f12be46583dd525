//! B18, B20, B21, B23: what a client of the broker may try. B19 and B22 are in `roads/membrane.rs`.
use crate::faults::{PATIENCE, connect, ready};
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_nats::{
    Lane,
    async_nats::{HeaderMap, Request},
};
use telltale_tests::pipeline::Pipeline;

const TRACES: [&str; 10] = [
    "",
    "00",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
    "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
];

/// Headers that would command the broker.
const COMMANDS: [(&str, &str); 11] = [
    ("Nats-Rollup", "all"),
    ("Nats-TTL", "1s"),
    ("Nats-Schedule", "@every 1s"),
    ("Nats-Schedule-Target", "command.local.t.open"),
    ("Nats-Expected-Stream", "COMMANDS"),
    ("Nats-Expected-Last-Sequence", "99999"),
    ("Nats-Batch-Id", "b"),
    ("Nats-Batch-Sequence", "1"),
    ("Nats-Trace-Dest", "command.local.t.open"),
    ("Nats-Msg-Id", ""),
    ("Nats-Msg-Id", "t:1"),
];

/// Questions to everybody, malformed ones, and one reading in the end.
async fn flood(pipeline: &Pipeline) {
    let another = connect(pipeline, "client").await;
    for _ in 0..200 {
        another
            .publish_with_headers("$SRV.PING", HeaderMap::new(), "".into())
            .await
            .unwrap();
        another
            .publish_with_headers("api.local.validate.holds", HeaderMap::new(), "{".into())
            .await
            .unwrap();
    }
    let body = "x".repeat(1_000_000);
    let request = Request::new()
        .payload(body.into())
        .timeout(Some(Duration::from_secs(5)));
    another
        .send_request("api.local.validate.holds", request)
        .await
        .ok();
    another
        .publish_with_headers("raw.local.last", HeaderMap::new(), r#"{"temperature":1}"#.into())
        .await
        .unwrap();
    another.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_sizes_and_floods_from_a_client_harm_nobody() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let client = connect(&pipeline, "client").await;
    let publish = async |thing: &str, name: &str, value: &str, body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        if !name.is_empty() {
            headers.insert(name, value);
        }
        let subject = telltale_tests::subject(Lane::Raw, thing, "");
        client
            .publish_with_headers(subject, headers, body.into())
            .await
            .is_ok()
    };
    let reading = || br#"{"temperature":1}"#.to_vec();
    let long = "x".repeat(10_000);
    for (name, value) in COMMANDS {
        publish("hostile", name, value, reading()).await;
    }
    for name in ["Nats-Msg-Id", "tracestate"] {
        publish("hostile", name, &long, reading()).await;
    }
    for trace in TRACES {
        assert!(publish("traced", "traceparent", trace, reading()).await);
    }
    // A payload has a size; what is too large for the broker costs its sender the connection, and nobody else.
    let sized = |bytes: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - 11)).into_bytes();
    for (thing, bytes) in [("fits", 256 * 1024), ("large", 256 * 1024 + 1)] {
        assert!(publish(thing, "", "", sized(bytes)).await);
    }
    assert!(publish("empty", "", "", vec![]).await);
    publish("larger", "", "", sized((1 << 20) + 1)).await;
    client.flush().await.ok();

    flood(&pipeline).await;

    let rows = |thing: &str| format!("select count(*) from readings where thing = '{thing}'");
    pipeline.until(&rows("last"), 1, PATIENCE).await;
    let traced = i64::try_from(TRACES.len()).unwrap();
    pipeline.until(&rows("traced"), traced, PATIENCE).await;
    pipeline.until(&rows("fits"), 1, PATIENCE).await;
    for (thing, reason) in [("large", "size"), ("empty", "json")] {
        let kept = format!("select count(*) from quarantine where thing = '{thing}' and reason = '{reason}'");
        pipeline.until(&kept, 1, PATIENCE).await;
    }
    assert_eq!(pipeline.count(&rows("larger")).await, Some(0));
    assert_eq!(
        pipeline.count("select count(*) from outcomes").await,
        Some(0),
        "nothing was commanded"
    );
    let status = pipeline.at_rest(PATIENCE).await;
    assert_eq!(status["balance"]["missing"], 0, "{status}");
    for name in ["bridge", "validate", "annotate", "store"] {
        ready(&pipeline, name).await;
    }
    for name in ["bridge", "validate", "annotate", "store"] {
        assert_eq!(pipeline.stack.restarts(name), 0, "{name} lives");
    }
}
