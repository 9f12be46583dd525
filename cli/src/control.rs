//! What commands a running supervisor: a Unix socket in `.telltale`, one JSON line each way.
mod client;
mod server;

pub use client::{Absent, Client};
pub use server::{listen, serve};

use crate::{stack::scratch, supervise::Phase};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, path::Path};

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", content = "name", rename_all = "snake_case")]
pub enum Request {
    Status,
    Start(String),
    Stop(String),
    Restart(String),
    /// Makes the broker read its users anew.
    Reload,
    /// Ends everything; the connection closes when all is over.
    Shutdown,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Status),
    Done(String),
    Refused(String),
}

/// A stack and its processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor's process.
    pub pid: u32,
    pub ready: bool,
    pub processes: Vec<Process>,
    /// The values of `.telltale/env`.
    pub values: BTreeMap<String, String>,
}

/// A process of a stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub phase: Phase,
    pub pid: Option<u32>,
    /// How often it ended by itself.
    pub restarts: u32,
    /// Seconds in this phase.
    pub since_s: u64,
    /// Where `/readyz` and `/metrics` are.
    pub health: Option<String>,
    /// How it ended last.
    pub last: Option<String>,
}

/// The path of a socket may have 107 bytes. Where ours has more it is reached through a link from elsewhere.
fn shortened<T>(path: &Path, open: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    const PATH_MAX: usize = 100;
    if path.as_os_str().len() <= PATH_MAX {
        return open(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return open(path);
    };
    let place = scratch("way")?;
    let link = place.join("folder");
    std::os::unix::fs::symlink(folder, &link)?;
    let opened = open(&link.join(name));
    std::fs::remove_dir_all(&place)?;
    opened
}

/// What is closest to `name`, if it is close: a slip of the finger, not another word.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, c) in name.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, d) in other.iter().enumerate() {
                let changed = diagonal + usize::from(c != *d);
                diagonal = row[j + 1];
                row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[other.len()]
    };
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(far, _)| *far <= 3)
        .min()
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_a_person_could_write() {
        for (request, line) in [
            (Request::Status, r#"{"do":"status"}"#),
            (
                Request::Start("validate".to_owned()),
                r#"{"do":"start","name":"validate"}"#,
            ),
            (Request::Shutdown, r#"{"do":"shutdown"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        assert!(serde_json::from_str::<Request>(r#"{"do":"explode"}"#).is_err());
    }

    #[test]
    fn a_socket_deep_down_is_reached() {
        let place = scratch("deep").unwrap();
        let folder = place.join("d".repeat(120));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("control.sock");
        let _listener = shortened(&path, |path| std::os::unix::net::UnixListener::bind(path)).unwrap();
        shortened(&path, |path| std::os::unix::net::UnixStream::connect(path)).unwrap();
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_none() {
        let known = ["validate", "annotate", "store"];
        assert_eq!(nearest("validte", known), Some("validate"));
        assert_eq!(nearest("stroe", known), Some("store"));
        assert_eq!(nearest("postgres", known), None);
    }
}
