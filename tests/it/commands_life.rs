//! The life of a command as far as no device has a part in it: judged, queued, taken back, expired, given up, and told
//! the same on the stream, in SQL and over the gateway, whatever restarts in between.
use crate::directory::{Event, Events, listen};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::{
        HeaderMap,
        jetstream::kv::{Operation, Store},
    },
    client, header, pending,
};
use telltale_schemas::{
    Timestamp,
    kinds::State,
    pending::{Pending, Told},
    td,
};
use telltale_tests::{
    eventually_async,
    http::{Client, Reply},
    pipeline::Pipeline,
};

pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) struct House {
    pub(crate) pipeline: Pipeline,
    gateway: Client,
}

impl House {
    pub(crate) async fn start() -> Self {
        let pipeline = Pipeline::start(StackOptions {
            // What a killed worker had in its hands comes again soon.
            ack_wait: Some(Duration::from_secs(2)),
            ..StackOptions::default()
        })
        .await;
        let stack = &pipeline.stack;
        let gateway = Client::new(
            stack.env("GATEWAY_URL"),
            Some(stack.env("GATEWAY_TOKEN").to_owned()),
        );
        Self { pipeline, gateway }
    }

    pub(crate) async fn ask(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Reply {
        let (gateway, path, body) = (self.gateway.clone(), path.to_owned(), body.to_owned());
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let ask = move || {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            gateway.ask(method, &path, &headers, body.as_bytes())
        };
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    /// Registers a thing by its description.
    pub(crate) async fn describe(&self, id: &str, description: &Value) {
        let td = [("Content-Type", "application/td+json")];
        let made = self
            .ask("PUT", &format!("/things/{id}"), &td, &description.to_string())
            .await;
        assert_eq!(made.status, 201, "{made:?}");
    }

    /// A credential for a thing that is registered; its token.
    pub(crate) async fn credential(&self, id: &str) -> String {
        let path = format!("/things/{id}/credentials");
        let made = self.ask("POST", &path, &[], "").await.json();
        made["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{made}"))
            .to_owned()
    }

    /// A lamp that can be switched, whose brightness can be set, and that can be reset once.
    pub(crate) async fn lamp(&self, id: &str) {
        let form = json!([{ "href": "http://lamp.example/x" }]);
        let description = json!({
            "@context": "https://www.w3.org/2022/wot/td/v1.1",
            "id": td::thing_id(id),
            "title": "A lamp",
            "securityDefinitions": { "none": { "scheme": "nosec" } },
            "security": "none",
            "properties": { "brightness": { "type": "integer", "maximum": 100, "forms": form } },
            "actions": {
                "on": { "idempotent": true, "input": { "type": "boolean" }, "forms": form },
                "reset": { "forms": form },
            },
        });
        self.describe(id, &description).await;
    }

    /// Asks for an action; the command's id.
    pub(crate) async fn invoke(&self, path: &str, key: &str, body: &str) -> String {
        let asked = self
            .ask("POST", path, &[JSON, ("Idempotency-Key", key)], body)
            .await;
        assert_eq!(asked.status, 202, "{asked:?}");
        asked.json()["id"].as_str().unwrap().to_owned()
    }

    /// The row of a command, once it is in that state.
    pub(crate) async fn row(&self, id: &str, state: &str) -> Value {
        let sql = format!("select to_json(c)::text from commands c where id = '{id}'");
        eventually_async(&format!("{id} is {state}"), SOON, || async {
            let client = self.pipeline.stack.context().unwrap().sql().await.ok()?;
            let row = client.query_opt(&sql, &[]).await.ok()??;
            let row: Value = serde_json::from_str(row.get(0)).unwrap();
            (row["state"] == state).then_some(row)
        })
        .await
    }

    pub(crate) async fn bucket(&self) -> Store {
        let nats = self.pipeline.stack.context().unwrap().nats().await.unwrap();
        client::context(nats)
            .get_key_value(pending::BUCKET)
            .await
            .unwrap()
    }

    /// Publishes a command once more, past the stream's own memory of its id.
    pub(crate) async fn again(&self, pending: &Pending) {
        let nats = self.pipeline.stack.context().unwrap().nats().await.unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let (thing, verb) = (name(&pending.thing), name(&pending.command.data.name));
        let subject = Subject::named(Lane::Command, name(&pending.site), thing, verb).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::CLOUDEVENT);
        let payload = serde_json::to_vec(&pending.command).unwrap().into();
        let jetstream = client::context(nats);
        let sent = jetstream.publish_with_headers(subject, headers, payload).await;
        sent.unwrap().await.unwrap();
    }

    /// The states that the stream tells of each command, in its order.
    pub(crate) async fn stream(&self) -> BTreeMap<String, Vec<String>> {
        let nats = self.pipeline.stack.context().unwrap().nats().await.unwrap();
        let stream = client::context(nats).get_stream("EVENTS").await.unwrap();
        let last = stream.get_info().await.unwrap().state.last_sequence;
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for sequence in 1..=last {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            if message.subject.starts_with("outcome.") {
                let outcome: Value = serde_json::from_slice(&message.payload).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let states = told.entry(text(&outcome["data"]["command"])).or_default();
                states.push(text(&outcome["data"]["state"]));
            }
        }
        told
    }
}

/// The entry of a command.
pub(crate) async fn entry(bucket: &Store, thing: &str, id: &str) -> (String, Pending, u64) {
    let key = pending::key(&Name::new(thing).unwrap(), id);
    eventually_async("it waits", SOON, || async {
        let entry = bucket.entry(&key).await.unwrap()?;
        let pending = serde_json::from_slice(&entry.value).ok()?;
        (entry.operation == Operation::Put).then(|| (key.clone(), pending, entry.revision))
    })
    .await
}

/// One command that is asked for twice, taken back, and asked for once more.
async fn asked_for_twice_and_taken_back(house: &House) -> String {
    // Asked for twice, it is one command.
    let on = "/things/lamp-1/actions/on?expires=1h&priority=9";
    let id = house.invoke(on, "k1", "true").await;
    assert_eq!(id, house.invoke(on, "k1", "true").await);
    let row = house.row(&id, "queued").await;
    assert_eq!(
        (&row["thing"], &row["name"], &row["input"], &row["priority"]),
        (&json!("lamp-1"), &json!("on"), &json!(true), &json!(9))
    );
    assert!(
        row["issuer"].is_string() && row["expires"].is_string() && row["ended"].is_null(),
        "{row}"
    );
    let bucket = house.bucket().await;
    let (key, waits, _) = entry(&bucket, "lamp-1", &id).await;
    assert!(
        waits.idempotent && waits.state == State::Queued && waits.sequence > 0,
        "{waits:?}"
    );

    // Taken back once; and then its id is used.
    let one = format!("/things/lamp-1/commands/{id}");
    assert_eq!(house.ask("DELETE", &one, &[], "").await.status, 200);
    assert_eq!(house.ask("DELETE", &one, &[], "").await.status, 404);
    let row = house.row(&id, "cancelled").await;
    assert!(
        row["problem"].as_str().unwrap().starts_with("taken back by "),
        "{row}"
    );
    assert_eq!(
        bucket.entry(&key).await.unwrap().unwrap().operation,
        Operation::Delete
    );
    house.again(&waits).await;
    id
}

/// The stream of changes, a list over HTTP and one of the command line tell of three commands what the test knows.
async fn all_ways_agree(house: &House, live: &Events, url: &str, id: &str) {
    let token = house.pipeline.stack.env("GATEWAY_TOKEN");
    let told: Vec<Event> = (0..5)
        .map(|_| tokio::task::block_in_place(|| live.next()))
        .collect();
    let words: Vec<_> = told
        .iter()
        .map(|event| (event.data["id"].as_str().unwrap(), event.kind.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            (id, "queued"),
            (id, "cancelled"),
            ("lamp-1:k2", "failed"),
            ("lamp-1:k3", "queued"),
            ("lamp-1:k3", "expired"),
        ]
    );
    let missed = tokio::task::block_in_place(|| listen(url, token, Some(told[2].id)));
    assert_eq!(tokio::task::block_in_place(|| missed.next()), told[3]);
    let list = house
        .ask("GET", "/things/lamp-1/commands?limit=10", &[], "")
        .await
        .json();
    let states: BTreeMap<_, _> = list["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["state"].as_str().unwrap()))
        .collect();
    let expected = [
        (id, "cancelled"),
        ("lamp-1:k2", "failed"),
        ("lamp-1:k3", "expired"),
    ];
    assert_eq!(states, BTreeMap::from(expected));
    let shown = house
        .pipeline
        .telltale(&["command", "list", "lamp-1", "--state", "cancelled", "-o", "json"])
        .await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&shown[0]["id"], shown.as_array().unwrap().len()),
        (&json!(id), 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_queued_once_and_ends_once_and_all_ways_to_look_at_it_agree() {
    let house = House::start().await;
    house.lamp("lamp-1").await;
    let stack = &house.pipeline.stack;
    let url = format!("{}/things/lamp-1/commands/events", stack.env("GATEWAY_URL"));
    let token = stack.env("GATEWAY_TOKEN").to_owned();
    let live = tokio::task::block_in_place(|| listen(&url, &token, None));

    let id = asked_for_twice_and_taken_back(&house).await;

    // What is sent after its answer is known, and what cannot be is told with the reason.
    let failed = house
        .pipeline
        .telltale(&["command", "send", "lamp-1", "explode", "--key", "k2", "--wait"])
        .await;
    let told =
        String::from_utf8_lossy(&failed.stdout).into_owned() + &String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{told}");
    assert!(
        told.contains("lamp-1:k2") && told.contains("failed") && told.contains("`explode`"),
        "{told}"
    );
    let expired = house
        .invoke("/things/lamp-1/actions/reset?expires=1s", "k3", "")
        .await;
    let row = house.row(&expired, "expired").await;
    assert!(row["sent"].is_null() && row["attempts"] == 0, "{row}");

    all_ways_agree(&house, &live, &url, &id).await;
    assert_eq!(
        house.stream().await[&id],
        ["queued", "cancelled"],
        "nothing of the third request"
    );
    assert!(
        house
            .pipeline
            .metric("actuate", "telltale_actuate_duplicates_total")
            >= 1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bridge_left_behind_ends_once_and_restarts_lose_and_double_nothing() {
    let mut house = House::start().await;
    house.lamp("lamp-2").await;
    let bucket = house.bucket().await;

    // A bridge that sent it and was never heard of again; and one that decided the end and did not tell it.
    let lost = house
        .invoke("/things/lamp-2/actions/reset?expires=2s", "lost", "")
        .await;
    let (key, waits, revision) = entry(&bucket, "lamp-2", &lost).await;
    let sent = waits.to_sent("a-bridge", Timestamp::now());
    bucket
        .update(&key, serde_json::to_vec(&sent).unwrap().into(), revision)
        .await
        .unwrap();
    let untold = house
        .invoke("/things/lamp-2/actions/reset?expires=1h", "untold", "")
        .await;
    let (key, waits, revision) = entry(&bucket, "lamp-2", &untold).await;
    let sent = waits.to_sent("a-bridge", Timestamp::now());
    let ended = sent.to_ended(sent.ending("bridge", Told::of(State::Succeeded), Timestamp::now()));
    bucket
        .update(&key, serde_json::to_vec(&ended).unwrap().into(), revision)
        .await
        .unwrap();
    // It cannot be taken back any more.
    let refused = house
        .ask("DELETE", &format!("/things/lamp-2/commands/{lost}"), &[], "")
        .await;
    assert_eq!(refused.status, 409, "{refused:?}");

    // Commands by the hundred while actuate, the gateway and the broker go down.
    let mut ids = Vec::new();
    for round in 0..4 {
        for n in 0..25 {
            let path = "/things/lamp-2/properties/brightness?expires=1h";
            let key = format!("b{round}-{n}");
            let put = house
                .ask("PUT", path, &[JSON, ("Idempotency-Key", &key)], "50")
                .await;
            assert_eq!(put.status, 202, "{put:?}");
            ids.push(format!("lamp-2:{key}"));
        }
        match round {
            0 | 1 => house.pipeline.kill("actuate", SOON).await,
            2 => house.pipeline.kill("nats", SOON).await,
            _ => house.pipeline.kill("gateway", SOON).await,
        }
        house.pipeline.stack.ready("gateway", SOON).await.unwrap();
        house.pipeline.stack.ready("actuate", SOON).await.unwrap();
    }
    let queued = "select count(*) from commands where thing = 'lamp-2' and queued is not null";
    let all = i64::try_from(ids.len() + 2).unwrap();
    house.pipeline.until(queued, all, SOON).await;
    let mut told = house.stream().await;
    for id in &ids {
        let states = told.remove(id).unwrap_or_default();
        assert_eq!(states, ["queued"], "{id}");
    }
    for id in [ids[0].as_str(), ids[60].as_str()] {
        entry(&bucket, "lamp-2", id).await;
    }
    house.row(&lost, "unknown").await;
    house.row(&untold, "succeeded").await;
    let mut told = house.stream().await;
    // That one was sent is told by whoever finds it untold: the next bridge, if it comes before the end.
    for (id, end) in [(&lost, "unknown"), (&untold, "succeeded")] {
        let mut states = told.remove(id).unwrap();
        states.retain(|state| state != "sent");
        assert_eq!(states, ["queued", end], "{id}");
    }
}
