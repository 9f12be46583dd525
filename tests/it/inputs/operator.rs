//! B10, B12, B13, B65 to B67: what reaches those who operate it, and what they are given to enter.
use super::readings_of;
use crate::faults::{PATIENCE, log};
use serde_json::json;
use telltale_cli::stack::StackOptions;
use telltale_tests::pipeline::Pipeline;

const HOSTILE: &str =
    "\u{1b}]8;;http://evil\u{7}\u{1b}[2J<img src=x onerror=alert(1)>\r\n2026 ERROR forged\u{202e}";

fn tame(what: &str, text: &str) {
    let wild = text
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(wild, None, "in {what}:\n{text}");
    assert!(
        !text.lines().any(|line| line.starts_with("2026 ERROR")),
        "in {what}:\n{text}"
    );
}

/// What commands print, what is logged, and metrics; none of it commands a terminal.
async fn all_that_is_told(pipeline: &Pipeline) -> Vec<String> {
    let mut told = vec![];
    for arguments in [
        &["quarantine", "list"][..],
        &["sql", "select thing, value_text from readings"],
        &[
            "sql",
            "-o",
            "csv",
            "select value_text from readings where thing = 'sheet'",
        ],
        &["status"],
    ] {
        let output = pipeline.telltale(arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        tame(&arguments.join(" "), &text);
        if arguments.contains(&"csv") {
            assert!(text.contains("\"=cmd()\""), "{text}");
        }
        told.push(text);
    }
    for id in pipeline.rows("select id from quarantine").await {
        let output = pipeline.telltale(&["quarantine", "show", &id]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        tame("quarantine show", &text);
        told.push(text);
    }
    for name in ["bridge", "validate", "annotate", "store"] {
        let text = log(pipeline, name);
        tame(name, &text);
        assert!(
            text.lines().all(|line| line.starts_with("20")),
            "one line for one event: {text}"
        );
        told.push(text);
        told.push(pipeline.health(name).get("/metrics").unwrap().1);
    }
    told
}

/// What nobody may be told.
fn secrets(pipeline: &Pipeline) -> Vec<String> {
    let mut secrets: Vec<String> = [
        "BRIDGE_TOKEN",
        "MQTT_PASSWORD",
        "DATABASE_ADMIN_URL",
        "DATABASE_URL",
        "QUERY_DATABASE_URL",
    ]
    .iter()
    .map(|name| pipeline.stack.env(name))
    .map(|value| {
        value
            .rsplit_once('@')
            .map_or(value, |(user, _)| user.rsplit(':').next().unwrap())
            .to_owned()
    })
    .collect();
    for user in ["bridge", "validate", "store"] {
        let seed = std::fs::read_to_string(pipeline.stack.layout().seed(user)).unwrap();
        secrets.push(seed.trim().to_owned());
    }
    secrets.push("PLANTED0SECRET".to_owned());
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_and_no_terminal_obeys_a_device_or_tells_a_secret() {
    let options = StackOptions {
        env: vec![("TELLTALE_LOG".to_owned(), "telltale=debug,info".to_owned())],
        ..StackOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    let forged = readings_of("a\n2026 ERROR forged\u{1b}[31m");
    assert_eq!(pipeline.http.post(&forged, &[], b"{}").unwrap().status, 404);
    let readings = "/things/t/readings".to_owned();
    for body in [
        json!({ "text": HOSTILE }).to_string(),
        format!("{{\"{}\":", "x".repeat(100)),
        json!({ HOSTILE: 1 }).to_string(),
    ] {
        let answer = pipeline
            .http
            .post(&readings, &[("User-Agent", "evil\u{9}agent")], body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let formula = pipeline
        .http
        .post("/things/sheet/readings", &[], br#"{"text":"=cmd()"}"#);
    assert_eq!(formula.unwrap().status, 202);
    let planted = "gateway.PLANTED0SECRET";
    let stranger = telltale_tests::http::Client::new(pipeline.stack.env("BRIDGE_URL"), Some(planted.into()));
    assert_eq!(stranger.post(&readings, &[], b"{}").unwrap().status, 401);
    let guess = format!("{readings}?token=PLANTED0SECRET");
    pipeline.http.post(&guess, &[], b"{").unwrap();
    pipeline.until("select count(*) from readings", 2, PATIENCE).await;
    pipeline
        .until("select count(*) from quarantine", 3, PATIENCE)
        .await;

    let told = all_that_is_told(&pipeline).await;
    let secrets = secrets(&pipeline);
    let headers = pipeline.rows("select headers::text from quarantine").await;
    for text in told.iter().chain(&headers) {
        for secret in &secrets {
            assert!(
                !secret.is_empty() && !text.contains(secret.as_str()),
                "a secret is told:\n{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_description_of_a_thing_is_refused_and_the_one_before_holds() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let file = pipeline.stack.dir().join("thing.json");
    let path = file.to_string_lossy().into_owned();
    let with = |property: serde_json::Value| json!({ "thing": "t", "policy": { "properties": { "temperature": property } } });
    std::fs::write(&file, with(json!({ "type": "number" })).to_string()).unwrap();
    assert!(pipeline.telltale(&["thing", "put", &path]).await.status.success());
    for (entry, pointer) in [
        (with(json!({ "pattern": "(a+)+$" })), "pattern"),
        (with(json!({ "multipleOf": 1e-300 })), "multipleOf"),
        (with(json!({ "$ref": "http://127.0.0.1:1/x" })), "$ref"),
        (with(json!({ "$ref": "file:///etc/passwd" })), "$ref"),
        (with(json!({ "$ref": "#" })), "$ref"),
        (with(json!({ "enum": ["x".repeat(1 << 20)] })), "too large"),
        (with(json!({ "minimum": 2, "maximum": 1 })), "minimum"),
        (with(json!({ "unit": "furlong" })), "unit"),
        (
            json!({ "thing": "t", "$schema": "http://127.0.0.1:1/x" }),
            "$schema",
        ),
        (json!({ "thing": "_t" }), "thing"),
    ] {
        std::fs::write(&file, entry.to_string()).unwrap();
        let output = pipeline.telltale(&["thing", "put", &path]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{pointer}: {said}");
        assert!(said.contains(pointer) && said.len() < 4_096, "{pointer}: {said}");
    }
    for body in [br#"{"temperature":"warm"}"#.as_slice(), br#"{"temperature":1}"#] {
        assert_eq!(
            pipeline
                .http
                .post("/things/t/readings", &[], body)
                .unwrap()
                .status,
            202
        );
    }
    pipeline
        .until(
            "select count(*) from quarantine where reason = 'type'",
            1,
            PATIENCE,
        )
        .await;
    pipeline.until("select count(*) from readings", 1, PATIENCE).await;
}
