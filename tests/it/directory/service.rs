//! The directory as a NATS service: found by asking, and answering to who shows a token.
use super::site::{Site, admit, lamp};
use serde_json::{Value, json};
use std::time::Duration;
use telltale_gateway::auth::Scope;
use telltale_nats::{
    Name,
    async_nats::{Client, HeaderMap},
    rights, subject,
};
use telltale_tests::eventually_async;

const WITHIN: Duration = Duration::from_secs(10);

/// What came back: the code of a refusal, and the body.
async fn ask(client: &Client, operation: &str, token: Option<&str>, body: Value) -> (u16, Value) {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert("Authorization", format!("Bearer {token}"));
    }
    let subject = subject::api(&Name::new("local").unwrap(), "things", operation);
    let answer = client
        .request_with_headers(subject, headers, body.to_string().into())
        .await
        .unwrap();
    let code = answer
        .headers
        .as_ref()
        .and_then(|h| h.get("Nats-Service-Error-Code"));
    let code = code.map_or(200, |code| code.as_str().parse().unwrap());
    (code, serde_json::from_slice(&answer.payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_found_by_who_asks_for_it() {
    let site = Site::start().await;
    let client = site.broker.connect(rights::CLIENT).await.client;
    let info = client.request("$SRV.INFO.things", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["name"], "things");
    let subjects = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["subject"]);
    assert!(
        subjects
            .into_iter()
            .any(|subject| subject == "api.local.things.get")
    );
    for verb in ["PING", "STATS"] {
        let subject = format!("$SRV.{verb}.things.{}", info["id"].as_str().unwrap());
        let answer = client.request(subject, "".into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["id"], info["id"], "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_operations_do_what_http_does() {
    let site = Site::start().await;
    let client = site.broker.connect(rights::CLIENT).await.client;
    let token = Some(site.token.as_str());
    let created = ask(&client, "create", token, json!({"td": lamp("urn:lamp:1")})).await;
    assert_eq!(
        (created.0, &created.1["id"]),
        (200, &json!("urn:lamp:1")),
        "{created:?}"
    );
    assert_eq!(
        ask(&client, "create", token, json!({"td": lamp("urn:lamp:1")}))
            .await
            .0,
        409
    );
    let patch = json!({"id": "urn:lamp:1", "patch": {"title": "x"}});
    assert_eq!(ask(&client, "patch", token, patch).await.1["change"], "updated");
    let got = ask(&client, "get", token, json!({"id": "urn:lamp:1"})).await.1;
    assert_eq!(got["title"], "x");
    let list = ask(&client, "list", token, json!({"limit": 5})).await.1;
    assert_eq!(
        (&list["total"], &list["members"][0]["id"]),
        (&json!(1), &json!("urn:lamp:1"))
    );
    let replaced = json!({"id": "urn:lamp:1", "td": lamp("urn:lamp:1")});
    assert_eq!(ask(&client, "replace", token, replaced).await.0, 200);
    assert_eq!(
        site.original("urn:lamp:1"),
        lamp("urn:lamp:1"),
        "both see the same"
    );
    let invalid = ask(&client, "create", token, json!({"td": {"title": "t"}})).await;
    assert_eq!(invalid.0, 400);
    assert!(invalid.1["errors"][0]["pointer"].is_string(), "{invalid:?}");
    assert_eq!(
        ask(&client, "delete", token, json!({"id": "urn:lamp:1"})).await.0,
        200
    );
    assert_eq!(
        ask(&client, "get", token, json!({"id": "urn:lamp:1"})).await.0,
        404
    );
    assert_eq!(
        ask(&client, "get", token, json!({"id": "x", "more": 1})).await.0,
        400
    );
    let stats = client.request("$SRV.STATS.things", "".into()).await.unwrap();
    let stats: Value = serde_json::from_slice(&stats.payload).unwrap();
    let patches = stats["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "patch");
    assert_eq!(patches.unwrap()["num_requests"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_for_it_nothing_is_done_and_only_an_inbox_is_answered() {
    let site = Site::start().await;
    let client = site.broker.connect(rights::CLIENT).await.client;
    let reader = admit(&site.broker, "reader", vec![Scope::ThingsRead]).await;
    eventually_async("the gateway knows the reader", WITHIN, || async {
        (ask(&client, "list", Some(&reader), json!({})).await.0 == 200).then_some(())
    })
    .await;
    let td = json!({"td": lamp("urn:lamp:1")});
    for (token, code) in [
        (None, 401),
        (Some("administrator.guess"), 401),
        (Some(reader.as_str()), 403),
    ] {
        assert_eq!(
            ask(&client, "create", token, td.clone()).await.0,
            code,
            "{token:?}"
        );
    }
    assert_eq!(site.get("/things/urn:lamp:1").status, 404);

    // An answer on another subject would be a message in our name.
    let operator = site.broker.connect(rights::OPERATOR).await.client;
    let mut heard = operator.subscribe("thing.>").await.unwrap();
    operator.flush().await.unwrap();
    for subject in ["$SRV.INFO.things", "api.local.things.list"] {
        client
            .publish_with_reply(subject, "thing.local.x.created", "".into())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
    // In the order of asking: had the others been answered, that would have come first.
    assert_eq!(ask(&client, "list", Some(&reader), json!({})).await.0, 200);
    let first = tokio::time::timeout(Duration::from_millis(200), futures::StreamExt::next(&mut heard)).await;
    assert!(first.is_err(), "{first:?}");
}
