//! A wire between two processes that can be spoiled while they use it.
mod tcp;
mod toxic;
mod udp;

pub use tcp::Tcp;
pub use toxic::{Counters, Direction, Toxic};
pub use udp::Udp;
