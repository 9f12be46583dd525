//! Packets of MQTT 3.1.1 and 5 as a client sees them.
use crate::mqtt::codec::{Down, down, v5_properties};
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use rmqtt_codec::{
    types::{MQTT_LEVEL_311, Protocol, Publish, QoS},
    v3, v5,
};
use std::num::NonZeroU16;
use tokio_util::codec::{Decoder as _, Encoder as _};

/// What we subscribe to.
pub(super) const FILTERS: [&str; 4] = [
    "readings",
    "things/+/readings",
    "things/+/events/+",
    "things/+/outcomes/+",
];
/// Messages that the broker may have unacknowledged, as MQTT 5 is told.
pub(super) const RECEIVE_MAX: u16 = 256;
/// How often we ask for a sign of life, in seconds, unless the broker wants it sooner.
pub(super) const KEEP_ALIVE_S: u16 = 30;
/// How long the broker is to keep the session while we are away, in seconds: as long as it will.
const FOR_EVER: u32 = u32::MAX;
/// The packet id of the only SUBSCRIBE.
const SUBSCRIBE: NonZeroU16 = NonZeroU16::MIN;

/// The version that the broker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Version {
    /// MQTT 3.1.1
    #[value(name = "3.1.1")]
    V3,
    /// MQTT 5
    #[value(name = "5")]
    V5,
}

/// As whom we come.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client_id: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<Bytes>,
}

/// What a broker says.
#[derive(Debug)]
pub(super) enum In {
    Welcome(Welcome),
    Publish(Box<Publish>),
    /// Of a command; the reason, 0 where the version has none.
    PubAck(NonZeroU16, u8),
    /// Whether it lets us have all that we asked for.
    SubAck(bool),
    Pong,
}

/// A CONNACK that lets us in.
#[derive(Debug)]
pub(super) struct Welcome {
    /// Whether it knows our session.
    pub(super) knows_us: bool,
    /// The unacknowledged commands that it takes.
    pub(super) receive_max: u16,
    pub(super) keep_alive_s: u16,
    /// The largest packet that it takes; 0 for any.
    packet_max: u32,
}

#[derive(Debug)]
pub(super) enum Codec {
    V3(v3::Codec),
    V5(v5::Codec),
}

impl Codec {
    /// Whatever its size, a message must be taken off the broker: one that cannot even be read would come again for ever.
    pub(super) fn new(version: Version) -> Self {
        match version {
            Version::V3 => Self::V3(v3::Codec::new(0)),
            Version::V5 => Self::V5(v5::Codec::new(0, 0)),
        }
    }

    /// The next packet, once it is there whole.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> anyhow::Result<Option<In>> {
        Ok(match self {
            Self::V3(codec) => match codec.decode(buffer).context("read an MQTT 3.1.1 packet")? {
                Some((packet, _)) => Some(v3_in(packet)?),
                None => None,
            },
            Self::V5(codec) => match codec.decode(buffer).context("read an MQTT 5 packet")? {
                Some((packet, _)) => Some(v5_in(packet)?),
                None => None,
            },
        })
    }

    /// The broker's limits hold from now on.
    pub(super) fn welcomed(&mut self, welcome: &Welcome) {
        if let Self::V5(codec) = self {
            codec.set_max_outbound_size(welcome.packet_max);
        }
    }

    pub(super) fn connect(&mut self, hello: Hello, out: &mut BytesMut) {
        self.put(
            out,
            |hello: Hello| {
                v3::Packet::Connect(Box::new(v3::Connect {
                    protocol: Protocol(MQTT_LEVEL_311),
                    clean_session: false,
                    keep_alive: KEEP_ALIVE_S,
                    client_id: hello.client_id.into(),
                    username: hello.user.map(Into::into),
                    password: hello.password,
                    ..v3::Connect::default()
                }))
            },
            |hello: Hello| {
                v5::Packet::Connect(Box::new(v5::Connect {
                    clean_start: false,
                    keep_alive: KEEP_ALIVE_S,
                    session_expiry_interval_secs: FOR_EVER,
                    receive_max: NonZeroU16::new(RECEIVE_MAX),
                    client_id: hello.client_id.into(),
                    username: hello.user.map(Into::into),
                    password: hello.password,
                    ..v5::Connect::default()
                }))
            },
            hello,
        );
    }

    /// Of all our filters, with QoS 1.
    pub(super) fn subscribe(&mut self, out: &mut BytesMut) {
        let options = v5::SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            // What was said before we first came was not said to us.
            retain_handling: v5::RetainHandling::NoAtSubscribe,
            ..v5::SubscriptionOptions::default()
        };
        self.put(
            out,
            |()| v3::Packet::Subscribe {
                packet_id: SUBSCRIBE,
                topic_filters: FILTERS.map(|one| (one.into(), QoS::AtLeastOnce)).into(),
            },
            |()| {
                v5::Packet::Subscribe(v5::Subscribe {
                    packet_id: SUBSCRIBE,
                    id: None,
                    user_properties: Vec::new(),
                    topic_filters: FILTERS.map(|one| (one.into(), options)).into(),
                })
            },
            (),
        );
    }

    pub(super) fn ack(&mut self, packet_id: NonZeroU16, out: &mut BytesMut) {
        self.put(
            out,
            |()| v3::Packet::PublishAck { packet_id },
            |()| {
                v5::Packet::PublishAck(v5::PublishAck {
                    packet_id,
                    reason_code: v5::PublishAckReason::Success,
                    properties: Vec::new(),
                    reason_string: None,
                })
            },
            (),
        );
    }

    /// A command; false where the broker takes none of that size.
    pub(super) fn command(&mut self, command: Down, out: &mut BytesMut) -> bool {
        self.put(
            out,
            |command| v3::Packet::Publish(down(command, None)),
            |command| {
                let properties = v5_properties(&command);
                v5::Packet::Publish(down(command, Some(properties)))
            },
            command,
        )
    }

    pub(super) fn ping(&mut self, out: &mut BytesMut) {
        self.put(
            out,
            |()| v3::Packet::PingRequest,
            |()| v5::Packet::PingRequest,
            (),
        );
    }

    pub(super) fn leave(&mut self, out: &mut BytesMut) {
        let bye =
            |()| v5::Packet::Disconnect(v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection));
        self.put(out, |()| v3::Packet::Disconnect, bye, ());
    }

    fn put<T>(
        &mut self,
        out: &mut BytesMut,
        v3: impl FnOnce(T) -> v3::Packet,
        v5: impl FnOnce(T) -> v5::Packet,
        what: T,
    ) -> bool {
        match self {
            Self::V3(codec) => codec.encode(v3(what), out).is_ok(),
            Self::V5(codec) => codec.encode(v5(what), out).is_ok(),
        }
    }
}

fn v3_in(packet: v3::Packet) -> anyhow::Result<In> {
    Ok(match packet {
        v3::Packet::ConnectAck(ack) => {
            if ack.return_code != v3::ConnectAckReason::ConnectionAccepted {
                bail!("the broker does not let us in: {}", ack.return_code.reason());
            }
            In::Welcome(Welcome {
                knows_us: ack.session_present,
                receive_max: RECEIVE_MAX,
                keep_alive_s: KEEP_ALIVE_S,
                packet_max: 0,
            })
        }
        v3::Packet::Publish(publish) => In::Publish(publish),
        v3::Packet::PublishAck { packet_id } => In::PubAck(packet_id, 0),
        v3::Packet::SubscribeAck { status, .. } => {
            let is_well = |one: &v3::SubscribeReturnCode| matches!(one, v3::SubscribeReturnCode::Success(_));
            In::SubAck(status.iter().all(is_well))
        }
        v3::Packet::PingResponse => In::Pong,
        other => bail!("the broker breaks the protocol with {other:?}"),
    })
}

fn v5_in(packet: v5::Packet) -> anyhow::Result<In> {
    Ok(match packet {
        v5::Packet::ConnectAck(ack) => {
            if ack.reason_code != v5::ConnectAckReason::Success {
                bail!("the broker does not let us in: {:?}", ack.reason_code);
            }
            In::Welcome(Welcome {
                knows_us: ack.session_present,
                receive_max: ack.receive_max.get().min(RECEIVE_MAX),
                keep_alive_s: ack.server_keepalive_sec.unwrap_or(KEEP_ALIVE_S),
                packet_max: ack.max_packet_size.unwrap_or(0),
            })
        }
        v5::Packet::Publish(publish) => In::Publish(publish),
        v5::Packet::PublishAck(ack) => In::PubAck(ack.packet_id, ack.reason_code.into()),
        v5::Packet::SubscribeAck(ack) => In::SubAck(ack.status.iter().all(|one| u8::from(*one) <= 2)),
        v5::Packet::PingResponse => In::Pong,
        v5::Packet::Disconnect(bye) => bail!("the broker ends the connection: {:?}", bye.reason_code),
        other => bail!("the broker breaks the protocol with {other:?}"),
    })
}
