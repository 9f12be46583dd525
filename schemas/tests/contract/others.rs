//! Documents that others wrote, outside of the project, so that a test can disagree with us.
use std::path::PathBuf;

/// One set of them; `None`, and a word about it, where it is not there.
pub(crate) fn set(name: &str) -> Option<PathBuf> {
    let told = std::env::var_os("TELLTALE_DATA").map(PathBuf::from);
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let folder = told.unwrap_or_else(beside).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no data of others at {}", folder.display());
    None
}
