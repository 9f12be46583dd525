//! Commands on their way to devices: a broker, bridges beside it, and devices that speak MQTT and HTTP.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod bridges;
pub(crate) mod http;
mod life;
mod world;
