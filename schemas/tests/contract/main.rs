//! The contract on the wire, and that Rust and the schemas agree about it.
mod examples;
mod senml;
mod strict;
mod wire;
