//! Bad inputs to a whole pipeline: refused or kept with reason and pointer, and what comes next is unharmed. What one
//! crate can show alone is tested there; `docs/RELIABILITY.md` says where, by number.
mod broker;
mod documents;
mod names;
mod operator;
