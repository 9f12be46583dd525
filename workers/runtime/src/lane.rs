//! Message type to lane: a worker never sees a subject.
use crate::{Cause, delivery::Raw};
use telltale_nats::Lane;
use telltale_schemas::{
    Command, Derivation, Document, Event, Observation, Outcome, Quarantine, Reading, Registration,
};

/// One kind of message on one lane. Closed: the eight kinds.
pub trait OnLane: Document {
    /// Where it travels.
    const LANE: Lane;
    /// Whether the message goes on under its cause's own id (a reading stays itself up to its row).
    const SAME_ID: bool = false;
    /// The last token of its subject, for lanes that have one.
    fn name(&self) -> Option<&str> {
        None
    }
}

impl OnLane for Reading {
    const LANE: Lane = Lane::Valid;
    const SAME_ID: bool = true;
}
impl OnLane for Observation {
    const LANE: Lane = Lane::Annotated;
    const SAME_ID: bool = true;
}
impl OnLane for Derivation {
    const LANE: Lane = Lane::Derived;
}
impl OnLane for Event {
    const LANE: Lane = Lane::Event;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Command {
    const LANE: Lane = Lane::Command;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Outcome {
    const LANE: Lane = Lane::Outcome;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Registration {
    const LANE: Lane = Lane::Thing;
    fn name(&self) -> Option<&str> {
        Some(self.change.word())
    }
}
impl OnLane for Quarantine {
    const LANE: Lane = Lane::Quarantine;
    fn name(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// Why bytes on a lane are not a message of it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the lane's document.
    #[error("not a valid {lane} document")]
    Malformed {
        /// The lane.
        lane: Lane,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The worker does not read this lane.
    #[error("nothing is read from `{0}` here")]
    Lane(Lane),
    /// The envelope contradicts its subject.
    #[error("{0}")]
    Contradiction(String),
}

/// What a worker reads: a kind, [`Raw`], or an enum over several kinds made with [`lanes!`](crate::lanes).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a worker's `Input`",
    note = "use a message type of telltale-schemas, or an enum made with `lanes! {{ .. }}`"
)]
pub trait Inbound: Sized + Send + Sync + 'static {
    /// The lanes it is read from.
    const LANES: &'static [Lane];
    /// One envelope's JSON, or a raw message, becomes data and cause. `base` has what the subject and the
    /// delivery say; the implementation overwrites what the envelope says.
    fn decode(lane: Lane, raw: Raw, base: Cause) -> Result<(Self, Cause), DecodeError>;
}

/// What a worker may write: a kind, an enum made with [`lanes!`](crate::lanes), or [`Nothing`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a worker's `Output`",
    note = "use a message type, an enum made with `lanes! {{ .. }}`, or `Nothing`"
)]
pub trait Outbound: Send + Sync + 'static {
    /// The lanes it may be written to.
    const LANES: &'static [Lane];
    /// This one's lane.
    fn lane(&self) -> Lane;
    /// Whether it keeps its cause's id.
    fn same_id(&self) -> bool;
    /// The last token of its subject.
    fn name(&self) -> Option<&str>;
    /// The whole envelope as JSON, given all but kind and data.
    fn write(&self, envelope: telltale_schemas::Envelope<()>) -> Result<Vec<u8>, serde_json::Error>;
}

/// The output of a sink. It has no values, so `Emit<Nothing>` can only be empty.
#[derive(Debug, Clone, Copy)]
pub enum Nothing {}

impl Outbound for Nothing {
    const LANES: &'static [Lane] = &[];
    fn lane(&self) -> Lane {
        match *self {}
    }
    fn same_id(&self) -> bool {
        match *self {}
    }
    fn name(&self) -> Option<&str> {
        match *self {}
    }
    fn write(&self, _: telltale_schemas::Envelope<()>) -> Result<Vec<u8>, serde_json::Error> {
        match *self {}
    }
}
