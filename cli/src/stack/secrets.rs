//! Passwords of a stack: made once, never fixed, kept where only we can read them.
use super::layout::{Layout, secret};
use crate::envfile;
use anyhow::Context as _;
use std::collections::BTreeMap;

const LENGTH: usize = 32;

/// The passwords of the database's roles.
#[derive(Clone)]
pub struct Secrets {
    pub(super) owner: String,
    pub(super) reader: String,
    pub(super) query: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Those of the stack, made the first time.
    pub fn load_or_make(layout: &Layout) -> anyhow::Result<Self> {
        let path = layout.credentials().join("database");
        let mut kept = if path.is_file() {
            envfile::read(&path)?
        } else {
            BTreeMap::new()
        };
        let before = kept.len();
        let mut take = |name: &str| {
            kept.entry(name.to_owned())
                .or_insert_with(|| secret(LENGTH))
                .clone()
        };
        let secrets = Self {
            owner: take("OWNER"),
            reader: take("READER"),
            query: take("QUERY"),
        };
        if kept.len() == before {
            return Ok(secrets); // The folder may be one that is only read.
        }
        let text = envfile::render(kept.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        envfile::write_private(&path, &text).with_context(|| format!("write {}", path.display()))?;
        Ok(secrets)
    }
}
