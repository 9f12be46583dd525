//! Readings of which one in ten is bad, in ten ways. Ten thousand by hand: `TELLTALE_SIZE=whole`.
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use telltale_cli::stack::StackOptions;
use telltale_schemas::Timestamp;
use telltale_tests::{pipeline::Pipeline, size};

/// Reason and pointer that each way ends with. The pointer is that of the value at fault in the payload as it was sent.
const WAYS: [(&str, &str); 10] = [
    ("json", "/temperature"),
    ("duplicate_key", "/temperature"),
    // The 33rd level is the value of the 32nd `a`.
    (
        "depth",
        "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
    ),
    ("number", "/temperature"),
    ("type", "/temperature"),
    ("unit", "/0/u"),
    ("name", "/no such~1name~0"),
    ("time", "/time"),
    ("version", "/0/bver"),
    // The first of the records that are too many.
    ("records", "/1000"),
];

fn bad(way: usize) -> Vec<u8> {
    match way {
        0 => br#"{"temperature": 21."#.to_vec(),
        1 => br#"{"temperature": 1, "temperature": 2}"#.to_vec(),
        2 => format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33)).into_bytes(),
        3 => br#"{"temperature": 1e400}"#.to_vec(),
        4 => br#"{"temperature": "warm"}"#.to_vec(),
        5 => br#"[{"n":"temperature","u":"furlong","v":1}]"#.to_vec(),
        6 => br#"{"no such/name~": 1}"#.to_vec(),
        7 => {
            let ahead = Timestamp::now().plus_micros(3_600_000_000);
            json!({ "temperature": 1, "time": ahead.to_string() })
                .to_string()
                .into_bytes()
        }
        8 => br#"[{"bver":11,"n":"temperature","v":1}]"#.to_vec(),
        _ => {
            let records: Vec<Value> = (0..1001)
                .map(|i| json!({ "n": format!("p{i}"), "v": 1 }))
                .collect();
            Value::from(records).to_string().into_bytes()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_readings_the_bad_ones_are_kept_with_reason_and_pointer() {
    let total = size(3_000, 10_000);
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let entry = json!({ "thing": "t", "policy": { "properties": { "temperature": { "type": "number" } } } });
    let file = pipeline.stack.dir().join("things.json");
    std::fs::write(&file, entry.to_string()).unwrap();
    let put = pipeline.telltale(&["thing", "put", file.to_str().unwrap()]).await;
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));

    let next = AtomicUsize::new(0);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= total {
                            return;
                        }
                        let body = match n % 10 {
                            0 => bad(n / 10 % 10),
                            _ => format!(r#"{{"temperature": {}.5}}"#, n % 40).into_bytes(),
                        };
                        let answer = pipeline.http.post("/things/t/readings", &[], &body).unwrap();
                        assert_eq!(answer.status, 202, "number {n}: {answer:?}");
                    }
                });
            }
        });
    });
    pipeline.at_rest(Duration::from_secs(60)).await;
    let bad = i64::try_from(total / 10).unwrap();
    let good = "select count(*) from readings";
    assert_eq!(pipeline.count(good).await, Some(9 * bad));
    let kept = "select count(*) from quarantine";
    assert_eq!(pipeline.count(kept).await, Some(bad));
    let found = pipeline
        .rows(
            "select stage, protocol, publisher, reason, jsonb_array_length(errors), errors -> 0 ->> 'pointer', count(*) \
             from quarantine group by 1, 2, 3, 4, 5, 6",
        )
        .await;
    let each = total / 100;
    let wanted = WAYS.map(|(reason, pointer)| format!("validate|http|gateway|{reason}|1|{pointer}|{each}"));
    assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_the_door_leaves_nothing() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let stranger = telltale_tests::http::Client::new(
        pipeline.stack.env("BRIDGE_URL").to_owned(),
        Some("gateway.wrong".into()),
    );
    let nobody = telltale_tests::http::Client::new(pipeline.stack.env("BRIDGE_URL"), None);
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(256 * 1024));
    let ok = br#"{"temperature":1}"#;
    for n in 0..100 {
        let (answer, wanted) = match n % 4 {
            0 => (nobody.post("/things/t/readings", &[], ok), 401),
            1 if n < 8 => (stranger.post("/things/t/readings", &[], ok), 401),
            1 => (
                pipeline
                    .http
                    .post("/things/t/readings", &[("Content-Encoding", "gzip")], ok),
                415,
            ),
            2 => (pipeline.http.post("/things/t/readings", &[], big.as_bytes()), 413),
            _ => (pipeline.http.post("/things/_pack/readings", &[], ok), 404),
        };
        let answer = answer.unwrap();
        assert_eq!(answer.status, wanted, "number {n}: {answer:?}");
        assert_eq!(answer.content_type, "application/problem+json");
    }
    let answer = pipeline.http.post("/things/t/readings", &[], ok).unwrap();
    assert_eq!(answer.status, 202, "the door is open to those who may");
    pipeline.at_rest(Duration::from_secs(20)).await;
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(1));
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
}
