//! Points at which a test may kill the process, and one deliberate bug: in debug builds alone.
//!
//! Whoever tests names a folder (`TELLTALE_FAULT_DIR`) and puts a file `<worker>.<point>.armed` there. The process
//! that passes the point next renames it to `<worker>.<point>.fired` and kills itself with SIGKILL: the file is the
//! evidence that the fault happened. While `ack_before_commit.bug` is there, batch workers acknowledge a batch
//! before they handle it; a suite that does not notice is worth nothing. While `<worker>.handler` is there when a
//! worker starts, its handler fails for things called `fails-…`, panics for `panics-…` and hangs for `hangs-…`.
//! In a release build none of this exists.
use std::fmt;

/// Where a process may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// What follows from a message is about to be published.
    BeforePublish,
    /// The broker has confirmed it; the input is not acknowledged.
    AfterPublish,
    /// A transaction is complete but for its commit.
    BeforeCommit,
    /// It is committed; nothing of it is acknowledged.
    AfterCommit,
    /// A message is about to be acknowledged.
    BeforeAck,
    /// The acknowledgement has left the process.
    AfterAck,
    /// An entry for the quarantine is about to be published.
    BeforeQuarantine,
    /// The broker has confirmed it; the original is not terminated.
    AfterQuarantine,
}

impl Point {
    /// All of them, in the order of a message's way.
    pub const ALL: [Self; 8] = [
        Self::BeforePublish,
        Self::AfterPublish,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeAck,
        Self::AfterAck,
        Self::BeforeQuarantine,
        Self::AfterQuarantine,
    ];

    /// Its name in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::BeforePublish => "before_publish",
            Self::AfterPublish => "after_publish",
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::BeforeAck => "before_ack",
            Self::AfterAck => "after_ack",
            Self::BeforeQuarantine => "before_quarantine",
            Self::AfterQuarantine => "after_quarantine",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The file whose presence makes batch workers acknowledge before they commit.
pub const ACK_BEFORE_COMMIT: &str = "ack_before_commit.bug";

#[cfg(debug_assertions)]
pub(crate) use live::{handler, watch};
#[cfg(debug_assertions)]
pub use live::{has_bug, is_armed, point};

#[cfg(debug_assertions)]
mod live {
    use super::{ACK_BEFORE_COMMIT, Point};
    use crate::Failure;
    use std::{
        fs, io,
        path::{Path, PathBuf},
        sync::OnceLock,
    };

    /// The folder, and the name of the worker that this process is.
    static FAULTS: OnceLock<Faults> = OnceLock::new();

    #[derive(Debug)]
    pub(super) struct Faults {
        folder: PathBuf,
        worker: &'static str,
        has_handler: bool,
    }

    impl Faults {
        pub(super) fn new(folder: &Path, worker: &'static str) -> Self {
            Self {
                folder: folder.to_owned(),
                worker,
                has_handler: folder.join(format!("{worker}.handler")).exists(),
            }
        }

        fn path(&self, point: Point, state: &str) -> PathBuf {
            self.folder.join(format!("{}.{point}.{state}", self.worker))
        }

        pub(super) fn is_armed(&self, point: Point) -> bool {
            self.path(point, "armed").exists()
        }

        /// Whether it was armed; never twice for one file, however many processes pass.
        pub(super) fn fires(&self, point: Point) -> bool {
            match fs::rename(self.path(point, "armed"), self.path(point, "fired")) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => {
                    tracing::error!("the fault at {point} cannot be marked as fired: {error}");
                    false
                }
            }
        }

        pub(super) fn has_bug(&self) -> bool {
            self.folder.join(ACK_BEFORE_COMMIT).exists()
        }
    }

    /// From here on points are looked up in that folder.
    pub(crate) fn watch(folder: Option<&Path>, worker: &'static str) {
        if let Some(folder) = folder
            && FAULTS.set(Faults::new(folder, worker)).is_ok()
        {
            tracing::warn!(folder = %folder.display(), "this process may be told to kill itself");
        }
    }

    /// Stands before the worker's own handler.
    pub(crate) async fn handler(thing: &str) -> Result<(), Failure> {
        if !FAULTS.get().is_some_and(|faults| faults.has_handler) {
            return Ok(());
        }
        match thing.split_once('-').map_or("", |(kind, _)| kind) {
            "fails" => Err(anyhow::anyhow!("a test has this handler fail").into()),
            "panics" => panic!("a test has this handler panic"),
            "hangs" => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// Kills the process if that was asked for.
    pub fn point(point: Point) {
        if let Some(faults) = FAULTS.get()
            && faults.fires(point)
        {
            let me = rustix::process::getpid();
            if let Err(error) = rustix::process::kill_process(me, rustix::process::Signal::KILL) {
                tracing::error!("cannot kill myself: {error}");
            }
            std::process::abort();
        }
    }

    /// Whether the next to pass is killed; for what has to be done before it counts as passed.
    pub fn is_armed(point: Point) -> bool {
        FAULTS.get().is_some_and(|faults| faults.is_armed(point))
    }

    /// Whether batches are to be acknowledged before they are handled.
    pub fn has_bug() -> bool {
        FAULTS.get().is_some_and(Faults::has_bug)
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_: Point) {}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) async fn handler(_: &str) -> Result<(), crate::Failure> {
    Ok(())
}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn is_armed(_: Point) -> bool {
    false
}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn has_bug() -> bool {
    false
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::{ACK_BEFORE_COMMIT, Point, live::Faults};
    use std::{collections::HashSet, fs};

    #[test]
    fn an_armed_point_fires_once_for_its_worker_alone_and_leaves_its_evidence() {
        let folder = std::env::temp_dir().join(format!("telltale-fault-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (store, validate) = (Faults::new(&folder, "store"), Faults::new(&folder, "validate"));
        assert!(!store.fires(Point::BeforeAck), "nothing is armed");
        fs::write(folder.join("store.before_ack.armed"), "").unwrap();
        assert!(store.is_armed(Point::BeforeAck));
        assert!(!store.fires(Point::AfterAck), "another point");
        assert!(!validate.fires(Point::BeforeAck), "another worker");
        assert!(store.fires(Point::BeforeAck));
        assert!(!store.fires(Point::BeforeAck), "once");
        assert!(folder.join("store.before_ack.fired").exists());
        assert!(!store.has_bug());
        fs::write(folder.join(ACK_BEFORE_COMMIT), "").unwrap();
        assert!(store.has_bug());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let words: HashSet<_> = Point::ALL.iter().map(|point| point.word()).collect();
        assert_eq!(words.len(), 8);
    }
}
