//! From a reading to a command at a device, inside one site, beside a bare relay through as many streams.
//!
//! In the suite with few readings, each of which has to arrive. By hand with a thousand, built for release, the median and
//! the slowest hundredth are compared: `TELLTALE_SIZE=whole cargo test --release --workspace --test it -- --nocapture reaction`.
use crate::{bridging::device::Device, commands_life::House};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rmqtt_codec::types::QoS;
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};
use telltale_nats::{
    async_nats::{Client, jetstream},
    client,
};
use telltale_schemas::td;
use telltale_tests::{eventually_async, size};

/// Stored on the way: RAW, VALID, READINGS, COMMANDS, and the bucket `pending` twice: it waits, it goes out.
const HOPS: usize = 6;
/// Of the relay's time.
const SHARE_MAX: f64 = 3.0;
const SOON: Duration = Duration::from_secs(20);
/// Rounds that are not counted.
const WARM_UP: usize = 5;

const RULE: &str = r#"{"name": "too-warm", "things": ["sensor"], "when": "temperature > 30.0",
    "then": [{"command": "on", "thing": "lamp", "input": {"level": "temperature"}, "expires": "20s"}]}"#;

fn description(id: &str) -> Value {
    json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1", "id": td::thing_id(id), "title": id,
        "securityDefinitions": {"none": {"scheme": "nosec"}}, "security": "none",
        "actions": {"on": {"idempotent": true, "input": {"type": "object"}, "forms": [{"href": "http://device.example/on"}]}},
    })
}

/// Streams in a row, each with somebody who publishes to the next what it gives.
async fn relay(nats: &Client) -> (jetstream::Context, stream::BoxStream<'static, Vec<u8>>) {
    let context = client::context(nats.clone());
    let mut consumers = Vec::new();
    for n in 1..=HOPS {
        let config = jetstream::stream::Config {
            name: format!("HOP{n}"),
            subjects: vec![format!("hop.{n}")],
            ..Default::default()
        };
        let made = context.create_stream(config).await.unwrap();
        let durable = jetstream::consumer::pull::Config {
            durable_name: Some("relay".into()),
            ..Default::default()
        };
        consumers.push(made.create_consumer(durable).await.unwrap());
    }
    let last = consumers.pop().unwrap();
    for (n, consumer) in consumers.into_iter().enumerate() {
        let context = context.clone();
        tokio::spawn(async move {
            let mut messages = consumer.messages().await.unwrap();
            while let Some(Ok(message)) = messages.next().await {
                let next = context.publish(format!("hop.{}", n + 2), message.payload.clone());
                next.await.unwrap().await.unwrap();
                message.ack().await.unwrap();
            }
        });
    }
    let messages = last.messages().await.unwrap();
    let arrived = messages
        .map_err(|error| panic!("{error}"))
        .and_then(async |message| {
            message.ack().await.unwrap();
            Ok::<_, ()>(message.payload.to_vec())
        });
    (context, arrived.map(Result::unwrap).boxed())
}

/// The time that so many in a hundred do not exceed.
fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    let place = (times.len() * share).div_ceil(100);
    times[place.clamp(1, times.len()) - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_is_a_command_at_its_device_within_three_times_a_bare_relay() {
    let house = House::start().await;
    let pipeline = &house.pipeline;
    let mut tokens = Vec::new();
    for thing in ["sensor", "lamp"] {
        house.describe(thing, &description(thing)).await;
        tokens.push(house.credential(thing).await);
    }
    pipeline.apply("too-warm", RULE).await;
    eventually_async("the rule is in force", SOON, || async {
        (pipeline.metric("process", "telltale_process_rules") >= 1.0).then_some(())
    })
    .await;
    let mqtt = pipeline.stack.env("MQTT_URL");
    let port = mqtt.rsplit_once(':').unwrap().1.parse().unwrap();
    let (mut sensor, _) = Device::at((Ipv4Addr::LOCALHOST, port), &tokens[0], "sensor").await;
    let (mut lamp, _) = Device::at((Ipv4Addr::LOCALHOST, port), &tokens[1], "lamp").await;
    lamp.subscribe("things/lamp/commands/+", QoS::AtLeastOnce).await;
    let nats = pipeline.stack.context().unwrap().nats().await.unwrap();
    let (context, mut arrived) = relay(&nats).await;
    let count = size(60, 1_000);
    let (mut reactions, mut relayed) = (Vec::new(), Vec::new());
    for n in 0..count + WARM_UP {
        let body = format!(r#"{{"temperature": {}}}"#, 31 + n);
        // In turn, and each first as often as the other: what one leaves to be done is under way during the other.
        for is_ours in [n % 2 == 0, n % 2 != 0] {
            let begun = Instant::now();
            if is_ours {
                sensor
                    .publish(
                        "things/sensor/readings",
                        7,
                        Some(&format!("k{n}")),
                        body.as_bytes(),
                    )
                    .await;
                let got = tokio::time::timeout(SOON, lamp.command())
                    .await
                    .expect("a command in time");
                reactions.extend((n >= WARM_UP).then(|| begun.elapsed()));
                assert_eq!(
                    got.body["input"]["level"],
                    json!(31.0 + n as f64),
                    "{:?}",
                    got.body
                );
                assert_eq!(sensor.puback().await.1, 0);
                lamp.confirm(&got).await;
                assert_eq!(lamp.answer(got.id(), r#"{"state":"succeeded"}"#).await, 0);
            } else {
                let hop = context.publish("hop.1", body.clone().into());
                hop.await.unwrap().await.unwrap();
                let last = tokio::time::timeout(SOON, arrived.next())
                    .await
                    .expect("relayed in time");
                relayed.extend((n >= WARM_UP).then(|| begun.elapsed()));
                assert_eq!(last.as_deref(), Some(body.as_bytes()));
            }
        }
    }
    for share in [50, 99] {
        let (ours, bare) = (percentile(&mut reactions, share), percentile(&mut relayed, share));
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!("p{share}: {ours:?} to the device, {bare:?} relayed: {ratio:.2}");
        // A debug build is no measure, and of few the slowest hundredth is one that says more of whatever else runs.
        if !cfg!(debug_assertions) && (share < 99 || count >= 1_000) {
            assert!(
                ratio <= SHARE_MAX,
                "{ours:?} to the device, {bare:?} relayed: {ratio:.2}"
            );
        }
    }
}
