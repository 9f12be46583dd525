//! Processes of a supervisor that is gone: known by their id and the moment they started, so that a process which
//! got the id of another later is never touched.
use super::{Signal, send};
use std::{
    fs, io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const GRACE: Duration = Duration::from_secs(5);

/// What a pid file says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Mark {
    pid: u32,
    started: String,
}

impl Mark {
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            started: started(pid)?,
        })
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_vec(self)?)
    }

    fn is_alive(&self) -> bool {
        is_same_process(self.pid, &self.started)
    }
}

/// Whether the process that runs under `pid` is the one that started then.
pub fn is_same_process(pid: u32, started_then: &str) -> bool {
    started(pid).is_some_and(|now| now == started_then)
}

/// The moment a process started, in whatever form this system tells it; none for a zombie.
fn started(pid: u32) -> Option<String> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name in parentheses may hold anything; fields are counted from behind it. 1 is the state, 20 the start.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        return (*fields.first()? != "Z").then(|| fields.get(19).map(|&ticks| ticks.to_owned()))?;
    }
    if Path::new("/proc/self/stat").exists() {
        return None;
    }
    let said = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Ends what pid files in `run` still name, gently, then by force. Returns the names.
pub fn end_leftovers(run: &Path) -> io::Result<Vec<String>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(run)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        if let Ok(mark) = serde_json::from_slice::<Mark>(&fs::read(&path)?)
            && mark.is_alive()
        {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Fast shutdown for PostgreSQL, which waits for its clients on SIGTERM.
            let signal = if name == "postgres" {
                Signal::INT
            } else {
                Signal::TERM
            };
            send(mark.pid, signal)?;
            left.push((name, mark));
        }
        fs::remove_file(path)?;
    }
    let deadline = Instant::now() + GRACE;
    while left.iter().any(|(_, mark)| mark.is_alive()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for (_, mark) in left.iter().filter(|(_, mark)| mark.is_alive()) {
        send(mark.pid, Signal::KILL)?;
    }
    Ok(left.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_is_ended_and_a_stranger_with_its_id_is_not() {
        let run = crate::stack::scratch("leftover").unwrap();
        let mut ours = Command::new("sleep").arg("60").spawn().unwrap();
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        Mark::of(ours.id()).unwrap().write(&run.join("ours.pid")).unwrap();
        let stale = Mark {
            pid: stranger.id(),
            started: "long ago".to_owned(),
        };
        stale.write(&run.join("stranger.pid")).unwrap();
        fs::write(run.join("torn.pid"), "{").unwrap();

        assert_eq!(end_leftovers(&run).unwrap(), ["ours"]);
        ours.wait().unwrap();
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        fs::remove_dir_all(run).unwrap();
    }
}
