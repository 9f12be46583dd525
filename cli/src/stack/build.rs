//! The programs of bridge and workers: built first where the sources are, else those beside us.
use crate::find::Say;
use anyhow::{Context as _, bail, ensure};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Which build of the programs is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// The one that the running program comes from.
    #[default]
    Own,
    Debug,
    Release,
}

/// Folders of programs that this process has built: a test binary with many stacks builds once.
static BUILT: Mutex<BTreeMap<Build, PathBuf>> = Mutex::new(BTreeMap::new());

/// The folder of the programs, built if that can be. Blocks. `shown`: whether cargo's progress is.
pub(super) fn programs(build: Build, shown: bool, say: &Say) -> anyhow::Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = built.get(&build) {
        return Ok(folder.clone());
    }
    let own = std::env::current_exe().context("find the running program")?;
    let own = own.parent().context("find the folder of the running program")?;
    // Test programs are one level down.
    let own = if own.ends_with("deps") {
        own.parent().unwrap_or(own)
    } else {
        own
    };
    let folder = match checkout(own) {
        Some(checkout) => build_all(&checkout, own, build, shown, say)?,
        None => own.to_owned(),
    };
    built.insert(build, folder.clone());
    Ok(folder)
}

/// One of the programs in `folder`.
pub(super) fn program(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    ensure!(path.is_file(), "no program {name} in {}", folder.display());
    Ok(path)
}

/// The sources that the running program was built from, if they are here and it still lies where cargo put it.
pub fn checkout(own: &Path) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    (root.join("Cargo.toml").is_file() && own.join(".fingerprint").is_dir()).then(|| root.to_owned())
}

/// `cargo`, told nothing of the package that a cargo above us runs: build scripts watch those variables, and would
/// build half the world again each time that they come and go.
pub fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if of_a_package.iter().any(|prefix| name.starts_with(prefix))
            || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&&*name)
        {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

fn build_all(checkout: &Path, own: &Path, build: Build, shown: bool, say: &Say) -> anyhow::Result<PathBuf> {
    let target = own.parent().context("find cargo's target folder")?;
    let release = match build {
        Build::Own => own.ends_with("release"),
        Build::Debug => false,
        Build::Release => true,
    };
    let folder = target.join(if release { "release" } else { "debug" });
    if !folder.join("telltale-store").is_file() {
        say.line("building bridge and workers: minutes, the first time");
    }
    let mut cargo = self::cargo();
    cargo
        .args(["build", "--workspace", "--bins", "--target-dir"])
        .arg(target)
        .current_dir(checkout);
    if release {
        // What the tests need of libraries is more than `cargo up` was built with: their features would build half
        // of them a second time. In the tests' own profile it is the other way round.
        cargo.args(["--release", "--exclude", "telltale-tests"]);
    }
    if !shown {
        cargo.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped());
    }
    cargo.stdin(Stdio::null());
    let output = cargo
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .context("run cargo build")?;
    if !output.status.success() {
        bail!("cargo build failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder)
}
