//! What ends our processes when we cannot: a shell that reads their ids from us, and ends those that are left when
//! the pipe closes, which it does even if we are killed with `kill -9`.
use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// `+ PID SIGNAL` when a process started, `- PID` when it ended. `$1`: a folder to remove in the end.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
left=
while read -r sign pid signal; do
  case $sign in
    +) left="$left $pid:$signal" ;;
    -) rest=; for one in $left; do [ "${one%%:*}" = "$pid" ] || rest="$rest $one"; done; left=$rest ;;
  esac
done
for one in $left; do kill -s "${one#*:}" "${one%%:*}" 2>/dev/null; done
tries=0
while [ -n "$left" ] && [ $tries -lt 50 ]; do
  rest=; for one in $left; do kill -0 "${one%%:*}" 2>/dev/null && rest="$rest $one"; done; left=$rest
  [ -n "$left" ] && sleep 0.1
  tries=$((tries + 1))
done
for one in $left; do kill -s KILL "${one%%:*}" 2>/dev/null; done
[ -n "$1" ] && rm -rf -- "$1"
exit 0
"#;

#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Mutex<Option<(Child, ChildStdin)>>,
}

impl Watchdog {
    pub(super) fn start(disposable: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "telltale-watchdog"]).args(disposable);
        // A group of its own: Ctrl-C in our terminal must not end it before us.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("stdin was piped");
        Ok(Self {
            shell: Mutex::new(Some((child, stdin))),
        })
    }

    pub(super) fn watch(&self, pid: u32, signal: &str) {
        self.write(&format!("+ {pid} {signal}\n"));
    }

    pub(super) fn forget(&self, pid: u32) {
        self.write(&format!("- {pid}\n"));
    }

    fn write(&self, line: &str) {
        if let Some((_, stdin)) = &mut *self.shell.lock().unwrap_or_else(PoisonError::into_inner)
            && let Err(error) = stdin.write_all(line.as_bytes())
        {
            tracing::warn!(%error, "the watchdog is gone: processes would outlive a killed supervisor");
        }
    }

    /// Closes the pipe and waits: after an orderly end nothing is left to end but a folder to remove.
    pub(super) fn dismiss(&self) {
        let Some((mut child, stdin)) = self.shell.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        drop(stdin);
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "cannot await the watchdog");
        }
    }
}
