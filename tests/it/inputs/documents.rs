//! B1 to B9, B11: documents.
use crate::faults::{PATIENCE, resident};
use telltale_cli::stack::StackOptions;
use telltale_tests::pipeline::Pipeline;

/// Number, content type, body, and the reason under which it is kept.
fn cases() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let json = "application/json";
    let cbor = "application/senml+cbor";
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels)).into_bytes();
    let keys: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\":1")).collect();
    vec![
        ("b1", json, nested(129), "depth"),
        ("b1", json, "[".repeat(100_000).into_bytes(), "depth"),
        (
            "b2",
            json,
            br#"{"temperature":1,"temper\u0061ture":2}"#.to_vec(),
            "duplicate_key",
        ),
        (
            "b3",
            json,
            br#"{"temperature":9007199254740993}"#.to_vec(),
            "number",
        ),
        ("b3", json, br#"{"temperature":-1e400}"#.to_vec(), "number"),
        ("b4", json, br#"{"text":"a\u0000b"}"#.to_vec(), "json"),
        ("b5", json, br#"{"text":"\ud800"}"#.to_vec(), "json"),
        ("b5", json, b"{\"text\":\"\xc0\xaf\"}".to_vec(), "utf8"),
        ("b5", json, b"\xff\xfe{\0}\0".to_vec(), "utf8"),
        (
            "b6",
            json,
            br#"{"temperature":1}{"temperature":2}"#.to_vec(),
            "json",
        ),
        ("b6", json, br#"{"temperature":1,}"#.to_vec(), "json"),
        (
            "b7",
            json,
            format!("{{{}}}", keys.join(",")).into_bytes(),
            "records",
        ),
        ("b8", cbor, [&[0x9b][..], &[0xff; 8]].concat(), "cbor"),
        ("b8", cbor, [&[0x81][..], &[0x9f; 100_000]].concat(), "depth"),
        (
            "b9",
            "application/senml+json",
            br#"[{"bver":11,"n":"a","v":1}]"#.to_vec(),
            "version",
        ),
        (
            "b11",
            "application/cloudevents+json",
            br#"{"specversion":"1.0","source":"/x","type":"x","data":{"temperature":1}}"#.to_vec(),
            "cloudevent",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_document_is_kept_under_its_reason_and_the_next_reading_is_a_row() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let pids = ["bridge", "validate"].map(|name| pipeline.stack.pid(name).unwrap());
    let before = pids.map(resident);
    let cases = cases();
    for (thing, content_type, body, reason) in &cases {
        let path = format!("/things/{thing}/readings");
        let answer = pipeline
            .http
            .post(&path, &[("Content-Type", content_type)], body)
            .unwrap();
        assert_eq!(answer.status, 202, "{thing} {reason}: {answer:?}");
        let good = pipeline.http.post(&path, &[], br#"{"temperature":1}"#).unwrap();
        assert_eq!(good.status, 202, "{thing}: {good:?}");
    }
    let count = i64::try_from(cases.len()).unwrap();
    pipeline
        .until("select count(*) from readings", count, PATIENCE)
        .await;
    pipeline
        .until("select count(*) from quarantine", count, PATIENCE)
        .await;
    for (thing, _, _, reason) in &cases {
        let kept = format!(
            "select count(*) from quarantine where thing = '{thing}' and reason = '{reason}' \
             and errors -> 0 ->> 'pointer' is not null and attempts = 1"
        );
        assert!(pipeline.count(&kept).await > Some(0), "{thing} {reason}");
    }
    for (before, pid) in before.into_iter().zip(pids) {
        let grown = resident(pid).saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more for a megabyte of input");
    }
    pipeline.at_rest(PATIENCE).await;
}
