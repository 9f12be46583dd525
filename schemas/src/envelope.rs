//! The CloudEvents 1.0 envelope (structured mode) that every message wears from `valid` on.
use crate::{RawSeq, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

/// What is inside an envelope; the CloudEvents `type` is `telltale.<kind>.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Validated records of one thing.
    Reading,
    /// A reading with the facts about its thing.
    Observation,
    /// Records computed from others.
    Derivation,
    /// Something that happened.
    Event,
    /// A request to a thing.
    Command,
    /// What became of a command.
    Outcome,
    /// A change in the life of a thing.
    Registration,
    /// A message that a stage refused, kept whole.
    Quarantine,
}

impl Kind {
    /// All of them, in the order of the design.
    pub const ALL: [Self; 8] = [
        Self::Reading,
        Self::Observation,
        Self::Derivation,
        Self::Event,
        Self::Command,
        Self::Outcome,
        Self::Registration,
        Self::Quarantine,
    ];

    /// The bare word, also the name of its schema file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Observation => "observation",
            Self::Derivation => "derivation",
            Self::Event => "event",
            Self::Command => "command",
            Self::Outcome => "outcome",
            Self::Registration => "registration",
            Self::Quarantine => "quarantine",
        }
    }

    /// The CloudEvents `type`.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Reading => "telltale.reading.v1",
            Self::Observation => "telltale.observation.v1",
            Self::Derivation => "telltale.derivation.v1",
            Self::Event => "telltale.event.v1",
            Self::Command => "telltale.command.v1",
            Self::Outcome => "telltale.outcome.v1",
            Self::Registration => "telltale.registration.v1",
            Self::Quarantine => "telltale.quarantine.v1",
        }
    }

    /// The kind of that CloudEvents `type`.
    pub fn of_event_type(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.event_type() == event_type)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.event_type())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::of_event_type(&text)
            .ok_or_else(|| serde::de::Error::custom(format_args!("`{text}` is no type of ours")))
    }
}

/// Data of one [`Kind`].
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Which.
    const KIND: Kind;
}

/// One message. Attribute names are CloudEvents'; extension attributes are lower-case letters only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<D> {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// Names the effect, not the transport: `<thing>:<key>` for what came in,
    /// `<id of the cause>.<worker>.<n>` for what a worker made. It fits into a header ([`crate::id::is_id`]).
    #[serde(deserialize_with = "id_of_envelope")]
    pub id: String,
    /// The CloudEvents type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `/<site>/<stage>`: where it was written.
    pub source: String,
    /// The thing, unescaped.
    pub subject: String,
    /// When the newest record was measured, or the thing happened.
    pub time: Timestamp,
    /// When the bridge took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recordedtime: Option<Timestamp>,
    /// Whether a time in it was told as an offset from its receipt: sent again, it has another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relativetime: bool,
    /// Which raw message it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rawseq: Option<RawSeq>,
    /// How it came in: `http`, `mqtt`, `nats`, `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whose credential brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The id of what it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// The id of the whole story.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// The trace in which it began (W3C Trace Context); each hop's own is in the message's header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// After this a command is never carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expirytime: Option<Timestamp>,
    /// The data.
    pub data: D,
}

fn id_of_envelope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if crate::id::is_id(&id) {
        Ok(id)
    } else {
        Err(serde::de::Error::custom(
            "an `id` has 1 to 1024 characters, and no control character",
        ))
    }
}

impl<D> Envelope<D> {
    /// The same envelope around other data; `kind` becomes that data's.
    pub fn map<E: Document>(self, change: impl FnOnce(D) -> E) -> Envelope<E> {
        Envelope {
            specversion: self.specversion,
            id: self.id,
            kind: E::KIND,
            source: self.source,
            subject: self.subject,
            time: self.time,
            recordedtime: self.recordedtime,
            relativetime: self.relativetime,
            rawseq: self.rawseq,
            protocol: self.protocol,
            publisher: self.publisher,
            causationid: self.causationid,
            correlationid: self.correlationid,
            traceparent: self.traceparent,
            expirytime: self.expirytime,
            data: change(self.data),
        }
    }
}

impl<D: Document> Envelope<D> {
    /// An envelope with what it must have; the rest is `None`.
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        subject: impl Into<String>,
        time: Timestamp,
        data: D,
    ) -> Self {
        Self {
            specversion: SpecVersion,
            id: id.into(),
            kind: D::KIND,
            source: source.into(),
            subject: subject.into(),
            time,
            recordedtime: None,
            relativetime: false,
            rawseq: None,
            protocol: None,
            publisher: None,
            causationid: None,
            correlationid: None,
            traceparent: None,
            expirytime: None,
            data,
        }
    }
}

/// The one version of CloudEvents that we speak, `1.0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecVersion;

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("1.0")
    }
}

impl<'de> Deserialize<'de> for SpecVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text == "1.0" {
            Ok(Self)
        } else {
            Err(serde::de::Error::custom("specversion is not `1.0`"))
        }
    }
}
