//! The bridge: receipts, refusals, sessions.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
pub(crate) mod device;
mod outages;
mod receipts;
pub(crate) mod site;
