//! `telltale rule test` on what a running pipeline was given prints what the pipeline published for it.
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_nats::client;
use telltale_schemas::Timestamp;
use telltale_tests::{eventually_async, pipeline::Pipeline};

const SOON: Duration = Duration::from_secs(30);

fn rules() -> Value {
    json!([
        {"name": "rises", "when": "x > previous[\"x\"]", "then": [{"event": "rises", "detail": {"x": "x"}}]},
        {"name": "high", "when": "x > 8.0", "for": "2s", "severity": "minor", "then": [{"event": "high", "detail": {"x": "x"}}]},
        {"name": "sums", "window": {"of": "x", "every": "5s", "functions": ["sum", "count"]}},
        {"name": "changes", "on_change": {"of": "x", "deadband": 1.5}},
        // What is derived is heard again: once by another rule, and by the same one until it is enough.
        {"name": "twice", "when": "x > 4.0", "then": [{"derive": "y", "value": "x * 2.0"}]},
        {"name": "y-high", "when": "y > 15.0", "then": [{"event": "y_high", "detail": {"y": "y"}}]},
        {"name": "more", "when": "z > 0.0", "then": [{"derive": "z", "value": "z + 1.0"}]},
        {"name": "all-z", "window": {"of": "z", "every": "5s", "functions": ["sum"]}},
        {"name": "sum-high", "when": "z_sum_5s > 0.0", "then": [{"event": "sum_high", "detail": {"sum": "z_sum_5s"}}]},
    ])
}

/// The messages of a stream on that lane, in its order.
async fn messages(pipeline: &Pipeline, stream: &str, lane: &str) -> Vec<Value> {
    let nats = pipeline.stack.context().unwrap().nats().await.unwrap();
    let stream = client::context(nats).get_stream(stream).await.unwrap();
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let mut found = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if message.subject.starts_with(lane) {
            found.push(serde_json::from_slice(&message.payload).unwrap());
        }
    }
    found
}

/// By id, what the pipeline says: as `rule test` prints it.
async fn published(pipeline: &Pipeline) -> BTreeMap<String, Value> {
    let mut published = BTreeMap::new();
    for (stream, lane) in [("EVENTS", "event."), ("READINGS", "derived.")] {
        for message in messages(pipeline, stream, lane).await {
            let data = &message["data"];
            let (kind, name, told) = if lane == "event." {
                let mut detail = data.as_object().unwrap().clone();
                let name = detail.remove("name").unwrap();
                (
                    "event",
                    name,
                    detail.remove("detail").unwrap_or_else(|| json!({})),
                )
            } else {
                let records = data["records"].as_array().unwrap().iter();
                let names: Vec<&str> = records.map(|record| record["n"].as_str().unwrap()).collect();
                ("derivation", json!(names.join(" ")), data["records"].clone())
            };
            let row = json!({
                "time": message["time"], "thing": message["subject"], "kind": kind, "name": name, "data": told,
                "id": message["id"],
            });
            published.insert(message["id"].as_str().unwrap().to_owned(), row);
        }
    }
    published
}

async fn send(pipeline: &Pipeline, thing: &str, time: Timestamp, name: &str, value: u32) {
    let (client, path) = (pipeline.http.clone(), format!("/things/{thing}/readings"));
    let body = json!({"time": time, name: value}).to_string();
    let post = move || client.post(&path, &[("content-type", "application/json")], body.as_bytes());
    let answer = tokio::task::spawn_blocking(post).await.unwrap().unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Waits until an event of that name with that detail is published.
async fn told(pipeline: &Pipeline, name: &str, key: &str, value: f64) {
    eventually_async(&format!("{name} of {value}"), SOON, || async {
        let published = published(pipeline).await;
        let mut rows = published.values();
        rows.find(|row| row["name"] == name && row["data"][key] == value)
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_test_prints_what_the_pipeline_published_for_the_same_readings() {
    let pipeline = Pipeline::start(StackOptions::default()).await;
    pipeline.apply("tried", &rules().to_string()).await;
    let all = rules().as_array().unwrap().len() as f64;
    eventually_async("the rules are in force", SOON, || async {
        (pipeline.metric("process", "telltale_process_rules") >= all).then_some(())
    })
    .await;
    // An hour ago, at the beginning of a window.
    let begin = Timestamp::now().as_micros() / 5_000_000 * 5_000_000 - 3_600_000_000;
    let at = |millis: i64| Timestamp::from_micros(begin + millis * 1_000).unwrap();
    for (millis, x) in [(0, 1), (2_000, 5), (1_000, 3)] {
        send(&pipeline, "a", at(millis), "x", x).await;
    }
    send(&pipeline, "b", at(0), "z", 1).await;
    // Put in order: 3 is after 1, and 5 after 3.
    told(&pipeline, "rises", "x", 5.0).await;
    // Too late for that.
    send(&pipeline, "a", at(500), "x", 7).await;
    send(&pipeline, "a", at(4_000), "x", 9).await;
    told(&pipeline, "y_high", "y", 18.0).await;
    told(&pipeline, "high", "x", 9.0).await;
    eventually_async("both windows are told", SOON, || async {
        let sums = published(&pipeline)
            .await
            .into_keys()
            .filter(|id| id == &format!("sums:a:{begin}") || id == &format!("all-z:b:{begin}"));
        (sums.count() == 2).then_some(())
    })
    .await;
    let mut lines = String::new();
    for message in messages(&pipeline, "READINGS", "annotated.").await {
        lines += &message.to_string();
        lines.push('\n');
    }
    let (rules_file, readings) = (
        pipeline.stack.dir().join("tried.rule.json"),
        pipeline.stack.dir().join("readings.ndjson"),
    );
    std::fs::write(&readings, lines).unwrap();
    let files = [rules_file.to_str().unwrap(), readings.to_str().unwrap()];
    let tried = pipeline
        .telltale(&["rule", "test", files[0], "--readings", files[1], "-o", "ndjson"])
        .await;
    assert!(
        tried.status.success(),
        "{}",
        String::from_utf8_lossy(&tried.stderr)
    );
    let text = String::from_utf8(tried.stdout).unwrap();
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let tried: BTreeMap<String, Value> = rows
        .map(|row| (row["id"].as_str().unwrap().to_owned(), row))
        .collect();
    assert_eq!(text.lines().count(), tried.len(), "each once: {text}");
    let published = published(&pipeline).await;
    assert_eq!(tried, published);
    let derived = published.keys().filter(|id| id.contains(".process.more")).count();
    assert_eq!(derived, 8, "the limit of hops is the same");
}
