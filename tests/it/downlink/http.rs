//! Devices that ask for their commands over HTTP.
use super::world::{Order, World, order};
use crate::roads::broker::PATIENCE;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc,
    time::Duration,
};
use telltale_schemas::kinds::State;
use telltale_tests::{eventually_async, http::Client};

fn client(world: &World) -> Client {
    Client::new(world.site.url(""), Some(world.site.lamp.clone()))
}

/// The answer to a device that asks for its commands.
pub(crate) async fn asked(client: &Client, path: &'static str) -> (u16, Value) {
    let client = client.clone();
    let answer = move || client.send("GET", path, &[], b"").unwrap();
    let answer = tokio::task::spawn_blocking(answer).await.unwrap();
    (answer.status, answer.body)
}

/// The status of the answer to what a device says of a command.
pub(crate) async fn answered(client: &Client, thing: &str, id: &str, body: &'static str) -> u16 {
    let (client, path) = (client.clone(), format!("/things/{thing}/outcomes/{id}"));
    let answer = move || client.post(&path, &[], body.as_bytes()).unwrap();
    tokio::task::spawn_blocking(answer).await.unwrap().status
}

#[tokio::test]
async fn a_device_asks_for_its_commands_one_by_one_and_answers() {
    let world = World::start().await;
    let client = client(&world);
    let asking = asked(&client, "/things/lamp/commands?wait=15s");
    let putting = async {
        // That the bridge has the lamp stands there once the question has come.
        eventually_async("the lamp is asked for", PATIENCE, || world.owner()).await;
        world
            .wait(Order {
                input: 7.into(),
                ..order("1")
            })
            .await
    };
    let ((status, body), id) = tokio::join!(asking, putting);
    assert_eq!(
        (status, &body["commands"][0]["id"], &body["commands"][0]["input"]),
        (200, &Value::from(&*id), &7.into())
    );
    world.is(&id, State::Sent).await;
    assert_eq!(
        answered(&client, "lamp", &id, r#"{"state":"acknowledged"}"#).await,
        202
    );
    assert_eq!(
        answered(&client, "lamp", &id, r#"{"state":"succeeded"}"#).await,
        202
    );
    assert_eq!(
        answered(&client, "lamp", &id, r#"{"state":"succeeded"}"#).await,
        410,
        "said twice"
    );
    let ids: Vec<_> = world.over(&id).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [".sent.1", ".acknowledged.1", ".end"]);
    assert_eq!(
        asked(&client, "/things/lamp/commands?wait=0s").await,
        (200, serde_json::json!({ "commands": [] }))
    );
    for (path, status) in [
        ("/things/pillar/commands", 403),
        ("/things/lamp/commands?wait=2h", 400),
        ("/things/lamp/outcomes/x", 405),
    ] {
        assert_eq!(asked(&client, path).await.0, status, "{path}");
    }
    let stranger = Client::new(world.site.url(""), None);
    assert_eq!(asked(&stranger, "/things/lamp/commands").await.0, 401);
}

#[tokio::test]
async fn a_device_hears_its_commands_as_server_sent_events() {
    let world = World::start().await;
    let response = ureq::get(world.site.url("/things/lamp/commands"))
        .header("authorization", format!("Bearer {}", world.site.lamp))
        .header("accept", "text/event-stream")
        .call()
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (heard, events) = mpsc::channel::<Value>();
    let body: Box<dyn Read + Send> = Box::new(response.into_body().into_reader());
    std::thread::spawn(move || {
        for line in BufReader::new(body).lines().map_while(Result::ok) {
            if let Some(data) = line.strip_prefix("data: ") {
                // The test may be over.
                heard.send(serde_json::from_str(data).unwrap()).ok();
            }
        }
    });
    let client = client(&world);
    let (one, two) = (world.wait(order("1")).await, world.wait(order("2")).await);
    let hear = |events: &mpsc::Receiver<Value>| events.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!(hear(&events)["id"], *one);
    assert!(
        events.recv_timeout(Duration::from_millis(300)).is_err(),
        "the next waits for its answer"
    );
    assert_eq!(
        answered(&client, "lamp", &one, r#"{"state":"failed","problem":"stuck"}"#).await,
        202
    );
    assert_eq!(hear(&events)["id"], *two);
    let ids: Vec<_> = world.over(&one).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [".sent.1", ".end"]);
}
