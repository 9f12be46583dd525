//! The contract on the wire, and that Rust and the schemas agree about it.
#![expect(clippy::unwrap_used, reason = "a helper of a test that cannot go on says so")]
mod cbor;
mod decoding;
mod examples;
mod others;
mod properties;
mod senml;
mod senml_traps;
mod strict;
mod td;
mod td_compile;
mod td_models;
mod wire;
