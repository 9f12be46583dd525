//! Rules: conditions in CEL over readings, and what follows from them (ADR 0025).
//!
//! [`Engine`] is a function of the readings that it is told, in the order of their things, and of the documents that
//! are in force; what it remembers is kept by its `Serialize`.
mod alarm;
mod book;
mod document;
mod effect;
mod engine;
pub mod expression;
pub mod history;
mod scope;
mod tally;
mod turn;
pub mod values;
mod watch;

pub use book::{Change, Refused};
pub use document::{Condition, Wrong, condition, ready};
pub use engine::Engine;
pub use expression::SPAN_MAX;
pub use tally::Tally;
pub use turn::HOPS_MAX;
pub use watch::{Metrics, Watch};

#[cfg(test)]
mod tests;
