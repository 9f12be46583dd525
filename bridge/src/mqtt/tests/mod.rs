//! Sessions over a connection in memory, with an intake that the test settles.
mod connections;
mod messages;

use super::*;
use crate::testing::House;
use bytes::Bytes;
use rmqtt_codec::{
    types::{Protocol as Level, Publish, QoS},
    v3, v5,
};
use std::{num::NonZeroU16, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

const WITHIN: Duration = Duration::from_secs(20);

/// The device's end of a connection.
struct Device<C> {
    stream: DuplexStream,
    codec: C,
    buffer: BytesMut,
}

/// Both codecs, so that one test runs over both.
trait Speaks {
    type Packet: std::fmt::Debug;
    fn write(&mut self, packet: Self::Packet, out: &mut BytesMut);
    fn read(&mut self, from: &mut BytesMut) -> Option<Self::Packet>;
}

impl Speaks for v3::Codec {
    type Packet = v3::Packet;
    fn write(&mut self, packet: v3::Packet, out: &mut BytesMut) {
        self.encode(packet, out).unwrap();
    }
    fn read(&mut self, from: &mut BytesMut) -> Option<v3::Packet> {
        self.decode(from).unwrap().map(|(packet, _)| packet)
    }
}

impl Speaks for v5::Codec {
    type Packet = v5::Packet;
    fn write(&mut self, packet: v5::Packet, out: &mut BytesMut) {
        self.encode(packet, out).unwrap();
    }
    fn read(&mut self, from: &mut BytesMut) -> Option<v5::Packet> {
        self.decode(from).unwrap().map(|(packet, _)| packet)
    }
}

impl<C: Speaks> Device<C> {
    async fn say(&mut self, packet: C::Packet) {
        let mut out = BytesMut::new();
        self.codec.write(packet, &mut out);
        self.raw(&out).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; none once closed.
    async fn hear(&mut self) -> Option<C::Packet> {
        let hear = async {
            loop {
                if let Some(packet) = self.codec.read(&mut self.buffer) {
                    return Some(packet);
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap() == 0 {
                    return None;
                }
            }
        };
        timeout(WITHIN, hear)
            .await
            .expect("an answer or the end within twenty seconds")
    }
}

/// The bridge, and what its connections share.
struct Site {
    house: House,
    registry: Registry,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Site {
    fn new() -> Self {
        Self {
            house: House::new(),
            registry: Registry::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn dial<C>(&self, codec: C) -> Device<C> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (intake, registry, stop) = (
            self.house.intake.clone(),
            self.registry.clone(),
            self.stop.clone(),
        );
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        self.tasks.spawn(async move {
            connection(
                theirs,
                IpAddr::from([127, 0, 0, 1]),
                intake,
                &registry,
                permit,
                &stop,
            )
            .await;
        });
        Device {
            stream: ours,
            codec,
            buffer: BytesMut::new(),
        }
    }

    fn connect3(&self) -> v3::Connect {
        v3::Connect {
            protocol: Level(4),
            clean_session: true,
            keep_alive: 60,
            client_id: "c1".into(),
            username: Some("lamp".into()),
            password: Some(self.house.lamp_secret.clone().into()),
            ..v3::Connect::default()
        }
    }

    fn connect5(&self) -> v5::Connect {
        v5::Connect {
            clean_start: true,
            keep_alive: 60,
            client_id: "c1".into(),
            username: Some("lamp".into()),
            password: Some(self.house.lamp_secret.clone().into()),
            ..v5::Connect::default()
        }
    }

    async fn v3(&self) -> Device<v3::Codec> {
        let mut device = self.dial(v3::Codec::default());
        device.say(self.connect3().into()).await;
        assert_eq!(
            device.hear().await,
            Some(connack3(v3::ConnectAckReason::ConnectionAccepted))
        );
        device
    }

    async fn v5(&self) -> Device<v5::Codec> {
        let mut device = self.dial(v5::Codec::default());
        device.say(self.connect5().into()).await;
        let Some(v5::Packet::ConnectAck(ack)) = device.hear().await else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason_code, v5::ConnectAckReason::Success);
        assert_eq!((ack.max_qos, ack.retain_available), (QoS::AtLeastOnce, false));
        assert_eq!(
            (ack.receive_max.get(), ack.topic_alias_max, ack.session_present),
            (256, 0, false)
        );
        device
    }
}

fn connack3(return_code: v3::ConnectAckReason) -> v3::Packet {
    v3::Packet::ConnectAck(v3::ConnectAck {
        return_code,
        session_present: false,
    })
}

fn nz(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).unwrap()
}

fn publish(topic: &str, id: u16, is_v5: bool) -> Publish {
    Publish {
        dup: false,
        retain: false,
        qos: if id == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        },
        topic: topic.into(),
        packet_id: NonZeroU16::new(id),
        payload: Bytes::from_static(b"{\"t\":1}"),
        properties: is_v5.then(v5::PublishProperties::default),
    }
}

fn to_lamp(id: u16, is_v5: bool) -> Publish {
    publish("things/lamp/readings", id, is_v5)
}

fn puback3(id: u16) -> v3::Packet {
    v3::Packet::PublishAck { packet_id: nz(id) }
}

async fn puback5(device: &mut Device<v5::Codec>) -> (u16, u8) {
    match device.hear().await {
        Some(v5::Packet::PublishAck(ack)) => (ack.packet_id.get(), ack.reason_code.into()),
        other => panic!("no PUBACK: {other:?}"),
    }
}

async fn disconnect5(device: &mut Device<v5::Codec>) -> u8 {
    match device.hear().await {
        Some(v5::Packet::Disconnect(bye)) => {
            assert!(device.hear().await.is_none(), "closed after DISCONNECT");
            bye.reason_code.into()
        }
        other => panic!("no DISCONNECT: {other:?}"),
    }
}
