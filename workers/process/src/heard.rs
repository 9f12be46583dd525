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

/// How what follows comes back in, were it stored at `stored`; `None` for what this worker does not hear. Of its trace
/// there is only what the limit of hops counts.
pub fn again(made: &Follows, stored: Timestamp) -> Option<Heard> {
    let Said::Derivation(derivation) = &made.draft.message else {
        return None;
    };
    let mut cause = Cause::clone(&made.cause);
    if let Some(thing) = &made.draft.thing {
        cause.thing = telltale_nats::Name::new(thing.as_str()).ok()?;
    }
    cause.causationid = Some(std::mem::take(&mut cause.id));
    cause.id = made.draft.id.clone()?;
    cause.time = made.draft.time.unwrap_or(cause.time);
    let micros = stored.as_micros();
    let hop = format!("process;1;{micros};{micros}");
    cause.hops = [cause.hops.as_str(), &hop]
        .iter()
        .filter(|hops| !hops.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    Some(Heard {
        cause: Arc::new(cause),
        stored,
        records: derivation.records.clone(),
        annotation: Map::new(),
        rule: Some(derivation.rule.clone().unwrap_or_default()),
    })
}
