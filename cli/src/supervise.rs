//! Processes that are kept running: each on its own, so that one that crashes never takes another along.
//!
//! The supervisor lives on a thread with a runtime of its own: it outlives the runtime of whoever made it, and
//! tests may share one. A watchdog (`watchdog.rs`) ends the processes when the supervisor is killed outright.
mod backoff;
mod leftover;
mod log;
mod probe;
mod unit;
mod watchdog;

pub use backoff::Backoff;
pub use leftover::{end_leftovers, is_same_process};
pub use log::LogFile;
pub use probe::Probe;
pub use unit::{Phase, State, Unit};

use crate::find::RunAs;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How to start a process, to know that it serves, and to end it.
#[derive(Debug, Clone)]
pub struct Spec {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    pub folder: PathBuf,
    /// Another user than ours, where we are root and the program refuses that.
    pub user: Option<RunAs>,
    pub stop: Signal,
    /// How long it may take to end before it is killed.
    pub grace: Duration,
    pub probe: Probe,
}

/// Where processes leave their traces.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `NAME.pid`: what a later start finds if we were killed.
    pub run: PathBuf,
    /// `NAME.log`.
    pub logs: PathBuf,
    /// Removed by the watchdog when all is over: the folder of a stack that nobody keeps.
    pub disposable: Option<PathBuf>,
}

/// Why a process could not be commanded.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no process is called `{0}`")]
    Unknown(String),
    #[error("`{0}` is not running")]
    NotRunning(String),
    #[error("`{name}` was not ready after {} s{last}", waited.as_secs())]
    NotReady {
        name: String,
        waited: Duration,
        last: String,
    },
    #[error("cannot signal `{name}`")]
    Signal { name: String, source: io::Error },
}

/// Keeps processes running until it is told otherwise or dropped.
#[derive(Debug)]
pub struct Supervisor {
    units: Mutex<BTreeMap<String, Arc<Unit>>>,
    traces: Traces,
    watchdog: Arc<watchdog::Watchdog>,
    runtime: tokio::runtime::Handle,
    over: CancellationToken,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Supervisor {
    /// Starts the thread and the watchdog, and no process yet.
    pub fn new(traces: Traces) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let over = CancellationToken::new();
        let watchdog = Arc::new(watchdog::Watchdog::start(traces.disposable.as_deref())?);
        let until = over.clone();
        let thread = thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || runtime.block_on(until.cancelled()))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            units: Mutex::default(),
            traces,
            watchdog,
            runtime: handle,
            over,
            thread,
        })
    }

    /// Starts a process, or replaces what was known under that name, which must have been stopped.
    pub fn start(&self, spec: Spec) {
        let name = spec.name.clone();
        let unit = Arc::new(Unit::new(spec, &self.traces, Arc::clone(&self.watchdog)));
        self.runtime.spawn(Arc::clone(&unit).keep_running());
        self.units
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, unit);
    }

    pub fn unit(&self, name: &str) -> Result<Arc<Unit>, ControlError> {
        let units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units
            .get(name)
            .cloned()
            .ok_or_else(|| ControlError::Unknown(name.to_owned()))
    }

    /// All processes, by name.
    pub fn all(&self) -> Vec<Arc<Unit>> {
        self.units
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Stops processes together and waits until the last one is gone.
    pub async fn stop(&self, names: &[String]) {
        let units: Vec<_> = names.iter().filter_map(|name| self.unit(name).ok()).collect();
        futures::future::join_all(units.iter().map(|unit| unit.stop())).await;
    }

    /// `kill -9`, as a fault would: the process is started again.
    pub fn kill(&self, name: &str) -> Result<u32, ControlError> {
        self.signal(name, Signal::KILL)
    }

    /// Sends a signal and returns whom it went to.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<u32, ControlError> {
        let pid = self
            .unit(name)?
            .state()
            .pid
            .ok_or_else(|| ControlError::NotRunning(name.to_owned()))?;
        send(pid, signal)
            .map_err(|source| ControlError::Signal {
                name: name.to_owned(),
                source,
            })
            .map(|()| pid)
    }

    /// Kills what still runs and ends the thread; what [`Drop`] does too.
    pub fn end(&self) {
        let units = self.all();
        for unit in &units {
            unit.abandon();
        }
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let over = self.over.clone();
        self.runtime.spawn(async move {
            futures::future::join_all(units.iter().map(|unit| unit.stopped())).await;
            over.cancel();
        });
        if thread.join().is_err() {
            tracing::error!("the supervisor's thread panicked");
        }
        self.watchdog.dismiss();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end();
    }
}

/// A signal to a process by its id.
fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests;
