//! The words of Telltale: what travels, with no idea of subjects, brokers or I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`envelope`] | the CloudEvents envelope that every message wears |
//! | [`kinds`] | the eight kinds of data inside it |
//! | [`record`] | one resolved SenML record |
//! | [`timestamp`], [`rawseq`], [`duration`], [`id`] | the scalars |
//! | [`pending`] | an entry of the `pending` bucket: a command that waits for its device |
//! | [`quality`] | quality control: what is configured for a property, and verdicts that come later |
//! | [`thing`] | an entry of the `things` bucket: policy and annotation |
//! | [`rule`] | an entry of the `rules` bucket: what follows from readings |
//! | [`td`] | W3C Thing Descriptions: checked, compiled to policy and annotation, served, made from models, inferred |
//! | [`strict`] | JSON from strangers, with limits and without silent changes |
//! | [`senml`], [`units`] | SenML packs (JSON, CBOR) to records, and their units |
//! | [`decode`] | whatever a device sends, to records |
//! | [`check`] | the JSON Schemas of `schemas/json`, compiled once |
//! | [`refusal`] | why bytes are refused |
#![warn(missing_docs)]

mod cbor;
pub mod check;
pub mod decode;
pub mod duration;
pub mod envelope;
pub mod id;
pub mod kinds;
pub mod pending;
pub mod quality;
pub mod rawseq;
pub mod record;
pub mod refusal;
pub mod rule;
pub mod senml;
pub mod strict;
pub mod td;
pub mod text;
pub mod thing;
pub mod timestamp;
pub mod units;

pub use envelope::{Document, Envelope, Kind};
pub use kinds::{Command, Derivation, Event, Observation, Outcome, Quarantine, Reading, Registration};
pub use rawseq::RawSeq;
pub use record::{Flag, Record};
pub use refusal::Refusal;
pub use timestamp::Timestamp;
