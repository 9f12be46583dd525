//! What must hold whatever fails: an outside ledger of what was sent and answered, the oracles that compare it with
//! what became of it, a proxy that spoils the wire between two processes, and schedules of faults that can be had
//! again.
//!
//! It knows none of Telltale's other crates: what it compares was seen from outside.
pub mod ledger;
pub mod oracle;
pub mod proxy;
pub mod schedule;
