//! The supervisor's side.
use super::{Answer, Process, Request, Status, nearest, shortened};
use crate::{
    stack::Stack,
    supervise::{ControlError, Probe, Unit},
};
use anyhow::Context as _;
use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest request.
const LINE_MAX: u64 = 4 * 1024;

/// Listens at `path`. The socket is there when this returns.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener = shortened(path, |path| UnixListener::bind(path));
    let listener = listener.with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .context("close the control socket to others")?;
    Ok(listener)
}

/// Answers until `stop` is cancelled, which a client may do as well. Connections stay open until the process ends: so
/// their clients know when all is over.
pub async fn serve(listener: UnixListener, stack: Arc<Stack>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let (stack, stop) = (Arc::clone(&stack), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = converse(stream, &stack, &stop).await {
                tracing::debug!(%error, "a control connection ended");
            }
        });
    }
}

async fn converse(stream: UnixStream, stack: &Stack, stop: &CancellationToken) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut stream).take(LINE_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(request, stack, stop).await,
            Err(error) => Answer::Refused(format!("not a request: {error}")),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
    }
}

async fn answer(request: Request, stack: &Stack, stop: &CancellationToken) -> Answer {
    let done = match request {
        Request::Status => return Answer::Status(status(stack)),
        Request::Start(name) => {
            let started = stack.start_one(&name).await;
            started.map(|()| said(stack, &name, "ready"))
        }
        Request::Stop(name) => {
            let stopped = stack.stop_one(&name).await;
            stopped
                .map(|()| format!("{name} is stopped"))
                .map_err(anyhow::Error::from)
        }
        Request::Restart(name) => {
            let restarted = stack.restart_one(&name).await;
            restarted.map(|()| said(stack, &name, "ready"))
        }
        Request::Reload => stack
            .reload()
            .map(|()| "reloaded".to_owned())
            .map_err(anyhow::Error::from),
        Request::Shutdown => {
            stop.cancel();
            return Answer::Done("stopping".to_owned());
        }
    };
    done.map_or_else(|error| Answer::Refused(refusal(stack, &error)), Answer::Done)
}

fn said(stack: &Stack, name: &str, state: &str) -> String {
    let pid = stack
        .pid(name)
        .map_or_else(String::new, |pid| format!(" (process {pid})"));
    format!("{name} is {state}{pid}")
}

fn refusal(stack: &Stack, error: &anyhow::Error) -> String {
    let Some(ControlError::Unknown(name)) = error.downcast_ref() else {
        return format!("{error:#}");
    };
    let units = stack.supervisor().all();
    let names: Vec<&str> = units.iter().map(|unit| unit.spec().name.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("{error}; did you mean `{near}`?"),
        None => format!("{error}; there are {}", names.join(", ")),
    }
}

/// What is known of a stack now.
fn status(stack: &Stack) -> Status {
    Status {
        pid: std::process::id(),
        ready: true,
        processes: stack
            .supervisor()
            .all()
            .iter()
            .map(|unit| process(unit))
            .collect(),
        values: stack.values().clone(),
    }
}

fn process(unit: &Unit) -> Process {
    let state = unit.state();
    let health = match unit.spec().probe {
        Probe::Http(at) => Some(format!("http://{at}")),
        _ => None,
    };
    Process {
        name: unit.spec().name.clone(),
        phase: state.phase,
        pid: state.pid,
        restarts: state.restarts,
        since_s: state.since.elapsed().as_secs(),
        health,
        last: state.last,
    }
}
