//! The roads of Telltale: subjects, streams, sites and permissions; configurations are files beside this crate.
//!
//! | module | holds |
//! |---|---|
//! | [`subject`] | the only place where a subject is built or parsed |
//! | [`header`] | the names of our message headers |
#![warn(missing_docs)]

pub mod header;
pub mod subject;

pub use subject::{Lane, Name, Subject};
