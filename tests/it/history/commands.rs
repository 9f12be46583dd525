//! Writing properties and invoking actions: a command is queued once the stream has it, and not before.
use super::{House, JSON};
use serde_json::{Value, json};
use telltale_nats::{client, header};
use telltale_schemas::{Timestamp, check, td};
use tokio::sync::Mutex;

/// One test takes the stream away from the others.
static TURN: Mutex<()> = Mutex::const_new(());

/// Things with this description: what may be written, what may not, and two actions.
fn description(id: &str) -> Value {
    json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1",
        "id": td::thing_id(id),
        "title": "A lamp",
        "securityDefinitions": { "none": { "scheme": "nosec" } },
        "security": "none",
        "properties": {
            "brightness": { "type": "integer", "minimum": 0, "maximum": 100, "unit": "%", "forms": [{ "href": "http://lamp.example/brightness" }] },
            "power": { "type": "number", "unit": "W", "readOnly": true, "forms": [{ "href": "http://lamp.example/power" }] },
        },
        "actions": {
            "fade": {
                "input": { "type": "object", "properties": { "to": { "type": "integer", "maximum": 100 } }, "required": ["to"] },
                "forms": [{ "href": "http://lamp.example/fade" }],
            },
            "reset": { "forms": [{ "href": "http://lamp.example/reset" }] },
        },
    })
}

async fn described(house: &House, id: &str) {
    let headers = [("Content-Type", "application/td+json")];
    let made = house
        .ask(
            "PUT",
            &format!("/things/{id}"),
            &headers,
            &description(id).to_string(),
        )
        .await;
    assert_eq!(made.status, 201, "{made:?}");
}

/// The commands of a thing in the stream: headers and documents.
async fn queued(house: &House, thing: &str) -> Vec<(String, Value)> {
    let nats = house.stack.context().unwrap().nats().await.unwrap();
    let stream = client::context(nats).get_stream("COMMANDS").await.unwrap();
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let mut found = vec![];
    for sequence in 1..=last {
        let Ok(message) = stream.get_raw_message(sequence).await else {
            continue;
        };
        if message.subject.split('.').nth(2) == Some(thing) {
            let id = message.headers.get(header::MSG_ID).unwrap().to_string();
            found.push((id, serde_json::from_slice(&message.payload).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_in_the_stream_before_it_is_called_queued() {
    let _turn = TURN.lock().await;
    let house = House::open().await;
    described(&house, "lamp-1").await;
    let before = Timestamp::now();
    let put = house
        .ask(
            "PUT",
            "/things/lamp-1/properties/brightness?expires=30s",
            &[JSON, ("Idempotency-Key", "k1")],
            "50",
        )
        .await;
    let answer = put.json();
    assert_eq!(
        (put.status, &answer["id"], &answer["state"]),
        (202, &json!("lamp-1:k1"), &json!("queued"))
    );
    let again = house
        .ask(
            "PUT",
            "/things/lamp-1/properties/brightness?expires=30s",
            &[JSON, ("Idempotency-Key", "k1")],
            "50",
        )
        .await;
    assert_eq!((again.status, &again.json()["id"]), (202, &json!("lamp-1:k1")));
    let fade = house
        .ask("POST", "/things/lamp-1/actions/fade", &[JSON], r#"{"to":10}"#)
        .await
        .json();
    assert_eq!(
        house
            .ask("POST", "/things/lamp-1/actions/reset", &[], "")
            .await
            .status,
        202
    );

    let all = queued(&house, "lamp-1").await;
    assert_eq!(all.len(), 3, "sent again it is one command: {all:?}");
    for (_, document) in &all {
        assert_eq!(check::message(document), vec![], "{document}");
    }
    let (id, document) = &all[0];
    assert_eq!((id.as_str(), &document["id"]), ("lamp-1:k1", &json!("lamp-1:k1")));
    assert_eq!(document["data"], json!({ "name": "brightness", "input": 50 }));
    assert_eq!(
        (&document["source"], &document["subject"]),
        (&json!("/local/gateway"), &json!("lamp-1"))
    );
    assert_eq!(document["expirytime"], answer["expires"]);
    let expires: Timestamp = answer["expires"].as_str().unwrap().parse().unwrap();
    let until = expires.as_micros() - before.as_micros();
    assert!((30_000_000..40_000_000).contains(&until), "{until}");
    assert!(
        document["publisher"].is_string(),
        "it is known who gave it: {document}"
    );
    assert_eq!(
        (&all[1].1["id"], &all[1].1["data"]["input"]),
        (&fade["id"], &json!({ "to": 10 }))
    );
    assert_eq!(all[2].1["data"], json!({ "name": "reset" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_does_not_allow_is_no_command() {
    let _turn = TURN.lock().await;
    let house = House::open().await;
    described(&house, "lamp-2").await;
    for (method, path, body, status, word) in [
        ("PUT", "/things/lamp-2/properties/brightness", "101", 400, "101"),
        (
            "PUT",
            "/things/lamp-2/properties/brightness",
            "\"50\"",
            400,
            "integer",
        ),
        ("PUT", "/things/lamp-2/properties/brightness", "", 400, "none"),
        ("PUT", "/things/lamp-2/properties/brightness", "{", 400, ""),
        (
            "PUT",
            "/things/lamp-2/properties/brightness?expires=8d",
            "50",
            400,
            "8d",
        ),
        ("PUT", "/things/lamp-2/properties/power", "1", 403, "read-only"),
        ("PUT", "/things/lamp-2/properties/colour", "1", 404, "colour"),
        ("PUT", "/things/nobody/properties/brightness", "1", 404, "nobody"),
        ("POST", "/things/lamp-2/actions/fade", r#"{"to":101}"#, 400, "/to"),
        ("POST", "/things/lamp-2/actions/fade", "", 400, ""),
        ("POST", "/things/lamp-2/actions/reset", "1", 400, "no input"),
        ("POST", "/things/lamp-2/actions/explode", "", 404, "explode"),
    ] {
        let reply = house.ask(method, path, &[JSON], body).await;
        let problem = reply.json();
        assert_eq!(reply.status, status, "{method} {path} {body}: {problem}");
        assert!(
            problem.to_string().contains(word),
            "{method} {path} {body}: {problem}"
        );
    }
    let large = format!("\"{}\"", "x".repeat(20_000));
    assert_eq!(
        house
            .ask("PUT", "/things/lamp-2/properties/brightness", &[JSON], &large)
            .await
            .status,
        413
    );
    let text = house
        .ask(
            "PUT",
            "/things/lamp-2/properties/brightness",
            &[("Content-Type", "text/plain")],
            "1",
        )
        .await;
    assert_eq!(text.status, 415);
    assert_eq!(queued(&house, "lamp-2").await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_stream_nothing_is_called_queued() {
    let _turn = TURN.lock().await;
    let house = House::open().await;
    described(&house, "lamp-3").await;
    let nats = house.stack.context().unwrap().nats().await.unwrap();
    let js = client::context(nats);
    let mut config = js
        .get_stream("COMMANDS")
        .await
        .unwrap()
        .get_info()
        .await
        .unwrap()
        .config;
    let subjects = std::mem::replace(&mut config.subjects, vec!["command.elsewhere".to_owned()]);
    js.update_stream(&config).await.unwrap();
    let refused = house
        .ask("PUT", "/things/lamp-3/properties/brightness", &[JSON], "50")
        .await;
    config.subjects = subjects;
    js.update_stream(&config).await.unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    assert_eq!(queued(&house, "lamp-3").await, vec![]);
    assert_eq!(
        house
            .ask("PUT", "/things/lamp-3/properties/brightness", &[JSON], "50")
            .await
            .status,
        202
    );
}
