//! The command line, and the library that starts a stack.

pub mod commands;
pub mod migrate;
