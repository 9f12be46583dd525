//! Programs of workers: ours beside us, admitted ones where they said, and those that are being written.
use super::{exit::Refused, names};
use crate::stack::{Extension, Layout, WORKERS, roads};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use telltale_nats::Manifest;

/// The folder that we are in; programs of tests are one level down.
fn beside_us() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    let folder = own.parent().context("find the folder of the running program")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.to_owned())
}

/// What our own workers need, and what those need that were admitted here.
pub fn manifests(layout: Option<&Layout>) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = built_in()?;
    if let Some(layout) = layout {
        manifests.extend(admitted(layout)?.into_iter().map(|extension| extension.manifest));
    }
    Ok(manifests)
}

/// What our own workers need, as their programs say.
pub fn built_in() -> anyhow::Result<Vec<Manifest>> {
    let folder = beside_us()?;
    let of = |worker: &&str| {
        let program = folder.join(format!("telltale-{worker}"));
        if !program.is_file() {
            let refused = Refused::precondition(format!("no program `{}`", program.display()));
            return Err(refused.hint("build it: `cargo build --workspace --bins`").into());
        }
        roads::manifest_of(&program)
    };
    WORKERS.iter().map(of).collect()
}

/// The workers that were admitted here.
pub fn admitted(layout: &Layout) -> anyhow::Result<Vec<Extension>> {
    if layout.workers().is_dir() {
        Extension::load_all(layout)
    } else {
        Ok(Vec::new())
    }
}

/// The stack's folder that a context was found in.
pub fn layout(folder: Option<&Path>) -> Option<Layout> {
    folder.and_then(Path::parent).map(Layout::at)
}

/// How to start a worker: a path, one of ours, an admitted one, or one that cargo has built here.
pub fn command(name: &str, layout: Option<&Layout>) -> anyhow::Result<Vec<String>> {
    if name.contains('/') {
        return Ok(vec![name.to_owned()]);
    }
    let beside = beside_us()?;
    let admitted = layout.map(admitted).transpose()?.unwrap_or_default();
    if let Some(extension) = admitted.iter().find(|extension| extension.name() == name)
        && !extension.command.is_empty()
    {
        return Ok(extension.command.clone());
    }
    let built = ["target/debug", "target/release"].map(|folder| Path::new(folder).join(name));
    let candidates = [beside.join(format!("telltale-{name}")), beside.join(name)];
    if let Some(program) = candidates.iter().chain(&built).find(|path| path.is_file()) {
        return Ok(vec![program.display().to_string()]);
    }
    let known = WORKERS
        .iter()
        .copied()
        .chain(admitted.iter().map(Extension::name));
    let refused = Refused::failed(format!("no worker `{name}`"));
    Err(match names::did_you_mean(name, known) {
        Some(hint) => refused.hint(hint),
        None => refused.hint(format!(
            "build it: `cargo build -p {name}`; or give the path of its program"
        )),
    }
    .into())
}
