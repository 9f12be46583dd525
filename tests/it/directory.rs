//! The directory of things (W3C WoT Discovery, CoRE links), asked over HTTP and NATS: a gateway beside a broker of its
//! own.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod bad_http;
mod discovery;
mod events;
mod expiry;
mod list;
mod many;
mod search;
mod service;
mod site;
mod things;
mod third_party;

pub(crate) use site::{Event, Events, listen};
