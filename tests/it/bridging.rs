//! The bridge: receipts, refusals, sessions.
