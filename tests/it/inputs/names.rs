//! B14 to B17: names and subjects.
use super::readings_of;
use crate::faults::{PATIENCE, connect};
use serde_json::json;
use telltale_cli::stack::StackOptions;
use telltale_nats::Name;
use telltale_tests::pipeline::Pipeline;

const GOOD: &[u8] = br#"{"temperature":1}"#;

/// Past the bridge, where the subject is the name. Says how many were kept.
async fn other_spellings(pipeline: &mut Pipeline) -> i64 {
    let client = connect(pipeline, "client").await;
    let wrong = ["=", "=4", "=zz", "=2e", "=41", "_pack", "$JS", "a=2eb", "a=0Ab"];
    assert!(wrong.iter().all(|token| Name::from_token(token).is_err()));
    for token in wrong {
        // No name of ours has such a token, so no subject of ours either.
        let subject = ["raw", "local", token].join(".");
        client
            .publish_with_headers(subject, telltale_nats::async_nats::HeaderMap::new(), GOOD.into())
            .await
            .unwrap();
    }
    // Not as many tokens as a subject has: no such right.
    for subject in [
        "raw.local.a.b",
        "raw.local.a.b.c",
        "raw.local",
        "raw.elsewhere.a",
        "raw._INBOX.a",
    ] {
        client
            .publish_with_headers(subject, telltale_nats::async_nats::HeaderMap::new(), GOOD.into())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
    let kept = i64::try_from(wrong.len()).unwrap();
    pipeline
        .until(
            "select count(*) from quarantine where reason = 'subject'",
            kept,
            PATIENCE,
        )
        .await;
    kept
}

/// What the body says of itself must be true.
async fn another_subject(pipeline: &mut Pipeline) {
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/x", "type": "x", "subject": "another", "data": { "a": 1 } });
    let headers = [("Content-Type", "application/cloudevents+json")];
    let answer = pipeline
        .http
        .post(&readings_of("own"), &headers, event.to_string().as_bytes())
        .unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let query = "select count(*) from quarantine where thing = 'own' and reason = 'subject' \
                 and errors -> 0 ->> 'pointer' = '/subject'";
    pipeline.until(query, 1, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_has_one_spelling_and_what_is_none_leaves_nothing() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let names = [
        "a.b",
        "*",
        ">",
        "$JS",
        "..",
        "=",
        "=4",
        "=zz",
        "=2e",
        "=41",
        "A",
        "a",
        "$SYS",
        "$KV",
        "api",
        "raw.local.x",
        "a b",
    ];
    for name in names {
        let answer = pipeline.http.post(&readings_of(name), &[], GOOD).unwrap();
        assert_eq!(answer.status, 202, "{name}: {answer:?}");
    }
    let long = "x".repeat(300);
    for name in [
        "",
        "_pack",
        "_INBOX",
        &long,
        "é\u{202e}\u{301}".repeat(20).as_str(),
    ] {
        let answer = pipeline.http.post(&readings_of(name), &[], GOOD).unwrap();
        assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
    }
    let rows = i64::try_from(names.len()).unwrap();
    pipeline
        .until("select count(*) from readings", rows, PATIENCE)
        .await;
    for name in names {
        let query = format!("select count(*) from readings where thing = '{name}'");
        assert_eq!(pipeline.count(&query).await, Some(1), "{name}");
    }

    let kept = other_spellings(&mut pipeline).await;
    another_subject(&mut pipeline).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(
        pipeline.count("select count(*) from quarantine").await,
        Some(kept + 1)
    );
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(rows));
}
