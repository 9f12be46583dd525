//! The loop of Telltale: pull, decode, handle, publish, acknowledge. Not a worker itself.
//!
//! A worker is a function from one message to messages; all that can go wrong around it is here.
#![warn(missing_docs)]

mod args;
mod arrival;
mod backoff;
mod batch;
mod bind;
mod compose;
mod consume;
mod daemon;
pub mod delivery;
pub mod fault;
pub mod health;
pub mod identity;
pub mod lane;
mod line;
mod manifest;
mod metrics;
mod offline;
mod one;
mod ordered;
mod outage;
mod outbox;
mod pack;
mod pull;
mod quarantine;
mod redo;
mod run;
mod stop;
mod telemetry;
pub mod things;
mod turns;
pub mod verdict;
pub mod web;
pub mod worker;

pub use args::duration;
pub use daemon::{Daemon, command_daemon, daemon};
pub use delivery::{Cause, Delivery};
pub use health::{Check, Health};
pub use lane::{Inbound, Nothing, OnLane, Outbound};
pub use run::{
    command, command_batch, command_ordered, manifest, manifest_batch, manifest_ordered, run, run_batch,
    run_ordered,
};
pub use stop::Fatal;
pub use verdict::{Draft, Emit, Failure, Intake, Judge, Verdict};
pub use worker::{BatchWorker, Made, NoArgs, OrderedWorker, Resources, Worker};

// For `lanes!`.
#[doc(hidden)]
pub use serde_json::Error as JsonError;
#[doc(hidden)]
pub use telltale_nats::Lane;
#[doc(hidden)]
pub use telltale_schemas::Envelope;

/// What almost every worker imports.
pub mod prelude {
    pub use crate::{
        BatchWorker, Delivery, Draft, Emit, Failure, Judge as _, NoArgs, Nothing, Resources, Verdict, Worker,
    };
    pub use telltale_schemas::{
        Command, Derivation, Event, Observation, Outcome, Quarantine, Reading, Record, Registration,
        Timestamp,
    };
}
