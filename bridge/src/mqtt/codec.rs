//! Packets of MQTT 3.1.1 and 5 as our session sees them. The library only encodes and decodes; what it lets
//! through though the standard forbids it is refused here.
use super::reason;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::{
    error::DecodeError,
    types::{Publish, QoS},
    v3, v5,
    version::{ProtocolVersion, VersionCodec},
};
use std::num::{NonZeroU16, NonZeroU32};
use telltale_schemas::Timestamp;
use tokio_util::codec::{Decoder as _, Encoder as _};
use tracing::debug;

/// Largest packet before a login, without its first bytes: the library reserves what a header announces.
pub(super) const STRANGER_PACKET_MAX: u32 = 64 * 1024;
/// Largest packet after it: a payload with its topic and properties. What is larger closes the connection, so it
/// leaves room for a payload that is only a little too large to be answered by itself.
pub(super) const PACKET_MAX: u32 = 512 * 1024;
/// Messages of QoS 1 that may be unconfirmed, as MQTT 5 is told.
pub(super) const RECEIVE_MAX: u16 = 256;

/// The two versions.
#[derive(Debug)]
pub(super) enum Codec {
    V3(v3::Codec),
    V5(v5::Codec),
}

/// A CONNECT.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client_id: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<Bytes>,
    pub(super) keep_alive_s: u16,
    /// The largest packet that the client takes.
    pub(super) packet_max: Option<u32>,
    /// The unconfirmed messages that the client takes.
    pub(super) receive_max: Option<NonZeroU16>,
    /// The reason code for a CONNECT that asks for what there is not, and its text.
    pub(super) problem: Option<(u8, &'static str)>,
}

/// A PUBLISH.
#[derive(Debug)]
pub(super) struct Message {
    /// None for QoS 0.
    pub(super) id: Option<NonZeroU16>,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) content_type: Option<String>,
    pub(super) key: Option<String>,
}

/// What a client subscribes to.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) topic: String,
    /// 0, 1 or 2.
    pub(super) qos: u8,
}

/// A command for the client; what that is on the wire is the same whoever is the server.
#[derive(Debug)]
pub(crate) struct Down {
    /// None for QoS 0.
    pub(crate) id: Option<NonZeroU16>,
    pub(crate) topic: String,
    /// The topic that it is to be answered on.
    pub(crate) answer: String,
    /// The command's id.
    pub(crate) command: String,
    pub(crate) expires: Timestamp,
    pub(crate) payload: Bytes,
}

/// What a client may send.
#[derive(Debug)]
pub(super) enum In {
    Connect(Box<Hello>),
    Publish(Box<Message>),
    /// The filters, or the reason why none of so many is taken.
    Subscribe(NonZeroU16, Result<Vec<Filter>, (usize, u8)>),
    Unsubscribe(NonZeroU16, Vec<String>),
    /// With the reason, 0 where the version has none.
    PubAck(NonZeroU16, u8),
    Ping,
    Disconnect,
}

/// What we send.
#[derive(Debug)]
pub(super) enum Out {
    ConnAck {
        reason: u8,
        text: Option<&'static str>,
        assigned_id: Option<String>,
        keep_alive_s: Option<u16>,
    },
    PubAck {
        id: NonZeroU16,
        reason: u8,
        text: Option<String>,
    },
    Publish(Box<Down>),
    /// A reason for each filter.
    SubAck(NonZeroU16, Vec<u8>),
    UnsubAck(NonZeroU16, Vec<u8>),
    Pong,
    Disconnect(u8),
}

/// The client broke the protocol, or asked for what we do not do; the reason code of MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("MQTT reason 0x{0:02x}")]
pub(super) struct Violation(pub(super) u8);

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Self(match error {
            DecodeError::MaxSizeExceeded { .. } => reason::PACKET_TOO_LARGE,
            DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => {
                reason::UNSUPPORTED_VERSION
            }
            _ => reason::MALFORMED,
        })
    }
}

impl Codec {
    /// The codec of the version that a CONNECT begins with, once there are enough bytes.
    pub(super) fn detect(buffer: &mut BytesMut) -> Result<Option<Self>, Violation> {
        Ok(VersionCodec.decode(buffer)?.map(|version| match version {
            ProtocolVersion::MQTT3 => Self::V3(v3::Codec::new(STRANGER_PACKET_MAX)),
            ProtocolVersion::MQTT5 => Self::V5(v5::Codec::new(STRANGER_PACKET_MAX, 0)),
        }))
    }

    /// The device is known now, and takes packets of at most that size.
    pub(super) fn admit(&mut self, packet_max: Option<u32>) {
        match self {
            Self::V3(codec) => codec.set_max_size(PACKET_MAX),
            Self::V5(codec) => {
                codec.set_max_inbound_size(PACKET_MAX);
                codec.set_max_outbound_size(packet_max.unwrap_or(0));
            }
        }
    }

    pub(super) const fn is_v5(&self) -> bool {
        matches!(self, Self::V5(_))
    }

    /// The next packet, once it is there whole.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, Violation> {
        match self {
            Self::V3(codec) => codec
                .decode(buffer)?
                .map(|(packet, size)| v3_in(packet, size))
                .transpose(),
            Self::V5(codec) => codec
                .decode(buffer)?
                .map(|(packet, size)| v5_in(packet, size))
                .transpose(),
        }
    }

    /// Appends a packet; false where the client does not take one of that size. MQTT 3.1.1 has no DISCONNECT from the server
    /// and no reasons: nothing is appended there.
    pub(super) fn encode(&mut self, packet: Out, buffer: &mut BytesMut) -> bool {
        let encoded = match self {
            Self::V3(codec) => match v3_out(packet) {
                Some(packet) => codec.encode(packet, buffer),
                None => Ok(()),
            },
            Self::V5(codec) => codec.encode(v5_out(packet), buffer),
        };
        // The only thing that can be wrong with it is that the client takes only smaller ones; it is then
        // dropped, as the standard wants (MQTT 5, 3.1.2.11.4).
        if let Err(error) = &encoded {
            debug!("a packet was not sent: {error}");
        }
        encoded.is_ok()
    }
}

/// A topic that a client may publish to; `+`, `#` and NUL are only for filters, or for nobody.
fn checked_topic(publish: &Publish) -> Result<String, Violation> {
    let topic: &str = &publish.topic;
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(Violation(reason::TOPIC_NAME_INVALID));
    }
    Ok(topic.to_owned())
}

/// The media type and the id that a publisher gave.
pub(crate) fn said(properties: &v5::PublishProperties) -> (Option<String>, Option<String>) {
    let content_type = properties.content_type.as_ref().map(ToString::to_string);
    let mut own = properties.user_properties.iter();
    let key = own.find(|(name, _)| &**name == "id");
    (content_type, key.map(|(_, id)| id.to_string()))
}

fn message(publish: Publish) -> Result<In, Violation> {
    if publish.qos == QoS::ExactlyOnce {
        return Err(Violation(reason::QOS_NOT_SUPPORTED));
    }
    if publish.retain {
        return Err(Violation(reason::RETAIN_NOT_SUPPORTED));
    }
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(Violation(reason::PROTOCOL_ERROR));
    }
    let (mut content_type, mut key) = (None, None);
    let topic = match &publish.properties {
        Some(properties) if properties.topic_alias.is_some() => {
            return Err(Violation(reason::TOPIC_ALIAS_INVALID));
        }
        Some(properties) if !properties.subscription_ids.is_empty() => {
            return Err(Violation(reason::PROTOCOL_ERROR));
        }
        Some(properties) => {
            (content_type, key) = said(properties);
            checked_topic(&publish)?
        }
        None => checked_topic(&publish)?,
    };
    Ok(In::Publish(Box::new(Message {
        id: publish.packet_id,
        topic,
        payload: publish.payload,
        content_type,
        key,
    })))
}

fn v3_in(packet: v3::Packet, size: u32) -> Result<In, Violation> {
    Ok(match packet {
        v3::Packet::Connect(connect) => In::Connect(Box::new(Hello {
            problem: v3_problem(&connect),
            packet_max: None,
            receive_max: None,
            client_id: connect.client_id.to_string(),
            user: connect.username.map(|user| user.to_string()),
            password: connect.password,
            keep_alive_s: connect.keep_alive,
        })),
        v3::Packet::Publish(publish) => message(*publish)?,
        v3::Packet::Subscribe {
            packet_id,
            topic_filters,
        } => In::Subscribe(
            packet_id,
            Ok(topic_filters
                .into_iter()
                .map(|(topic, qos)| Filter {
                    topic: topic.to_string(),
                    qos: qos.into(),
                })
                .collect()),
        ),
        v3::Packet::Unsubscribe {
            packet_id,
            topic_filters,
        } => In::Unsubscribe(packet_id, texts(&topic_filters)),
        v3::Packet::PublishAck { packet_id } => In::PubAck(packet_id, reason::SUCCESS),
        v3::Packet::PingRequest if size == 0 => In::Ping,
        v3::Packet::Disconnect => In::Disconnect,
        _ => return Err(Violation(reason::PROTOCOL_ERROR)),
    })
}

fn v3_problem(connect: &v3::Connect) -> Option<(u8, &'static str)> {
    if connect.protocol.level() != 4 {
        Some((reason::UNSUPPORTED_VERSION, "only MQTT 3.1.1 and 5"))
    } else if connect.last_will.is_some() {
        Some((reason::IMPLEMENTATION_SPECIFIC, reason::NO_WILLS))
    } else {
        None
    }
}

fn v5_in(packet: v5::Packet, size: u32) -> Result<In, Violation> {
    Ok(match packet {
        v5::Packet::Connect(connect) => In::Connect(Box::new(Hello {
            problem: v5_problem(&connect),
            packet_max: connect.max_packet_size.map(std::num::NonZeroU32::get),
            receive_max: connect.receive_max,
            client_id: connect.client_id.to_string(),
            user: connect.username.map(|user| user.to_string()),
            password: connect.password,
            keep_alive_s: connect.keep_alive,
        })),
        v5::Packet::Publish(publish) => message(*publish)?,
        v5::Packet::Subscribe(subscribe) => v5_subscribe(subscribe),
        v5::Packet::Unsubscribe(unsubscribe) => {
            In::Unsubscribe(unsubscribe.packet_id, texts(&unsubscribe.topic_filters))
        }
        v5::Packet::PublishAck(ack) => In::PubAck(ack.packet_id, ack.reason_code.into()),
        v5::Packet::PingRequest if size == 0 => In::Ping,
        v5::Packet::Disconnect(_) => In::Disconnect,
        _ => return Err(Violation(reason::PROTOCOL_ERROR)),
    })
}

fn v5_subscribe(subscribe: v5::Subscribe) -> In {
    let filters = if subscribe.id.is_some() {
        Err((subscribe.topic_filters.len(), reason::NO_SUBSCRIPTION_IDS))
    } else {
        let filters = subscribe.topic_filters.into_iter();
        Ok(filters
            .map(|(topic, options)| Filter {
                topic: topic.to_string(),
                qos: options.qos.into(),
            })
            .collect())
    };
    In::Subscribe(subscribe.packet_id, filters)
}

fn texts(filters: &[impl ToString]) -> Vec<String> {
    filters.iter().map(ToString::to_string).collect()
}

fn v5_problem(connect: &v5::Connect) -> Option<(u8, &'static str)> {
    if connect.auth_method.is_some() {
        return Some((reason::BAD_AUTHENTICATION_METHOD, "only user name and password"));
    }
    let will = connect.last_will.as_ref()?;
    Some(if will.retain {
        (reason::RETAIN_NOT_SUPPORTED, reason::NO_WILLS)
    } else if will.qos == QoS::ExactlyOnce {
        (reason::QOS_NOT_SUPPORTED, reason::NO_WILLS)
    } else {
        (reason::IMPLEMENTATION_SPECIFIC, reason::NO_WILLS)
    })
}

/// A command as a message; its properties are of MQTT 5 alone.
pub(crate) fn down(down: Down, properties: Option<v5::PublishProperties>) -> Box<Publish> {
    Box::new(Publish {
        dup: false,
        retain: false,
        qos: if down.id.is_some() {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        topic: down.topic.into(),
        packet_id: down.id,
        payload: down.payload,
        properties,
    })
}

pub(crate) fn v5_properties(down: &Down) -> v5::PublishProperties {
    let left = (down.expires.as_micros() - Timestamp::now().as_micros()) / 1_000_000;
    v5::PublishProperties {
        content_type: Some("application/json".into()),
        is_utf8_payload: true,
        correlation_data: Some(Bytes::copy_from_slice(down.command.as_bytes())),
        response_topic: Some(down.answer.clone().into()),
        // Whole seconds, and never none: it is not expired yet.
        message_expiry_interval: NonZeroU32::new(u32::try_from(left).unwrap_or(u32::MAX).max(1)),
        ..v5::PublishProperties::default()
    }
}

fn v3_out(packet: Out) -> Option<v3::Packet> {
    Some(match packet {
        Out::Publish(command) => v3::Packet::Publish(down(*command, None)),
        Out::ConnAck { reason, .. } => v3::Packet::ConnectAck(v3::ConnectAck {
            return_code: reason::v3_return_code(reason),
            session_present: false,
        }),
        Out::PubAck { id, .. } => v3::Packet::PublishAck { packet_id: id },
        Out::SubAck(packet_id, reasons) => v3::Packet::SubscribeAck {
            packet_id,
            status: reasons
                .into_iter()
                .map(|reason| match QoS::try_from(reason) {
                    Ok(granted) => v3::SubscribeReturnCode::Success(granted),
                    Err(_) => v3::SubscribeReturnCode::Failure,
                })
                .collect(),
        },
        Out::UnsubAck(packet_id, _) => v3::Packet::UnsubscribeAck { packet_id },
        Out::Pong => v3::Packet::PingResponse,
        Out::Disconnect(_) => return None,
    })
}

fn v5_out(packet: Out) -> v5::Packet {
    match packet {
        Out::ConnAck {
            reason,
            text,
            assigned_id,
            keep_alive_s,
        } => v5::Packet::ConnectAck(Box::new(v5::ConnectAck {
            reason_code: reason
                .try_into()
                .unwrap_or(v5::ConnectAckReason::UnspecifiedError),
            reason_string: text.map(Into::into),
            assigned_client_id: assigned_id.map(Into::into),
            server_keepalive_sec: keep_alive_s,
            session_expiry_interval_secs: Some(0),
            receive_max: NonZeroU16::new(RECEIVE_MAX).expect("not zero"),
            max_qos: QoS::AtLeastOnce,
            max_packet_size: Some(PACKET_MAX),
            topic_alias_max: 0,
            retain_available: false,
            subscription_identifiers_available: false,
            shared_subscription_available: false,
            ..Default::default()
        })),
        Out::PubAck { id, reason, text } => v5::Packet::PublishAck(v5::PublishAck {
            packet_id: id,
            reason_code: reason
                .try_into()
                .unwrap_or(v5::PublishAckReason::UnspecifiedError),
            properties: Vec::new(),
            reason_string: text.map(Into::into),
        }),
        Out::Publish(command) => {
            let properties = v5_properties(&command);
            v5::Packet::Publish(down(*command, Some(properties)))
        }
        Out::SubAck(packet_id, reasons) => v5::Packet::SubscribeAck(v5::SubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: reasons
                .into_iter()
                .map(|reason| {
                    reason
                        .try_into()
                        .unwrap_or(v5::SubscribeAckReason::UnspecifiedError)
                })
                .collect(),
        }),
        Out::UnsubAck(packet_id, reasons) => v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: reasons
                .into_iter()
                .map(|reason| {
                    reason
                        .try_into()
                        .unwrap_or(v5::UnsubscribeAckReason::UnspecifiedError)
                })
                .collect(),
        }),
        Out::Pong => v5::Packet::PingResponse,
        Out::Disconnect(reason) => v5::Packet::Disconnect(v5::Disconnect::new(
            reason
                .try_into()
                .unwrap_or(v5::DisconnectReasonCode::UnspecifiedError),
        )),
    }
}
