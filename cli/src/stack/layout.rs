//! Where a stack keeps what: the `.telltale` folder.
use crate::envfile::FOLDER;
use anyhow::Context as _;
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The folder of a stack.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    folder: PathBuf,
    kept: bool,
}

impl Layout {
    /// The layout under `dir`; nothing is made.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            folder: dir.join(FOLDER),
            kept: true,
        }
    }

    /// Makes the folders under `dir`, or under a folder of its own that is removed in the end.
    pub(super) fn make(dir: Option<&Path>) -> anyhow::Result<Self> {
        let layout = match dir {
            Some(dir) => {
                let dir = std::path::absolute(dir).context("find the folder of the stack")?;
                Self::at(&dir)
            }
            None => Self {
                kept: false,
                ..Self::at(&scratch("stack").context("make a folder for the stack")?)
            },
        };
        // Others may pass, where PostgreSQL runs as another user; they can list and read nothing.
        for (folder, mode) in [
            (&layout.folder, 0o711),
            (&layout.credentials(), 0o700),
            (&layout.nats(), 0o700),
            (&layout.logs(), 0o700),
            (&layout.run(), 0o700),
            (&layout.workers(), 0o700),
        ] {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
            made.with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(layout)
    }

    /// Held by the supervisor of this folder as long as it lives, however it ends.
    pub fn lock(&self) -> anyhow::Result<fs::File> {
        let path = self.run().join("lock");
        let file = fs::File::create(&path).with_context(|| format!("open {}", path.display()))?;
        file.try_lock()
            .with_context(|| format!("a stack runs in {} already", self.dir.display()))?;
        Ok(file)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn env(&self) -> PathBuf {
        self.folder.join("env")
    }

    pub fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    /// The NKEY seed of a user.
    pub fn seed(&self, user: &str) -> PathBuf {
        self.credentials().join(format!("{user}.nk"))
    }

    /// The key with which the bridge seals.
    pub fn seal_key(&self) -> PathBuf {
        self.credentials().join("seal.key")
    }

    pub fn nats(&self) -> PathBuf {
        self.folder.join("nats")
    }

    pub fn nats_configuration(&self) -> PathBuf {
        self.nats().join("nats-server.conf")
    }

    /// Whom the server lets in; part of its configuration.
    pub fn users(&self) -> PathBuf {
        self.nats().join("users.conf")
    }

    /// The password of the database's owner by itself, for a PostgreSQL that is made elsewhere.
    pub fn database_password(&self) -> PathBuf {
        self.folder.join("database").join("password")
    }

    /// What commands the supervisor.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// The ports of the last time.
    pub(super) fn ports(&self) -> PathBuf {
        self.run().join("ports.json")
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Admitted extensions, a file each.
    pub fn workers(&self) -> PathBuf {
        self.folder.join("workers")
    }

    /// What is to be removed in the end.
    pub(super) fn disposable(&self) -> Option<PathBuf> {
        (!self.kept).then(|| self.dir.clone())
    }
}

/// A new folder of our own among the temporary ones, that other users may pass.
pub fn scratch(name: &str) -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("telltale-{name}-{}", secret(12)));
    fs::DirBuilder::new().mode(0o711).create(&path)?;
    Ok(path)
}

/// `length` letters and digits that nobody can guess.
pub(super) fn secret(length: usize) -> String {
    use rand::Rng as _;
    rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}
