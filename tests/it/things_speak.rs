//! Things that say how often they speak: online when they do, stale when they do not.
use serde_json::json;
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::pipeline::Pipeline;

const SOON: Duration = Duration::from_secs(20);

fn told(change: &str) -> String {
    format!("select count(*) from registrations where thing = 'clock' and change = '{change}'")
}

fn speak(pipeline: &Pipeline, thing: &str) {
    let path = format!("/things/{thing}/readings");
    let answer = pipeline.http.post(&path, &[], br#"{"tick":1}"#).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thing_is_online_when_it_speaks_and_stale_after_three_of_its_intervals_whichever_gateway_listens() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let file = pipeline.stack.dir().join("clock.json");
    let entries = json!([{"thing": "clock", "policy": {"interval": 0.5}}, {"thing": "mute"}]);
    std::fs::write(&file, entries.to_string()).unwrap();
    let done = pipeline.telltale(&["thing", "put", file.to_str().unwrap()]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    speak(&pipeline, "mute");
    speak(&pipeline, "clock");
    pipeline.until(&told("online"), 1, SOON).await;
    pipeline.until(&told("stale"), 1, SOON).await;
    assert_eq!(
        pipeline
            .rows("select thing, state from things order by thing")
            .await,
        ["clock|stale", "mute|created"]
    );
    speak(&pipeline, "clock");
    pipeline.until(&told("online"), 2, SOON).await;
    assert_eq!(
        pipeline
            .rows("select state from things where thing = 'clock'")
            .await,
        ["online"]
    );

    let report = pipeline.telltale(&["thing", "report", "-o", "ndjson"]).await;
    assert!(
        report.status.success() && report.stdout.is_empty(),
        "an entry that declares nothing: {report:?}"
    );
    speak(&pipeline, "nobody");
    pipeline
        .until("select count(*) from readings where thing = 'nobody'", 1, SOON)
        .await;
    let report = pipeline
        .telltale(&["thing", "report", "nobody", "-o", "ndjson"])
        .await;
    let line: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(
        (&line["property"], &line["verdict"]),
        (&json!("tick"), &json!("unregistered"))
    );

    // One that was not there when it was told knows it all the same.
    pipeline.kill("gateway", SOON).await;
    pipeline.until(&told("stale"), 2, SOON).await;
    speak(&pipeline, "clock");
    pipeline.until(&told("online"), 3, SOON).await;
    let follows =
        "select count(*) from registrations as r join readings as m on m.message_id = r.causation_id
                   where r.thing = 'clock' and r.change = 'online' and r.detail ->> 'interval' = '0.5'";
    assert_eq!(
        pipeline.count(follows).await,
        Some(3),
        "each with the reading that told it"
    );
}
