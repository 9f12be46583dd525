//! `telltale up --detach`: another `telltale up` is left behind; this one waits until it is ready.
use super::{START_MAX, Up, show};
use crate::{control, stack::Layout};
use anyhow::{Context as _, bail};
use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(up: &Up, layout: &Layout) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    fs::create_dir_all(layout.folder()).context("make the folder of the stack")?;
    let path = layout.folder().join("up.log");
    crate::envfile::write_private(&path, "")?;
    let log = fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .context("open the log")?;
    let own = std::env::current_exe().context("find the running program")?;
    let mut left = Command::new(own);
    left.args(std::env::args_os().skip(1).filter(|arg| arg != "--detach"));
    // Once more what may have come by the working directory, which need not be that of the stack.
    left.arg("--detached")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if up.place.dir.is_none() {
        left.arg("--dir").arg(layout.dir());
    }
    let mut child = left.spawn().context("start the stack behind us")?;
    let mut said = fs::File::open(&path)?;
    while began.elapsed() < START_MAX {
        relay(&mut said)?;
        if let Some(status) = child.try_wait()? {
            relay(&mut said)?;
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
        if let Ok(mut client) = control::Client::connect(layout) {
            let status = client.status()?;
            relay(&mut said)?;
            show::ready(&status, layout, began.elapsed())?;
            if !up.no_simulate {
                show::first_rows(&status.values["DATABASE_URL"]).await?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!(
        "not ready after {} minutes; see {}",
        START_MAX.as_secs() / 60,
        path.display()
    )
}

/// What the other says goes on to whoever waits for it.
fn relay(said: &mut fs::File) -> anyhow::Result<()> {
    let mut text = Vec::new();
    said.read_to_end(&mut text)?;
    std::io::stderr().lock().write_all(&text)?;
    Ok(())
}
