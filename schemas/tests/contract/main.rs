//! The contract on the wire, and that Rust and the schemas agree about it.
mod cbor;
mod examples;
mod senml;
mod senml_traps;
mod strict;
mod wire;
