//! Up, down, and processes that are killed.
