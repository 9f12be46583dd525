//! What an operator does, and one who is to be told of each reading once.
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::{collections::HashMap, process::Output, time::Duration};
use telltale_nats::async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
};
use telltale_tests::{load::Load, pipeline::Pipeline};

/// Numbers, each under a key of its own, in turn from that many things.
pub(crate) fn load(count: usize, things: usize) -> Vec<Load> {
    let load = |n: usize| Load {
        thing: format!("t{}", n % things),
        key: format!("k{n}"),
        payload: format!(r#"{{"temperature":{n}}}"#).into(),
    };
    (0..count).map(load).collect()
}

/// Says of what type the temperature of these things is, and waits until that is gone by.
pub(crate) async fn put_type(pipeline: &Pipeline, things: &[String], kind: &str) {
    let entry =
        |thing: &String| json!({"thing": thing, "policy": {"properties": {"temperature": {"type": kind}}}});
    let text: Vec<String> = things.iter().map(|thing| entry(thing).to_string()).collect();
    let file = pipeline.stack.dir().join("things.ndjson");
    std::fs::write(&file, text.join("\n")).unwrap();
    let put = pipeline.telltale(&["thing", "put", file.to_str().unwrap()]).await;
    assert!(put.status.success(), "{}", told(&put));
}

pub(crate) fn told(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The first row of what `telltale quarantine …` prints as JSON.
pub(crate) async fn quarantine(pipeline: &Pipeline, arguments: &[&str]) -> Value {
    let output = pipeline
        .telltale(&[&["quarantine"], arguments, &["-o", "json"]].concat())
        .await;
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    rows[0].clone()
}

pub(crate) async fn replay(pipeline: &Pipeline, arguments: &[&str]) -> Value {
    quarantine(pipeline, &[&["replay"], arguments].concat()).await
}

/// The operator's view of the streams.
pub(crate) async fn streams(pipeline: &Pipeline) -> jetstream::Context {
    let nats = pipeline.stack.context().unwrap().nats().await.unwrap();
    telltale_nats::client::context(nats)
}

/// Counts how often it is told of each id, as one who notifies would be told.
pub(crate) struct Counting {
    js: jetstream::Context,
    durable: PullConsumer,
}

impl Counting {
    pub(crate) async fn start(pipeline: &Pipeline) -> Self {
        let js = streams(pipeline).await;
        let stream = js.get_stream("READINGS").await.unwrap();
        let config = pull::Config {
            durable_name: Some("counting".into()),
            filter_subject: "annotated.>".into(),
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        };
        let durable = stream.create_consumer(config).await.unwrap();
        Self { js, durable }
    }

    /// Everything that passed so far, at least that many messages; then it goes, as a durable that nobody reads would
    /// be a fault.
    pub(crate) async fn all(self, least: usize) -> HashMap<String, usize> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut count = 0;
        while count < least || self.pending().await > 0 {
            let batch = self.durable.fetch().max_messages(1_000).messages().await.unwrap();
            let messages: Vec<_> = tokio::time::timeout(Duration::from_secs(60), batch.try_collect())
                .await
                .expect("it is told of them all")
                .unwrap();
            for message in messages {
                let document: Value = serde_json::from_slice(&message.payload).unwrap();
                *seen
                    .entry(document["id"].as_str().unwrap().to_owned())
                    .or_default() += 1;
                count += 1;
            }
        }
        let stream = self.js.get_stream("READINGS").await.unwrap();
        stream.delete_consumer("counting").await.unwrap();
        seen
    }

    async fn pending(&self) -> u64 {
        self.durable.clone().info().await.unwrap().num_pending
    }
}

/// Messages in a stream.
pub(crate) async fn left_in(pipeline: &Pipeline, stream: &str) -> u64 {
    let stream = streams(pipeline).await.get_stream(stream).await.unwrap();
    stream.cached_info().state.messages
}
