//! The eight kinds of data. A new stage is a new type, never an optional field.
//!
//! Unknown members are ignored: what a newer worker adds is the same `v1`, and must pass through an older one.
use crate::{Document, Kind, Record, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Validated records of one thing, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// 1 to 1 000 records.
    pub records: Vec<Record>,
}

/// A [`Reading`] with the facts about its thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The reading's records.
    pub records: Vec<Record>,
    /// What the `things` bucket says about the thing: `foi` (feature of interest, a URI), `location`
    /// (GeoJSON, `[longitude, latitude]`), `tdrev` (revision of the entry), and whatever else its entry has.
    /// `{"registered": false}` for a thing that nobody registered.
    pub annotation: Map<String, Value>,
}

/// Records computed from others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Derivation {
    /// The computed records.
    pub records: Vec<Record>,
    /// The rule that computed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// Something that happened to a thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What, by name; the last token of its subject.
    pub name: String,
    /// The particulars.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

/// A request to a thing: write a property or invoke an action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The property or action; the last token of its subject.
    pub name: String,
    /// What it is to be set to, or called with.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// 0 to 9, larger first among the commands that wait for the thing; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Not delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The command's id.
    pub command: String,
    /// The command's name; the last token of the subject.
    pub name: String,
    /// How far it came.
    pub state: State,
    /// What the device answered.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The command itself, with `queued` and with every refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Command>,
}

/// The life of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Accepted, waits for its device.
    Queued,
    /// Given to the device's session.
    Sent,
    /// The device has it.
    Acknowledged,
    /// Done.
    Succeeded,
    /// Refused, or the device could not.
    Failed,
    /// Its time ran out; never delivered afterwards.
    Expired,
    /// Taken back.
    Cancelled,
    /// Tried once, no answer: nobody knows.
    Unknown,
}

impl State {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent | Self::Acknowledged)
    }
}

/// A change in the life of a thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// What changed; the last token of the subject.
    pub change: Change,
    /// The entry's revision in the `things` bucket.
    pub revision: u64,
    /// The entry after the change: always with `created` and `updated`, never where [`Change::ends`] or
    /// [`Change::is_presence`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Box<crate::thing::Entry>>,
    /// Who did it: a person's name, or a device's credential; absent where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The particulars: `to` (site) of `moved`, `protocol` of `online`, `interval` of `stale`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

/// What can happen to a thing's registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// New.
    #[default]
    Created,
    /// Its description, policy or annotation differ.
    Updated,
    /// Gone.
    Deleted,
    /// Gone to another site, which has it as created.
    Moved,
    /// Gone, because it was not registered again in time.
    Expired,
    /// Its device is connected, or speaks again.
    Online,
    /// Its device has said nothing for three of its intervals.
    Stale,
    /// Its device is not connected.
    Offline,
    /// Gone, and everything that was known of it with it.
    Erased,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::Moved,
        Self::Expired,
        Self::Online,
        Self::Stale,
        Self::Offline,
        Self::Erased,
    ];

    /// The word on the wire and in the subject.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Expired => "expired",
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
            Self::Erased => "erased",
        }
    }

    /// Whether the thing is not registered any more.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Deleted | Self::Expired | Self::Erased)
    }

    /// Whether it is about the device alone: the entry is as it was.
    pub const fn is_presence(self) -> bool {
        matches!(self, Self::Online | Self::Stale | Self::Offline)
    }
}

/// A message that a stage refused: the original, whole, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The worker that refused it, also the one that a replay goes to.
    pub stage: String,
    /// Why, in one word of `[a-z0-9_]`; the last token of the subject.
    pub reason: String,
    /// What exactly was wrong, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// How often it was tried.
    pub attempts: u32,
    /// After which replay from the quarantine it was refused; 0: it was never replayed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// The original's subject.
    pub original: String,
    /// The original's headers, in order; a name may come twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The original's bytes, base64 with padding.
    pub payload: String,
    /// SHA-256 of the original's bytes, lower-case hex.
    pub sha256: String,
    /// When the stage first saw it, which for a raw message is when it was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Timestamp>,
}

/// One thing that was wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// JSON Pointer (RFC 6901) into the payload; empty for the whole.
    pub pointer: String,
    /// What was wrong, with the value that was found.
    pub message: String,
}

impl Fault {
    /// A fault at that place.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

macro_rules! documents {
    ($($name:ident),+) => { $(impl Document for $name { const KIND: Kind = Kind::$name; })+ };
}
documents!(
    Reading,
    Observation,
    Derivation,
    Event,
    Command,
    Outcome,
    Registration,
    Quarantine
);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn value(records: &[Record], name: &str) -> Option<f64> {
    records
        .iter()
        .rev()
        .find(|record| record.n == name)
        .and_then(|record| record.v)
}

impl Reading {
    /// The newest number of that property, in the unit of its record.
    pub fn value(&self, name: &str) -> Option<f64> {
        value(&self.records, name)
    }
}

impl Observation {
    /// The newest number of that property, in the unit of its record.
    pub fn value(&self, name: &str) -> Option<f64> {
        value(&self.records, name)
    }
}

impl Derivation {
    /// The newest number of that property, in the unit of its record.
    pub fn value(&self, name: &str) -> Option<f64> {
        value(&self.records, name)
    }
}

impl Event {
    /// An event of that name; the runtime fills in thing, site, time and id from its cause.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            detail: Map::new(),
        }
    }

    /// One more particular.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.detail.insert(key.into(), value.into());
        self
    }
}

impl Command {
    /// A command of that name; the runtime fills in the rest from its cause.
    pub fn new(name: impl Into<String>, input: impl Into<Value>) -> Self {
        Self {
            name: name.into(),
            input: input.into(),
            ..Self::default()
        }
    }
}
