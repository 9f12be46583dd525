//! The roads of Telltale: subjects, streams, sites and permissions; configurations are files beside this crate.
//!
//! | module | holds |
//! |---|---|
//! | [`subject`] | the only place where a subject is built or parsed |
//! | [`header`] | the names of our message headers |
//! | [`client`] | a connection as one of our identities |
//! | [`publish`] | publishing that counts once it is confirmed, within a window |
//! | [`seal`] | the bridge's seal on raw messages |
//! | [`manifest`] | what a worker says that it needs |
#![warn(missing_docs)]

pub mod client;
pub mod header;
pub mod manifest;
pub mod publish;
pub mod seal;
pub mod subject;

pub use async_nats;
pub use publish::{Outgoing, PublishError, Publisher};
pub use subject::{Lane, Name, Subject};
