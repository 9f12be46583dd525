//! The loop of Telltale: pull, decode, handle, publish, acknowledge. Not a worker itself.
//!
//! A worker is a function from one message to messages; all that can go wrong around it is here.
#![warn(missing_docs)]

pub mod delivery;
pub mod lane;
pub mod things;
pub mod verdict;
pub mod worker;

pub use delivery::{Cause, Delivery};
pub use lane::{Inbound, Nothing, OnLane, Outbound};
pub use verdict::{Draft, Emit, Failure, Judge, Verdict};
pub use worker::{BatchWorker, NoArgs, Resources, Worker};

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
