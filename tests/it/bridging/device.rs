//! A device that speaks MQTT 5, packet by packet.
use super::site::Site;
use crate::roads::broker::PATIENCE;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::{
    types::{Publish, QoS},
    v5,
};
use std::{net::Ipv4Addr, num::NonZeroU16};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

pub(crate) struct Device {
    stream: TcpStream,
    codec: v5::Codec,
    buffer: BytesMut,
}

impl Device {
    /// Connects with a token; the reason code of the answer.
    pub(crate) async fn connect(site: &Site, token: &str, client_id: &str) -> (Self, u8) {
        Self::at(site.mqtt(), token, client_id).await
    }

    /// The same at that address.
    pub(crate) async fn at(address: (Ipv4Addr, u16), token: &str, client_id: &str) -> (Self, u8) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut device = Self {
            stream,
            codec: v5::Codec::default(),
            buffer: BytesMut::new(),
        };
        let (user, password) = token.rsplit_once('.').unwrap();
        let connect = v5::Connect {
            clean_start: true,
            keep_alive: 60,
            client_id: client_id.into(),
            username: Some(user.into()),
            password: Some(Bytes::copy_from_slice(password.as_bytes())),
            ..v5::Connect::default()
        };
        device.say(connect.into()).await;
        match device.hear().await {
            Some(v5::Packet::ConnectAck(ack)) => (device, ack.reason_code.into()),
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    /// Connects, and is let in.
    pub(crate) async fn admitted(site: &Site, token: &str) -> Self {
        let (device, reason) = Self::connect(site, token, "device").await;
        assert_eq!(reason, 0);
        device
    }

    pub(crate) async fn say(&mut self, packet: v5::Packet) {
        let mut out = BytesMut::new();
        self.codec.encode(packet, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next packet; none once closed.
    pub(crate) async fn hear(&mut self) -> Option<v5::Packet> {
        let hear = async {
            loop {
                if let Some((packet, _)) = self.codec.decode(&mut self.buffer).unwrap() {
                    return Some(packet);
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        timeout(PATIENCE, hear)
            .await
            .expect("an answer or the end in time")
    }

    /// Sends with QoS 1, without waiting for the answer.
    pub(crate) async fn publish(&mut self, topic: &str, id: u16, key: Option<&str>, payload: &[u8]) {
        let properties = v5::PublishProperties {
            content_type: Some("application/json".into()),
            user_properties: key.map(|key| ("id".into(), key.into())).into_iter().collect(),
            ..Default::default()
        };
        let message = Publish {
            dup: false,
            retain: false,
            qos: QoS::AtLeastOnce,
            topic: topic.into(),
            packet_id: NonZeroU16::new(id),
            payload: Bytes::copy_from_slice(payload),
            properties: Some(properties),
        };
        self.say(message.into()).await;
    }

    /// The packet id and the reason of the next answer, which must be a PUBACK.
    pub(crate) async fn puback(&mut self) -> (u16, u8) {
        match self.hear().await {
            Some(v5::Packet::PublishAck(ack)) => (ack.packet_id.get(), ack.reason_code.into()),
            other => panic!("no PUBACK: {other:?}"),
        }
    }

    /// The reason of the DISCONNECT that must come next, and the end.
    pub(crate) async fn dismissed(&mut self) -> u8 {
        match self.hear().await {
            Some(v5::Packet::Disconnect(bye)) => {
                assert!(self.hear().await.is_none());
                bye.reason_code.into()
            }
            other => panic!("no DISCONNECT: {other:?}"),
        }
    }
}
