//! See DESIGN.

pub mod migrate;
