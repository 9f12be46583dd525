//! The words of Telltale: what travels, with no idea of subjects, brokers or I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`envelope`] | the CloudEvents envelope that every message wears |
//! | [`kinds`] | the eight kinds of data inside it |
//! | [`record`] | one resolved SenML record |
//! | [`timestamp`], [`rawseq`] | the scalars |
//! | [`thing`] | an entry of the `things` bucket: policy and annotation |
#![warn(missing_docs)]

pub mod envelope;
pub mod kinds;
pub mod rawseq;
pub mod record;
pub mod thing;
pub mod timestamp;

pub use envelope::{Document, Envelope, Kind};
pub use kinds::{Command, Derivation, Event, Observation, Outcome, Quarantine, Reading, Registration};
pub use rawseq::RawSeq;
pub use record::{Flag, Record};
pub use timestamp::Timestamp;
