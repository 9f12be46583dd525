//! A worker as a process: started, asked for its health, told to stop.
use super::world::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::Child,
    time::{Duration, Instant},
};

/// A worker's process; killed if the test ends before it.
pub(crate) struct Process {
    pub(super) child: Child,
    /// Its log, in which it says where its health is served.
    pub(super) log: PathBuf,
}

impl Process {
    /// Tells it to stop, and says with what code it ended and after how long.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, Duration) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it can be told");
        let begun = Instant::now();
        let status = eventually("the worker ends", || {
            let ended = self.child.try_wait().expect("its status");
            async move { ended }
        })
        .await;
        (status.code(), begun.elapsed())
    }

    /// Waits until it has ended by itself; the code it ended with.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let status = eventually("the worker ends", || {
            let ended = self.child.try_wait().expect("its status");
            async move { ended }
        });
        status.await.code()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// What `/readyz?verbose` or another path answers: status and text.
    pub(crate) async fn asked(&self, path: &str) -> (u16, String) {
        let address = eventually("the health address", || async { self.address() }).await;
        let url = format!("http://{address}{path}");
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let mut answer = agent.get(&url).call().expect("it answers");
            let text = answer.body_mut().read_to_string().expect("a text");
            (answer.status().as_u16(), text)
        })
        .await
        .expect("asked")
    }

    /// One of its metrics, of which it has one.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.asked("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {text}"))
    }

    /// The last address that was logged.
    fn address(&self) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| line["health"].as_str().map(str::to_owned))
            .next_back()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let ended = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = ended {
                eprintln!("a worker: {error}");
            }
        }
    }
}
