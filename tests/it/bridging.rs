//! The bridge: receipts, refusals, sessions.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod device;
mod outages;
mod receipts;
mod site;
