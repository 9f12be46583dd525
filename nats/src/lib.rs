//! The roads of Telltale: subjects, streams, sites and permissions; configurations are files beside this crate.
//!
//! | module | holds |
//! |---|---|
//! | [`subject`] | the only place where a subject is built or parsed |
//! | [`header`] | the names of our message headers |
//! | [`barrier`] | what can no longer be under way |
//! | [`client`] | a connection as one of our identities |
//! | [`publish`] | publishing that counts once it is confirmed, within a window |
//! | [`seal`] | the bridge's seal on raw messages |
//! | [`manifest`] | what a worker says that it needs |
//! | [`topology`] | streams and buckets of a site, from files |
//! | [`pending`] | keys of the bucket of commands that wait |
//! | [`provision`] | makes the broker what the files and manifests say |
//! | [`rights`] | what each identity may publish and subscribe to |
//! | [`server`] | the server's configuration, rendered |
#![warn(missing_docs)]

pub mod barrier;
pub mod client;
pub mod header;
pub mod manifest;
pub mod pending;
pub mod provision;
pub mod publish;
pub mod rights;
pub mod seal;
pub mod server;
pub mod subject;
pub mod topology;

pub use async_nats;
pub use manifest::Manifest;
pub use publish::{Outgoing, PublishError, Publisher};
pub use subject::{Lane, Name, Subject};
pub use topology::Topology;
