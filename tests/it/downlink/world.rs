//! Bridges at one site, commands that wait as `actuate` would have them wait, and what is told of them.
use crate::{
    bridging::{
        device::Device,
        site::{Bridge, Site},
    },
    roads::broker::PATIENCE,
};
use rmqtt_codec::{
    types::{Publish, QoS},
    v5,
};
use serde_json::Value;
use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use telltale_nats::{Name, async_nats::jetstream::kv::Store, pending::key};
use telltale_schemas::{
    Command, Envelope, Outcome, Timestamp,
    kinds::State,
    pending::{Pending, Told},
};
use telltale_tests::eventually_async;

/// A site with one bridge, whose device `lamp` waits for commands.
pub(crate) struct World {
    pub(crate) site: Site,
    pending: Store,
    sequence: AtomicU64,
}

/// A command that is to wait.
pub(crate) struct Order<'a> {
    pub(crate) key: &'a str,
    pub(crate) input: Value,
    pub(crate) priority: Option<u8>,
    /// Seconds from now.
    pub(crate) start: Option<i64>,
    /// Milliseconds from now.
    pub(crate) expires: i64,
    pub(crate) idempotent: bool,
}

/// A switch that may be made once, within a minute.
pub(crate) fn order(key: &str) -> Order<'_> {
    Order {
        key,
        input: Value::Bool(true),
        priority: None,
        start: None,
        expires: 60_000,
        idempotent: false,
    }
}

/// A command as a device got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) packet: Option<NonZeroU16>,
    pub(crate) topic: String,
    pub(crate) body: Value,
    pub(crate) properties: v5::PublishProperties,
}

impl Got {
    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let site = Site::start().await;
        let pending = site
            .broker
            .context()
            .await
            .get_key_value("pending")
            .await
            .unwrap();
        Self {
            site,
            pending,
            sequence: AtomicU64::new(1),
        }
    }

    /// Puts a command for the lamp where `actuate` puts it; its id.
    pub(crate) async fn wait(&self, order: Order<'_>) -> String {
        let (now, id) = (Timestamp::now(), format!("lamp:{}", order.key));
        let mut data = Command::new("on", order.input);
        data.priority = order.priority;
        data.start = order.start.map(|seconds| now.plus_micros(seconds * 1_000_000));
        let command = Envelope::new(&id, "/local/gateway", "lamp", now, data);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let expires = now.plus_micros(order.expires * 1_000);
        let waiting = Pending::queued(command, "local", sequence, expires, order.idempotent);
        let value = serde_json::to_vec(&waiting).unwrap();
        self.pending.put(lamp_key(&id), value.into()).await.unwrap();
        id
    }

    /// What stands in the bucket of that command.
    pub(crate) async fn entry(&self, id: &str) -> Option<Pending> {
        let value = self.pending.get(lamp_key(id)).await.unwrap()?;
        Some(serde_json::from_slice(&value).unwrap())
    }

    /// Decides how a command ends, and does no more.
    pub(crate) async fn decide(&self, id: &str, state: State) {
        let waiting = self.entry(id).await.unwrap();
        let end = waiting.ending("actuate", Told::of(state), Timestamp::now());
        let value = serde_json::to_vec(&waiting.to_ended(end)).unwrap();
        self.pending.put(lamp_key(id), value.into()).await.unwrap();
    }

    /// Waits until it is as far as that.
    pub(crate) async fn is(&self, id: &str, state: State) {
        eventually_async(&format!("{id} is {state:?}"), PATIENCE, || async {
            self.entry(id).await.filter(|entry| entry.state == state)
        })
        .await;
    }

    /// Waits until nothing is left of a command, and gives all that was told of it: states, ids without the command's.
    pub(crate) async fn over(&self, id: &str) -> Vec<(State, String)> {
        eventually_async(&format!("{id} is over"), PATIENCE, || async {
            self.entry(id).await.is_none().then_some(())
        })
        .await;
        let told = self.told(id).await;
        told.into_iter()
            .map(|one| (one.data.state, one.id.strip_prefix(id).unwrap().to_owned()))
            .collect()
    }

    /// All outcomes of a command, in the order of the stream.
    pub(crate) async fn told(&self, id: &str) -> Vec<Envelope<Outcome>> {
        let mut told = Vec::new();
        for message in self.site.messages("EVENTS").await {
            if message.subject.starts_with("outcome.") {
                assert_eq!(message.subject.as_str(), "outcome.local.lamp.on");
                let outcome: Envelope<Outcome> = serde_json::from_slice(&message.payload).unwrap();
                if outcome.data.command == id {
                    told.push(outcome);
                }
            }
        }
        told
    }

    /// Which bridge has the lamp.
    pub(crate) async fn owner(&self) -> Option<String> {
        let sessions = self
            .site
            .broker
            .context()
            .await
            .get_key_value("sessions")
            .await
            .unwrap();
        let value = sessions.get("lamp").await.unwrap()?;
        let session: Value = serde_json::from_slice(&value).unwrap();
        Some(session["bridge"].as_str().unwrap().to_owned())
    }

    /// The lamp, subscribed to its commands at a bridge.
    pub(crate) async fn lamp(&self, bridge: &Bridge) -> Device {
        let (mut device, reason) = Device::at(bridge.mqtt(), &self.site.lamp, "lamp").await;
        assert_eq!(reason, 0);
        assert_eq!(
            device.subscribe("things/lamp/commands/+", QoS::AtLeastOnce).await,
            1
        );
        device
    }
}

fn lamp_key(id: &str) -> String {
    key(&Name::new("lamp").unwrap(), id)
}

impl Device {
    /// Subscribes; the reason code of the answer.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) -> u8 {
        let options = v5::SubscriptionOptions {
            qos,
            ..Default::default()
        };
        let subscribe = v5::Subscribe {
            packet_id: NonZeroU16::new(9).unwrap(),
            id: None,
            user_properties: vec![],
            topic_filters: vec![(filter.into(), options)],
        };
        self.say(v5::Packet::Subscribe(subscribe)).await;
        match self.hear().await {
            Some(v5::Packet::SubscribeAck(ack)) => ack.status[0].into(),
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    /// The next packet, which must be a command; not confirmed yet.
    pub(crate) async fn command(&mut self) -> Got {
        match self.hear().await {
            Some(v5::Packet::Publish(publish)) => {
                let Publish {
                    packet_id,
                    topic,
                    payload,
                    properties,
                    dup,
                    retain,
                    ..
                } = *publish;
                assert!(!dup && !retain);
                Got {
                    packet: packet_id,
                    topic: topic.to_string(),
                    body: serde_json::from_slice(&payload).unwrap(),
                    properties: properties.unwrap(),
                }
            }
            other => panic!("no command: {other:?}"),
        }
    }

    /// Says that it has it.
    pub(crate) async fn confirm(&mut self, got: &Got) {
        let ack = v5::PublishAck {
            packet_id: got.packet.unwrap(),
            reason_code: v5::PublishAckReason::Success,
            properties: vec![],
            reason_string: None,
        };
        self.say(v5::Packet::PublishAck(ack)).await;
    }

    /// Answers a command; the reason code of the PUBACK.
    pub(crate) async fn answer(&mut self, id: &str, body: &str) -> u8 {
        let topic = format!("things/lamp/outcomes/{id}");
        self.publish(&topic, 77, None, body.as_bytes()).await;
        let (packet, reason) = self.puback().await;
        assert_eq!(packet, 77);
        reason
    }

    /// Whether nothing comes within a moment.
    pub(crate) async fn is_quiet(&mut self, moment: Duration) -> bool {
        tokio::time::timeout(moment, self.hear()).await.is_err()
    }
}
