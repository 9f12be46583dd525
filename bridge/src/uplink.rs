//! What an adapter brings, and what it is told.
use crate::{keyring::Ticket, metrics::Protocol, route::Route};
use bytes::Bytes;
use std::time::Duration;
use telltale_schemas::kinds::Fault;

/// Largest payload of readings, in bytes.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Largest payload of an event, in bytes.
pub const EVENT_MAX: usize = 16 * 1024;

/// One message of a device, parsed out of its protocol.
#[derive(Debug)]
pub struct Uplink {
    /// Who brings it.
    pub ticket: Ticket,
    /// How.
    pub protocol: Protocol,
    /// What it is, and of which thing.
    pub route: Route,
    /// Its media type, where the protocol has one and the device gave it.
    pub content_type: Option<String>,
    /// The device's own id of it.
    pub key: Option<String>,
    /// The bytes as the device sent them.
    pub payload: Bytes,
}

/// What the device is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The broker has confirmed all of it. The ids, one for each thing.
    Accepted(Vec<String>),
    /// An answer that no command waits for: it has ended, or there was none.
    Late,
    /// Wrong, and wrong again if repeated.
    Refused(Refusal),
    /// Try again later. It may have been stored all the same, where the broker's answer was lost.
    Busy(Busy),
}

/// Why nothing can be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The stream is full.
    Full,
    /// The broker does not answer.
    Away,
    /// Too many wait already.
    Crowded,
    /// This thing sends faster than it may.
    Fast,
}

impl Busy {
    /// When to try again.
    pub const fn retry_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::Crowded | Self::Fast => 1,
            Self::Away => 2,
            Self::Full => 5,
        })
    }

    /// For metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Away => "away",
            Self::Crowded => "crowded",
            Self::Fast => "fast",
        }
    }

    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Full => "the stream is full",
            Self::Away => "the message broker does not answer",
            Self::Crowded => "too many messages are waiting",
            Self::Fast => "this thing sends faster than it may",
        }
    }
}

/// Why an uplink is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The credential was changed or deleted since the session began.
    #[error("the credential is no longer valid")]
    Revoked,
    /// The credential does not cover that thing.
    #[error("the credential does not cover `{0}`")]
    Forbidden(String),
    /// An event that only we raise.
    #[error("no device may raise the event `{0}`: it is one of our own")]
    OwnEvent(String),
    /// Only a gateway may bring packs that are split.
    #[error("the credential is not a gateway's: only a gateway may bring readings of several things at once")]
    NoGateway,
    /// Too many bytes.
    #[error("the payload has more than {0} bytes")]
    TooLarge(usize),
    /// A media type that nothing decodes.
    #[error("the media type is not one of those that are decoded")]
    MediaType,
    /// The device's own id cannot be one.
    #[error("an id is 1 to 128 bytes of printable ASCII without spaces")]
    Key,
    /// What is decoded here is wrong.
    #[error("{}", invalid(.reason, .faults))]
    Invalid {
        /// One word.
        reason: &'static str,
        /// What, and where.
        faults: Vec<Fault>,
    },
}

fn invalid(reason: &str, faults: &[Fault]) -> String {
    faults
        .first()
        .map_or_else(|| reason.to_owned(), |fault| fault.message.clone())
}

impl Refusal {
    /// For metrics.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Forbidden(_) | Self::NoGateway | Self::OwnEvent(_) => "forbidden",
            Self::TooLarge(_) => "too_large",
            Self::MediaType => "media_type",
            Self::Key => "key",
            Self::Invalid { .. } => "invalid",
        }
    }
}

impl Refusal {
    /// What a device wanted to speak for, or with, and may not; none where it is no matter of rights.
    pub(crate) fn wanted(&self) -> Option<&str> {
        match self {
            Self::Forbidden(name) | Self::OwnEvent(name) => Some(name),
            Self::NoGateway => Some("readings"),
            Self::Revoked => Some(""),
            Self::TooLarge(_) | Self::MediaType | Self::Key | Self::Invalid { .. } => None,
        }
    }
}

impl From<telltale_schemas::Refusal> for Refusal {
    fn from(refusal: telltale_schemas::Refusal) -> Self {
        if refusal.reason == "content_type" {
            return Self::MediaType;
        }
        Self::Invalid {
            reason: refusal.reason,
            faults: refusal.faults,
        }
    }
}
