//! What operators are told, and what they answer.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use telltale_runtime::{Cause, Made, prelude::*};

telltale_runtime::lanes! {
    /// What comes in.
    pub enum Input { Observation, Derivation }
}
telltale_runtime::lanes! {
    /// What follows.
    pub enum Said { Derivation, Event, Command }
}

/// A reading, whole, in the order of its thing: by time, then by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Its envelope.
    pub cause: Arc<Cause>,
    /// When the broker stored it: the clock of everything here, for it is the same whenever the stream is read.
    pub stored: Timestamp,
    /// Its records, in the order of the message; the quality flags of this stage are already in them.
    pub records: Vec<Record>,
    /// What was known of its thing; empty for what was computed.
    pub annotation: Map<String, Value>,
    /// The rule that computed it; `None` for what was measured.
    pub rule: Option<String>,
}

impl Heard {
    /// The thing's name.
    pub fn thing(&self) -> &str {
        self.cause.thing.plain()
    }

    /// When that record was measured.
    pub fn time_of(&self, record: &Record) -> Timestamp {
        record
            .t
            .and_then(Timestamp::from_seconds)
            .unwrap_or(self.cause.time)
    }
}

/// A message that follows from a reading.
pub type Follows = Made<Said>;
