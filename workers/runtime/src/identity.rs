//! Who comes from outside: what devices and people prove themselves with, and how guesses are slowed.
//!
//! | module | holds |
//! |---|---|
//! | [`credential`] | a device's secrets and rights, as they stand in the bucket `credentials` |
//! | [`issue`] | giving and taking them away |
//! | [`refusals`] | who was refused, counted and told as events |
//! | [`token`] | `<name>.<secret>`, how both devices and people write it in a header |
//! | [`guard`] | budgets of guesses for each name and address |
pub mod credential;
pub mod guard;
pub mod issue;
pub mod refusals;
pub mod token;
