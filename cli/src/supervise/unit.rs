//! One process, kept running.
use super::{Backoff, ControlError, LogFile, Spec, Traces, leftover::Mark, send, watchdog::Watchdog};
use rustix::process::Signal;
use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};

/// How often a log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(5);
/// A process that ended so often while it was waited for will not serve.
const ENDS_MAX: u32 = 6;
/// How long PostgreSQL may take to end at once.
const ABORT: Duration = Duration::from_secs(3);
/// How often a process that is not ready is asked again.
const PROBE_PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Starting,
    Running,
    /// It ended by itself, and is started again after a while.
    Waiting,
    Stopped,
}

/// What is known of a process now.
#[derive(Debug, Clone)]
pub struct State {
    pub phase: Phase,
    pub pid: Option<u32>,
    /// How often it ended by itself.
    pub restarts: u32,
    pub since: Instant,
    /// How it ended last.
    pub last: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A higher number is another start.
    Run(u64),
    Stop,
    /// At once, without grace.
    Kill,
}

/// One process, kept running.
#[derive(Debug)]
pub struct Unit {
    spec: Spec,
    log: LogFile,
    mark: PathBuf,
    watchdog: Arc<Watchdog>,
    want: watch::Sender<Want>,
    state: watch::Sender<State>,
}

impl Unit {
    pub(super) fn new(spec: Spec, traces: &Traces, watchdog: Arc<Watchdog>) -> Self {
        let state = State {
            phase: Phase::Starting,
            pid: None,
            restarts: 0,
            since: Instant::now(),
            last: None,
        };
        Self {
            log: LogFile::of(&traces.logs, &spec.name),
            mark: traces.run.join(format!("{}.pid", spec.name)),
            spec,
            watchdog,
            want: watch::Sender::new(Want::Run(0)),
            state: watch::Sender::new(state),
        }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn log(&self) -> &LogFile {
        &self.log
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Starts it if it was stopped.
    pub fn start(&self) {
        self.want.send_if_modified(|want| {
            let stopped = !matches!(want, Want::Run(_));
            if stopped {
                *want = Want::Run(0);
            }
            stopped
        });
    }

    /// Ends this run and begins another; at once, if it was waiting.
    pub fn restart(&self) {
        self.want.send_modify(|want| {
            *want = match want {
                Want::Run(number) => Want::Run(*number + 1),
                _ => Want::Run(0),
            }
        });
    }

    /// Ends it and waits until it is gone. It stays known, and can be started again.
    pub async fn stop(&self) {
        self.want.send_if_modified(|want| {
            let runs = matches!(want, Want::Run(_));
            if runs {
                *want = Want::Stop;
            }
            runs
        });
        self.stopped().await;
    }

    pub(super) fn abandon(&self) {
        self.want.send_replace(Want::Kill);
    }

    pub(super) async fn stopped(&self) {
        self.reach(|state| state.phase == Phase::Stopped).await;
    }

    /// Waits until `is` holds of the state.
    pub async fn reach(&self, is: impl Fn(&State) -> bool) -> State {
        let mut watched = self.state.subscribe();
        let found = watched
            .wait_for(|state| is(state))
            .await
            .map(|state| state.clone());
        found.unwrap_or_else(|_| self.state())
    }

    /// Waits until its probe says that it serves.
    pub async fn ready(&self, patience: Duration) -> Result<(), ControlError> {
        let began = Instant::now();
        let deadline = began + patience;
        let mut seen = String::new();
        let ends = self.state().restarts + ENDS_MAX;
        while Instant::now() < deadline && self.state().restarts < ends {
            if !matches!(*self.want.borrow(), Want::Run(_)) {
                return Err(ControlError::NotRunning(self.spec.name.clone()));
            }
            let state = self.state();
            match state.phase {
                Phase::Running => match self.spec.probe.check().await {
                    // It may have ended meanwhile, and another process may have answered.
                    Ok(()) if self.state().pid == state.pid => return Ok(()),
                    Ok(()) => {}
                    Err(instead) => seen = instead,
                },
                _ => seen = state.last.unwrap_or_default(),
            }
            sleep(PROBE_PERIOD).await;
        }
        let seen = if seen.is_empty() {
            seen
        } else {
            format!(": {seen}")
        };
        let tail = match self.log.tail(5) {
            tail if tail.is_empty() => tail,
            tail => format!("\n{tail}\n({})", self.log.path().display()),
        };
        let last = seen + &tail;
        Err(ControlError::NotReady {
            name: self.spec.name.clone(),
            waited: began.elapsed(),
            last,
        })
    }

    /// The life of the unit: ends with the supervisor's runtime.
    pub(super) async fn keep_running(self: Arc<Self>) {
        let mut want = self.want.subscribe();
        let mut backoff = Backoff::default();
        loop {
            let current = *want.borrow_and_update();
            let Want::Run(_) = current else {
                self.set(Phase::Stopped, None);
                if want.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.set(Phase::Starting, None);
            let began = Instant::now();
            let ended = match self.spawn() {
                Ok(mut child) => {
                    let ended = tokio::select! {
                        ended = child.wait() => Some(ended),
                        _ = want.wait_for(|now| *now != current) => None,
                        () = self.cap_log() => None,
                    };
                    let pid = self.state().pid;
                    if ended.is_none() {
                        self.end(&mut child, &mut want).await;
                    }
                    if let Some(pid) = pid {
                        self.watchdog.forget(pid);
                    }
                    ended.map(|ended| {
                        ended.map_or_else(|error| error.to_string(), |status| status.to_string())
                    })
                }
                Err(error) => Some(format!("cannot start {}: {error}", self.spec.program.display())),
            };
            let Some(how) = ended else { continue };
            let wait = backoff.after(began.elapsed());
            tracing::warn!(process = %self.spec.name, %how, wait_ms = wait.as_millis(), "a process ended; starting it again");
            // At once with the count: nobody sees an ended process that was counted and runs.
            self.state.send_modify(|state| {
                state.phase = Phase::Waiting;
                state.pid = None;
                state.restarts += 1;
                state.last = Some(how);
            });
            self.set(Phase::Waiting, None);
            tokio::select! {
                () = sleep(wait) => {}
                _ = want.wait_for(|now| *now != current) => {}
            }
        }
    }

    fn set(&self, phase: Phase, pid: Option<u32>) {
        self.state.send_modify(|state| {
            state.phase = phase;
            state.pid = pid;
            state.since = Instant::now();
        });
        if pid.is_none()
            && let Err(error) = fs::remove_file(&self.mark)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.mark.display(), "cannot remove a pid file");
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = self.log.open()?;
        let mut command = Command::new(&self.spec.program);
        // The owner's rights to the database are for those alone that are given them below.
        command
            .args(&self.spec.args)
            .env_remove("TELLTALE_DATABASE_URL")
            .envs(self.spec.env.iter().cloned());
        command
            .current_dir(&self.spec.folder)
            .stdin(std::process::Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // Ctrl-C in our terminal is for us: we end the processes, in order.
        command.process_group(0);
        if let Some(user) = &self.spec.user {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        self.watchdog.watch(
            pid,
            if self.spec.stop == Signal::INT {
                "INT"
            } else {
                "TERM"
            },
        );
        if let Some(mark) = Mark::of(pid)
            && let Err(error) = mark.write(&self.mark)
        {
            tracing::warn!(%error, path = %self.mark.display(), "cannot write a pid file");
        }
        self.set(Phase::Running, Some(pid));
        Ok(child)
    }

    async fn end(&self, child: &mut Child, want: &mut watch::Receiver<Want>) {
        let Some(pid) = child.id() else { return };
        let ask = |signal| {
            if let Err(error) = send(pid, signal) {
                tracing::warn!(%error, process = %self.spec.name, "cannot ask a process to end");
            }
        };
        if *want.borrow() != Want::Kill {
            ask(self.spec.stop);
            tokio::select! {
                ended = timeout(self.spec.grace, child.wait()) => if ended.is_ok() { return },
                _ = want.wait_for(|now| *now == Want::Kill) => {}
            }
        }
        // Only PostgreSQL is stopped by SIGINT; killed, it would leave children that still write. SIGQUIT is at once too.
        if self.spec.stop == Signal::INT {
            ask(Signal::QUIT);
            if timeout(ABORT, child.wait()).await.is_ok() {
                return;
            }
        }
        if let Err(error) = child.kill().await {
            tracing::warn!(%error, process = %self.spec.name, "cannot kill a process");
        }
    }

    /// Never ends.
    async fn cap_log(&self) {
        loop {
            sleep(LOG_CHECK).await;
            if let Err(error) = self.log.cap() {
                tracing::warn!(%error, process = %self.spec.name, "cannot cap a log");
            }
        }
    }
}
