//! A reading's journey from a device to a row, whichever way it comes.
use serde_json::json;
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{pipeline::Pipeline, python};

const SOON: Duration = Duration::from_secs(10);

const PAHO: &str = r#"
import sys, paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
host, port, user, password, version, topic, key = sys.argv[1:8]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho{version}",
                     protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311)
client.username_pw_set(user, password)
client.connect(host, int(port), 30)
client.loop_start()
properties = None
if version == "5":
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("id", key)
    properties.ContentType = "application/json"
sent = client.publish(topic, sys.stdin.buffer.read(), qos=1, properties=properties)
sent.wait_for_publish(10)
assert sent.is_published(), "no PUBACK"
client.disconnect()
"#;

const NATS: &str = r#"
import asyncio, sys, nats
async def main():
    url, seed, subject = sys.argv[1:4]
    nc = await nats.connect(url, nkeys_seed=seed, inbox_prefix=b"_INBOX_client")
    answer = await nc.request(subject, sys.stdin.buffer.read(), timeout=5)
    assert b'"stream":"RAW"' in answer.data.replace(b" ", b""), answer.data
    await nc.close()
asyncio.run(main())
"#;

fn mqtt(pipeline: &Pipeline, version: &str, thing: &str, payload: &[u8]) {
    let url = pipeline.stack.env("MQTT_URL");
    let (host, port) = url.trim_start_matches("mqtt://").split_once(':').unwrap();
    let (user, password) = (
        pipeline.stack.env("MQTT_USER"),
        pipeline.stack.env("MQTT_PASSWORD"),
    );
    let topic = format!("things/{thing}/readings");
    let done = python::run(
        PAHO,
        &[
            host,
            port.trim_end_matches('/'),
            user,
            password,
            version,
            &topic,
            "k1",
        ],
        payload,
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_a_row_whichever_way_it_came() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;

    let plain = pipeline
        .http
        .post("/things/by-http/readings", &[], br#"{"temperature":21.5}"#)
        .unwrap();
    assert_eq!(plain.status, 202, "{plain:?}");
    let id = plain.body["id"].as_str().unwrap().to_owned();

    let senml = json!([{ "bn": "by-senml/", "n": "temperature", "u": "Cel", "v": 21.5 }, { "n": "humidity", "u": "%RH", "v": 40 }]);
    let answer = pipeline.http.post(
        "/things/by-senml/readings",
        &[("Content-Type", "application/senml+json")],
        senml.to_string().as_bytes(),
    );
    assert_eq!(answer.unwrap().status, 202);

    let time = telltale_schemas::Timestamp::now().to_string();
    let event = json!({ "specversion": "1.0", "id": "evt-1", "source": "/d", "type": "t", "time": time, "data": { "temperature": 21.5 } });
    let answer = pipeline.http.post(
        "/things/by-cloudevent/readings",
        &[("Content-Type", "application/cloudevents+json")],
        event.to_string().as_bytes(),
    );
    assert_eq!(answer.unwrap().body["id"], "by-cloudevent:evt-1");

    tokio::task::block_in_place(|| {
        mqtt(&pipeline, "311", "by-mqtt311", br#"{"temperature":21.5}"#);
        mqtt(&pipeline, "5", "by-mqtt5", br#"{"temperature":21.5}"#);
        let (url, seed) = (
            pipeline.stack.env("NATS_URL"),
            pipeline.stack.env("NATS_NKEY_SEED_FILE"),
        );
        let done = python::run(
            NATS,
            &[url, seed, "raw.local.by-nats"],
            br#"{"temperature":21.5}"#,
        );
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    });

    pipeline
        .until(
            "select count(*) from readings where name = 'temperature' and value = 21.5",
            6,
            SOON,
        )
        .await;
    let rows = pipeline
        .rows("select thing, name, value, protocol, publisher from readings order by thing, name")
        .await;
    assert_eq!(
        rows,
        [
            "by-cloudevent|temperature|21.5|http|gateway",
            "by-http|temperature|21.5|http|gateway",
            "by-mqtt311|temperature|21.5|mqtt|simulator",
            "by-mqtt5|temperature|21.5|mqtt|simulator",
            "by-nats|temperature|21.5|nats|nats",
            "by-senml|humidity|40|http|gateway",
            "by-senml|temperature|21.5|http|gateway",
        ]
    );
    let found = pipeline
        .rows("select message_id from readings where thing = 'by-http'")
        .await;
    assert_eq!(found, [id], "the id that the device was told is the row's");
    let found = pipeline
        .rows("select message_id from readings where thing = 'by-mqtt5'")
        .await;
    assert_eq!(found, ["by-mqtt5:k1"], "the publisher's key is the row's");
    pipeline.at_rest(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_without_a_time_is_one_row() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    for _ in 0..3 {
        let headers = [("Idempotency-Key", "once")];
        let answer = pipeline
            .http
            .post("/things/kitchen/readings", &headers, br#"{"temperature":21.5}"#)
            .unwrap();
        assert_eq!(
            (answer.status, answer.body["id"].as_str()),
            (202, Some("kitchen:once"))
        );
    }
    let status = pipeline.at_rest(SOON).await;
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(1));
    assert_eq!(status["balance"]["stored"], 1, "{status}");
    assert_eq!(status["balance"]["duplicate"], 2, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_whose_times_count_from_its_receipt_is_stored_once() {
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let headers = [
        ("Idempotency-Key", "once"),
        ("Content-Type", "application/senml+json"),
    ];
    let own = br#"[{"n":"temperature","v":21.5,"t":-5},{"n":"temperature","v":22,"t":-2}]"#;
    let gateways = br#"[{"n":"hall/temperature","v":1,"t":-5},{"n":"attic/temperature","v":2,"t":-5}]"#;
    for _ in 0..3 {
        let answer = pipeline
            .http
            .post("/things/kitchen/readings", &headers, own)
            .unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        let answer = pipeline.http.post("/readings", &headers, gateways).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let status = pipeline.at_rest(SOON).await;
    let rows = pipeline
        .rows("select thing, value, extract(epoch from received - time)::float8 from readings order by value")
        .await;
    assert_eq!(
        rows,
        ["hall|1|5", "attic|2|5", "kitchen|21.5|5", "kitchen|22|2"],
        "each once, and so long before its receipt as was told"
    );
    assert_eq!(status["balance"]["stored"], 3, "{status}");
    assert_eq!(status["balance"]["duplicate"], 6, "{status}");
}
