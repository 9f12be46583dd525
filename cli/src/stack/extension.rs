//! Workers that were admitted: a file each in `.telltale/workers`, so that a restarted stack still knows them.
use super::Layout;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs};
use telltale_nats::manifest::Manifest;

/// What is known of an admitted worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// What it may do.
    pub manifest: Manifest,
    /// Its program and arguments; empty if it is started by others.
    #[serde(default)]
    pub command: Vec<String>,
    /// More variables for it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Extension {
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Remembers it, in place of what was known under that name.
    pub fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = layout.workers().join(format!("{}.json", self.name()));
        let text = serde_json::to_string_pretty(self)?;
        crate::envfile::write_private(&path, &text).with_context(|| format!("write {}", path.display()))
    }

    /// The one of that name, if it was admitted.
    pub fn load(layout: &Layout, name: &str) -> anyhow::Result<Option<Self>> {
        Ok(Self::load_all(layout)?
            .into_iter()
            .find(|extension| extension.name() == name))
    }

    /// All, by name.
    pub fn load_all(layout: &Layout) -> anyhow::Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(layout.workers()).context("list the admitted workers")? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: std::path::PathBuf| {
            let named = || format!("read {}", path.display());
            let extension: Self =
                serde_json::from_slice(&fs::read(&path).with_context(named)?).with_context(named)?;
            let matches = path.file_stem().is_some_and(|stem| stem == extension.name());
            ensure!(matches, "{} tells of `{}`", path.display(), extension.name());
            Ok(extension)
        };
        paths.into_iter().map(read).collect()
    }
}
