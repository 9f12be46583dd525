//! The library behind the command `telltale`: it starts a whole stack, for people and for tests.
pub mod commands;
pub mod context;
pub mod control;
pub mod envfile;
pub mod find;
pub mod help;
pub mod migrate;
pub mod servers;
pub mod stack;
pub mod supervise;
pub mod tree;
pub mod up;
