//! Bad inputs to a whole pipeline: refused or kept with reason and pointer, and what comes next is unharmed. What one
//! crate can show alone is tested there; `docs/RELIABILITY.md` says where, by number.
mod broker;
mod documents;
mod names;
mod operator;

use std::fmt::Write as _;

/// The path of a thing's readings, with every byte of its name escaped.
fn readings_of(name: &str) -> String {
    let mut path = "/things/".to_owned();
    for byte in name.bytes() {
        write!(path, "%{byte:02X}").unwrap();
    }
    path.push_str("/readings");
    path
}
