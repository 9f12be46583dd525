//! Faults on purpose, under load, and what must hold all the same.
pub mod points;
