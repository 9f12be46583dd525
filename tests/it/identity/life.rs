//! The life of a thing on the command line: made from a model with a credential, watched, inferred, moved, erased.
use serde_json::Value;
use std::{process::Output, time::Duration};
use telltale_cli::{
    find::ServerArgs,
    stack::{Stack, StackOptions},
};
use telltale_nats::client;
use telltale_tests::{eventually_async, http, pipeline::Pipeline};

const WITHIN: Duration = Duration::from_secs(20);

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sends as a device, and waits until it is taken.
async fn send(bridge: &str, token: &str, thing: &str, body: &str) {
    let client = http::Client::new(bridge, Some(token.to_owned()));
    let path = format!("/things/{thing}/readings");
    eventually_async("the bridge takes it", WITHIN, || async {
        let answer = client.post(&path, &[], body.as_bytes()).unwrap();
        (answer.status == 202).then_some(())
    })
    .await;
}

/// `telltale` with these words, and JSON on stdout.
async fn told(pipeline: &Pipeline, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
    json(&pipeline.telltale(&words).await)
}

/// The exit code of `telltale` with these words.
async fn code(pipeline: &Pipeline, line: &str) -> Option<i32> {
    let words: Vec<&str> = line.split(' ').collect();
    pipeline.telltale(&words).await.status.code()
}

/// Registers `lamp-1` from our model; its token.
async fn lamp(pipeline: &Pipeline) -> String {
    let made = told(pipeline, "thing create --model lamp --id lamp-1 --credentials").await;
    assert_eq!(
        (&made[0]["thing"], &made[0]["change"]),
        (&"lamp-1".into(), &"created".into())
    );
    assert!(made[0]["held_by"].as_u64().unwrap() >= 2, "{made}");
    made[0]["token"].as_str().unwrap().to_owned()
}

/// How much the report of an erasure says of a place.
fn count(parts: &Value, place: &str) -> u64 {
    let mut parts_of = parts.as_array().unwrap().iter();
    let part = parts_of.find(|part| part["place"] == place);
    let part = part.unwrap_or_else(|| panic!("no {place} in {parts}"));
    part["count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_thing_is_made_from_a_model_proposed_from_its_readings_and_erased_everywhere() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let bridge = pipeline.stack.env("BRIDGE_URL").to_owned();
    let token = lamp(&pipeline).await;
    assert_eq!(
        code(&pipeline, "thing create --model lamp --id lamp-1").await,
        Some(1)
    );
    for n in 0..12 {
        let body = format!("{{\"power\":{n}.5,\"on\":true}}");
        send(&bridge, &token, "lamp-1", &body).await;
    }
    let gateway = pipeline.stack.env("BRIDGE_TOKEN").to_owned();
    send(&bridge, &gateway, "other", "{\"t\":1}").await;
    send(&bridge, &gateway, "lamp-1", "{broken").await;
    let rows = "select count(*) from readings where thing = 'lamp-1'";
    let refused = "select count(*) from quarantine where thing = 'lamp-1'";
    pipeline.until(rows, 24, WITHIN).await;
    pipeline.until(refused, 1, WITHIN).await;
    let proposed = json(&pipeline.telltale(&["thing", "infer", "lamp-1"]).await);
    assert_eq!(proposed["properties"]["power"]["type"], "number", "{proposed}");
    let unasked = code(&pipeline, "thing delete lamp-1 --erase").await;
    assert_eq!(unasked, Some(2), "without consent");
    let counted = told(&pipeline, "thing delete lamp-1 --erase --dry-run").await;
    assert_eq!(count(&counted, "rows of readings"), 24);
    assert_eq!(count(&counted, "stream QUARANTINE"), 1);
    assert_eq!(pipeline.count(rows).await, Some(24), "only counted");
    let erased = told(&pipeline, "thing delete lamp-1 --erase --yes").await;
    for (place, wanted) in [
        ("rows of readings", 24),
        ("rows of quarantine", 1),
        ("rows of things", 1),
        ("stream READINGS", 12),
        ("stream QUARANTINE", 1),
        ("bucket things", 1),
        ("bucket credentials", 1),
    ] {
        assert_eq!(count(&erased, place), wanted, "{place}: {erased}");
    }
    assert!(count(&erased, "packs of stream VALID") >= 1, "{erased}");
    for view in ["readings", "latest", "quarantine", "things"] {
        let left = format!("select count(*) from {view} where thing = 'lamp-1'");
        assert_eq!(pipeline.count(&left).await, Some(0), "{view}");
    }
    let kept = "select count(*) from registrations where thing = 'lamp-1'";
    pipeline.until(kept, 1, WITHIN).await;
    let erasure = format!("{kept} and change = 'erased'");
    assert_eq!(pipeline.count(&erasure).await, Some(1));
    let others = "select count(*) from readings where thing = 'other'";
    assert_eq!(pipeline.count(others).await, Some(1));
    let device = http::Client::new(bridge, Some(token));
    let answer = device.post("/things/lamp-1/readings", &[], b"{}").unwrap();
    assert_eq!(answer.status, 401);
    pipeline.at_rest(WITHIN).await;
}

#[tokio::test]
async fn a_thing_moves_to_another_site_with_its_credential_its_commands_and_one_history() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let servers = ServerArgs {
        database_url: Some(pipeline.stack.env("DATABASE_ADMIN_URL").to_owned()),
        ..ServerArgs::from_environment().unwrap_or_default()
    };
    let options = StackOptions {
        site: "a8".into(),
        servers,
        ..StackOptions::default()
    };
    let other = Stack::start(options).await.unwrap();
    let (here, there) = (
        pipeline.stack.env("BRIDGE_URL").to_owned(),
        other.env("BRIDGE_URL").to_owned(),
    );
    let token = lamp(&pipeline).await;
    send(&here, &token, "lamp-1", "{\"power\":1}").await;
    let pending = async |stack: &Stack| {
        let nats = stack.context().unwrap().nats().await.unwrap();
        client::context(nats).get_key_value("pending").await.unwrap()
    };
    let (mine, theirs) = (pending(&pipeline.stack).await, pending(&other).await);
    mine.put("lamp-1.on", "{}".into()).await.unwrap();
    let line = format!("thing move lamp-1 --to {}", other.dir().display());
    assert_eq!(code(&pipeline, &line).await, Some(2), "without consent");
    let moved = told(&pipeline, &format!("{line} --yes")).await;
    assert_eq!(
        (&moved[0]["to"], &moved[0]["pending"]),
        (&"a8".into(), &1.into()),
        "{moved}"
    );
    send(&there, &token, "lamp-1", "{\"power\":2}").await;
    let device = http::Client::new(here, Some(token));
    eventually_async("it is refused where it was", WITHIN, || async {
        let answer = device.post("/things/lamp-1/readings", &[], b"{}").unwrap();
        (answer.status == 401).then_some(())
    })
    .await;
    assert!(mine.get("lamp-1.on").await.unwrap().is_none());
    assert!(theirs.get("lamp-1.on").await.unwrap().is_some());
    let sites = "select count(distinct site) from readings where thing = 'lamp-1' and name = 'power'";
    pipeline.until(sites, 2, WITHIN).await;
    let registered = "select count(*) from things where thing = 'lamp-1' and site = 'a8'";
    pipeline.until(registered, 1, WITHIN).await;
    let history = "select site, change, detail->>'to' from registrations where thing = 'lamp-1'
        and change in ('created', 'moved') order by time";
    assert_eq!(
        pipeline.rows(history).await,
        ["local|created", "local|moved|a8", "a8|created"]
    );
    let again = code(&pipeline, &format!("{line} --yes")).await;
    assert_eq!(again, Some(1), "it is gone");
    other.shutdown().await;
}
