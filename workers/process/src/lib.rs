//! Local processing: what needs more than one reading. Quality by its neighbours, rules, derived readings.
#![warn(missing_docs)]
pub mod derive;
pub mod heard;
pub mod order;
pub mod quality;
pub mod rules;

pub use heard::{Follows, Heard, Input, Said};
