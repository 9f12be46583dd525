//! One log file for each process: written by the process itself, so that it never waits for us.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Above this a log is moved to `NAME.log.1`, replacing what was there.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
}

impl LogFile {
    pub fn of(folder: &Path, name: &str) -> Self {
        Self {
            path: folder.join(format!("{name}.log")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opened for appending, as the output of a process.
    pub fn open(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().create(true).append(true).open(&self.path)
    }

    /// Copies and truncates a log that has grown too big. Its writer appends, so it goes on at the new end; what
    /// it writes between the two is lost, which only happens beyond 16 MiB of logs.
    pub fn cap(&self) -> io::Result<()> {
        self.cap_at(SIZE_MAX)
    }

    fn cap_at(&self, size_max: u64) -> io::Result<()> {
        if fs::metadata(&self.path)?.len() <= size_max {
            return Ok(());
        }
        fs::copy(&self.path, self.path.with_extension("log.1"))?;
        fs::OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    /// The last `count` lines: what a person is shown when a process does not start.
    pub fn tail(&self, count: usize) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_that_grew_is_moved_away_and_its_writer_goes_on() {
        let folder = crate::stack::scratch("log").unwrap();
        let log = LogFile::of(&folder, "x");
        let mut writer = log.open().unwrap();
        writer.write_all(b"one\ntwo\nthree\n").unwrap();
        log.cap_at(100).unwrap();
        assert_eq!(log.tail(2), "two\nthree");
        log.cap_at(10).unwrap();
        writer.write_all(b"four\n").unwrap();
        assert_eq!(log.tail(9), "four");
        assert_eq!(
            fs::read_to_string(folder.join("x.log.1")).unwrap(),
            "one\ntwo\nthree\n"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
