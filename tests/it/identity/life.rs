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

#[tokio::test]
async fn a_thing_is_made_from_a_model_proposed_from_its_readings_and_erased_everywhere() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let bridge = pipeline.stack.env("BRIDGE_URL").to_owned();
    let made = pipeline
        .telltale(&[
            "thing",
            "create",
            "--model",
            "lamp",
            "--id",
            "lamp-1",
            "--credentials",
            "-o",
            "json",
        ])
        .await;
    let made = json(&made);
    assert_eq!(
        (&made[0]["thing"], &made[0]["change"]),
        (&"lamp-1".into(), &"created".into())
    );
    assert!(made[0]["held_by"].as_u64().unwrap() >= 2, "{made}");
    let token = made[0]["token"].as_str().unwrap().to_owned();
    let again = pipeline
        .telltale(&["thing", "create", "--model", "lamp", "--id", "lamp-1"])
        .await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    for n in 0..12 {
        send(
            &bridge,
            &token,
            "lamp-1",
            &format!("{{\"power\":{n}.5,\"on\":true}}"),
        )
        .await;
    }
    let gateway = pipeline.stack.env("BRIDGE_TOKEN").to_owned();
    send(&bridge, &gateway, "other", "{\"t\":1}").await;
    send(&bridge, &gateway, "lamp-1", "{broken").await;
    let rows = "select count(*) from readings where thing = 'lamp-1'";
    pipeline.until(rows, 24, WITHIN).await;
    pipeline
        .until(
            "select count(*) from quarantine where thing = 'lamp-1'",
            1,
            WITHIN,
        )
        .await;
    let proposed = json(&pipeline.telltale(&["thing", "infer", "lamp-1"]).await);
    assert_eq!(proposed["properties"]["power"]["type"], "number", "{proposed}");
    let refused = pipeline.telltale(&["thing", "delete", "lamp-1", "--erase"]).await;
    assert_eq!(refused.status.code(), Some(2), "without consent: {refused:?}");
    let counted = json(
        &pipeline
            .telltale(&["thing", "delete", "lamp-1", "--erase", "--dry-run", "-o", "json"])
            .await,
    );
    let count = |parts: &Value, place: &str| {
        let part = parts
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["place"] == place);
        part.unwrap_or_else(|| panic!("no {place} in {parts}"))["count"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(count(&counted, "rows of readings"), 24);
    assert_eq!(count(&counted, "stream QUARANTINE"), 1);
    pipeline.until(rows, 24, WITHIN).await;
    let erased = json(
        &pipeline
            .telltale(&["thing", "delete", "lamp-1", "--erase", "--yes", "-o", "json"])
            .await,
    );
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
    let told = "select count(*) from registrations where thing = 'lamp-1' and change = 'erased'";
    pipeline.until(told, 1, WITHIN).await;
    assert_eq!(
        pipeline
            .count("select count(*) from registrations where thing = 'lamp-1'")
            .await,
        Some(1)
    );
    assert_eq!(
        pipeline
            .count("select count(*) from readings where thing = 'other'")
            .await,
        Some(1)
    );
    let client = http::Client::new(bridge, Some(token));
    assert_eq!(
        client.post("/things/lamp-1/readings", &[], b"{}").unwrap().status,
        401
    );
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
    let made = pipeline
        .telltale(&[
            "thing",
            "create",
            "--model",
            "lamp",
            "--id",
            "lamp-1",
            "--credentials",
            "-o",
            "json",
        ])
        .await;
    let token = json(&made)[0]["token"].as_str().unwrap().to_owned();
    send(&here, &token, "lamp-1", "{\"power\":1}").await;
    let pending = async |stack: &Stack| {
        let nats = stack.context().unwrap().nats().await.unwrap();
        client::context(nats).get_key_value("pending").await.unwrap()
    };
    let (mine, theirs) = (pending(&pipeline.stack).await, pending(&other).await);
    mine.put("lamp-1.on", "{}".into()).await.unwrap();
    let folder = other.dir().to_str().unwrap().to_owned();
    let unasked = pipeline
        .telltale(&["thing", "move", "lamp-1", "--to", &folder])
        .await;
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    let moved = pipeline
        .telltale(&["thing", "move", "lamp-1", "--to", &folder, "--yes", "-o", "json"])
        .await;
    let moved = json(&moved);
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
    let history = "select site, change from registrations where thing = 'lamp-1'
        and change in ('created', 'moved') order by time";
    assert_eq!(
        pipeline.rows(history).await,
        ["local|created", "local|moved", "a8|created"]
    );
    let again = pipeline
        .telltale(&["thing", "move", "lamp-1", "--to", &folder, "--yes"])
        .await;
    assert_eq!(again.status.code(), Some(1), "it is gone: {again:?}");
    other.shutdown().await;
}
