//! What can no longer be under way, told by the broker alone.
//!
//! A message is always published to where it goes before it leaves where it was. So whoever looks along its way,
//! stage after stage, meets it or has it behind: what had left RAW at the first look, and had been passed by the
//! durable of every further stage up to the mark that was set there, has been seen to by the last of them. Marks are
//! set at where a stream ends, one stage after the other, and never before the stage above has passed its own. No
//! message is read, nothing is counted, and whatever goes wrong makes a barrier wait, never pass too early.
pub use async_nats::jetstream::Context as JetStream;
use async_nats::jetstream::{Context, consumer, stream};
use std::time::Duration;
use tokio::time::Instant;

/// The way of a raw message to its fate, as stream and durable; what stands together is passed in any order. A stage
/// may hand a message to itself by REDO, and there from one road to the other and back, so those come after its
/// stream, three times; `store` refuses to QUARANTINE, and reads it.
const WAY: [&[(&str, &str)]; 14] = [
    &VALIDATE,
    &VALIDATE,
    &VALIDATE,
    &[("VALID", "annotate")],
    &ANNOTATE,
    &ANNOTATE,
    &ANNOTATE,
    &[("READINGS", "store")],
    &STORE,
    &STORE,
    &STORE,
    &[("QUARANTINE", "store"), ("EVENTS", "store")],
    &STORE,
    &STORE,
];
const VALIDATE: [(&str, &str); 2] = [("REDO", "validate"), ("REDO", "validate_again")];
const ANNOTATE: [(&str, &str); 2] = [("REDO", "annotate"), ("REDO", "annotate_again")];
const STORE: [(&str, &str); 2] = [("REDO", "store"), ("REDO", "store_again")];
/// The streams whose state is looked at; their durables too.
pub const STREAMS: [&str; 6] = ["RAW", "VALID", "READINGS", "QUARANTINE", "EVENTS", "REDO"];
/// The stages of the way, as stream and durable.
pub const STAGES: [(&str, &str); 11] = [
    ("RAW", "validate"),
    ("VALID", "annotate"),
    ("READINGS", "store"),
    ("QUARANTINE", "store"),
    ("EVENTS", "store"),
    ("REDO", "validate"),
    ("REDO", "validate_again"),
    ("REDO", "annotate"),
    ("REDO", "annotate_again"),
    ("REDO", "store"),
    ("REDO", "store_again"),
];
/// The server tells a consumer of a message a moment after it has confirmed it.
const SIGNAL: Duration = Duration::from_millis(500);

/// Why the broker could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A stream's state is unknown.
    #[error("cannot look at {stream}")]
    Stream {
        /// Which.
        stream: &'static str,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::GetStreamError,
    },
    /// A durable's state is unknown.
    #[error("cannot look at `{durable}` on {stream}")]
    Durable {
        /// Which.
        durable: &'static str,
        /// On which stream.
        stream: &'static str,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::ConsumerInfoError,
    },
}

/// RAW, as it was at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    /// When it was made, in epoch seconds.
    pub epoch: u64,
    /// Its last sequence.
    pub last: u64,
    /// Up to here everything has left it.
    pub left: u64,
}

/// Looks at RAW.
pub async fn raw(js: &Context) -> Result<Raw, LookError> {
    let info = info(js, "RAW").await?;
    let last = info.state.last_sequence;
    let left = if info.state.messages == 0 {
        last
    } else {
        info.state.first_sequence.saturating_sub(1)
    };
    Ok(Raw {
        epoch: u64::try_from(info.created.unix_timestamp()).unwrap_or_default(),
        last,
        left,
    })
}

/// How a durable stands to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acknowledged.
    pub in_hand: u64,
    /// Up to here all is acknowledged.
    pub floor: u64,
}

/// Looks at a durable.
pub async fn standing(
    js: &Context,
    stream: &'static str,
    durable: &'static str,
) -> Result<Standing, LookError> {
    let failed = |source| LookError::Stream { stream, source };
    let on = js.get_stream_no_info(stream).await.map_err(failed)?;
    let info: consumer::Info = on
        .consumer_info(durable)
        .await
        .map_err(|source| LookError::Durable {
            durable,
            stream,
            source,
        })?;
    Ok(Standing {
        pending: info.num_pending,
        in_hand: info.num_ack_pending as u64,
        floor: info.ack_floor.stream_sequence,
    })
}

async fn info(js: &Context, name: &'static str) -> Result<stream::Info, LookError> {
    let found = js.get_stream(name).await;
    let found = found.map_err(|source| LookError::Stream { stream: name, source })?;
    Ok(found.cached_info().clone())
}

/// What a stage must have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Of which stream.
    pub stream: &'static str,
    /// Which durable.
    pub durable: &'static str,
    /// The last sequence at that moment.
    pub sequence: u64,
    at: Instant,
}

impl Mark {
    /// Whether the stream has nothing left up to the mark, or the durable has seen to all of it.
    fn is_passed(&self, state: &stream::State, standing: Standing, now: Instant) -> bool {
        // What the durable has yet to hear of has been confirmed for longer than that takes.
        let heard = now.duration_since(self.at) >= SIGNAL;
        self.is_empty(state)
            || standing.floor >= self.sequence
            || (heard && standing.pending == 0 && standing.in_hand == 0)
    }

    fn is_empty(&self, state: &stream::State) -> bool {
        state.messages == 0 || state.first_sequence > self.sequence
    }
}

/// A look along the way of all that had left RAW when it was begun.
#[derive(Debug, Clone)]
pub struct Barrier {
    raw: Raw,
    stage: usize,
    marks: Vec<Mark>,
}

impl Barrier {
    /// Begins with what has left RAW by now.
    pub async fn begin(js: &Context) -> Result<Self, LookError> {
        Ok(Self {
            raw: raw(js).await?,
            stage: 0,
            marks: Vec::new(),
        })
    }

    /// RAW as it was when this was begun. Once it has been passed, everything up to `left` has a fate, or is lost;
    /// and so has everything of the lives that RAW had before.
    pub fn raw(&self) -> Raw {
        self.raw
    }

    /// The first stage that has yet to pass its mark; none once all have.
    pub fn waits_for(&self) -> Option<Mark> {
        self.marks.first().copied()
    }

    /// Goes on as far as it can; whether it has been passed.
    pub async fn advance(&mut self, js: &Context) -> Result<bool, LookError> {
        loop {
            let mut left = Vec::new();
            for mark in &self.marks {
                let state = info(js, mark.stream).await?.state;
                if mark.is_empty(&state) {
                    continue;
                }
                let standing = standing(js, mark.stream, mark.durable).await?;
                if !mark.is_passed(&state, standing, Instant::now()) {
                    left.push(*mark);
                }
            }
            self.marks = left;
            if !self.marks.is_empty() {
                return Ok(false);
            }
            let Some(stage) = WAY.get(self.stage) else {
                return Ok(true);
            };
            let mut marks = Vec::with_capacity(stage.len());
            for (stream, durable) in *stage {
                let sequence = info(js, stream).await?.state.last_sequence;
                marks.push(Mark {
                    stream,
                    durable,
                    sequence,
                    at: Instant::now(),
                });
            }
            self.marks = marks;
            self.stage += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(first: u64, last: u64) -> stream::State {
        let json = format!(
            r#"{{"messages":{},"bytes":1,"first_seq":{first},"first_ts":"2026-01-01T00:00:00Z","last_seq":{last},
                "last_ts":"2026-01-01T00:00:00Z","consumer_count":1}}"#,
            (last + 1).saturating_sub(first)
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn the_durables_of_the_way_are_those_of_the_workers() {
        let stages = WAY.into_iter().flatten();
        assert!(stages.clone().all(|stage| STAGES.contains(stage)));
        for (stream, durable) in STAGES {
            assert!(STREAMS.contains(&stream));
            let worker = durable.trim_end_matches("_again");
            assert!(durable == worker || durable == crate::manifest::again_durable(worker));
        }
    }

    #[test]
    fn a_mark_is_passed_when_all_up_to_it_is_acknowledged_or_gone_and_never_before() {
        let at = Instant::now();
        let mark = Mark {
            stream: "VALID",
            durable: "annotate",
            sequence: 10,
            at,
        };
        let standing = |pending, in_hand, floor| Standing {
            pending,
            in_hand,
            floor,
        };
        let full = state(1, 12);
        let soon = at + SIGNAL / 2;
        let later = at + SIGNAL;
        assert!(mark.is_passed(&full, standing(2, 0, 10), soon));
        assert!(!mark.is_passed(&full, standing(2, 1, 9), later));
        assert!(!mark.is_passed(&full, standing(0, 1, 9), later));
        assert!(
            !mark.is_passed(&full, standing(0, 0, 9), soon),
            "the durable may not have heard of it yet"
        );
        assert!(
            mark.is_passed(&full, standing(0, 0, 9), later),
            "the rest was deleted"
        );
        assert!(mark.is_passed(&state(11, 12), standing(2, 0, 0), soon));
        assert!(mark.is_passed(&state(13, 12), standing(0, 0, 0), soon));
    }
}
