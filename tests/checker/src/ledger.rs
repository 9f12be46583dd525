//! What was sent and what was answered, in a file that no part of the system knows.
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// What a reading ought to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Rows.
    Good,
    /// An entry in the quarantine.
    Bad,
}

/// What the sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is kept from now on.
    Accepted,
    /// It is not, and will not be.
    Refused,
    /// Nothing: it may be kept or not.
    Unknown,
}

/// One reading as its sender saw it. A resent one stands there once for each answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The id that it has everywhere.
    pub id: String,
    pub class: Class,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Microseconds since the Unix epoch.
    pub sent_us: u64,
    /// When the answer came, if one did.
    pub answered_us: Option<u64>,
    pub answer: Answer,
}

/// A file of [`Sent`], one JSON document a line.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
}

impl Ledger {
    /// A new file; one that is there is not overwritten.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = Mutex::new(File::create_new(path)?);
        Ok(Self { file })
    }

    /// Adds a line. Whoever dies later has said this before: the line goes to the kernel at once.
    pub fn note(&self, sent: &Sent) -> io::Result<()> {
        let mut line = serde_json::to_vec(sent)?;
        line.push(b'\n');
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&line)
    }
}

/// Reads a ledger back. A last line that was cut off, because its writer was killed, is left out: it was not sent on.
pub fn load(path: &Path) -> io::Result<Vec<Sent>> {
    let mut all = Vec::new();
    let mut lines = BufReader::new(File::open(path)?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line.ends_with('\n') {
            all.push(serde_json::from_str(&line)?);
        }
        line.clear();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_back_but_for_a_line_that_was_cut_off() {
        let dir = std::env::temp_dir().join(format!("telltale-ledger-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("sent.ndjson");
        let one = Sent {
            id: "a:1".to_owned(),
            class: Class::Bad,
            sha256: "00".to_owned(),
            sent_us: 1,
            answered_us: Some(2),
            answer: Answer::Accepted,
        };
        let ledger = Ledger::create(&path).unwrap();
        ledger.note(&one).unwrap();
        ledger.file.lock().unwrap().write_all(br#"{"id":"a:2","#).unwrap();
        assert!(
            Ledger::create(&path).is_err(),
            "the ledger of another run was overwritten"
        );
        assert_eq!(load(&path).unwrap(), [one]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
