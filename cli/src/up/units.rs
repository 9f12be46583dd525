//! Commands to a stack that runs: `down`, `start`, `stop`, `restart`, `logs`.
use super::Place;
use crate::{
    commands::exit::Refused,
    control::{Absent, Answer, Client, Request, nearest},
    servers,
    stack::Layout,
    supervise,
};
use anyhow::Context as _;
use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Stop the stack; what it stored is kept
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  telltale down                    # stop; the next `telltale up` goes on with the same data
  telltale down --volumes --yes    # stop, and delete all that it stored")]
pub struct Down {
    #[command(flatten)]
    place: Place,
    /// Also delete all that was stored: streams, database, credentials, logs
    #[arg(long)]
    volumes: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    yes: bool,
}

/// Start one process of a running stack, or a worker that was admitted
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  telltale start validate          # after `telltale stop validate`
  telltale start over-limit        # after `telltale admit`")]
pub struct Start {
    #[command(flatten)]
    place: Place,
    /// Its name: validate, annotate, store, process, actuate, bridge, nats, postgres, simulate, or that of an admitted
    /// worker
    name: String,
}

/// Stop one process of a running stack; all others go on
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  telltale stop store              # readings wait in the broker
  telltale stop simulate           # no more simulated devices")]
pub struct Stop {
    #[command(flatten)]
    place: Place,
    /// Its name
    name: String,
}

/// Stop one process of a running stack and start it anew
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  telltale restart annotate
  telltale restart bridge          # devices connect again")]
pub struct Restart {
    #[command(flatten)]
    place: Place,
    /// Its name
    name: String,
}

/// Show what the processes of a stack have logged
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  telltale logs                    # the last lines of each
  telltale logs validate -f        # and whatever comes, until Ctrl-C")]
pub struct Logs {
    #[command(flatten)]
    place: Place,
    /// Of one process alone
    name: Option<String>,
    /// Go on until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many lines of each
    #[arg(long, short = 'n', default_value_t = 100)]
    lines: usize,
}

impl Start {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        command(&self.place, &Request::Start(self.name.clone()))
    }
}

impl Stop {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        command(&self.place, &Request::Stop(self.name.clone()))
    }
}

impl Restart {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        command(&self.place, &Request::Restart(self.name.clone()))
    }
}

fn command(place: &Place, request: &Request) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(&place.layout()?).map_err(|absent| nothing(&absent))?;
    if let Answer::Done(said) = client.ask(request)? {
        eprintln!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(absent: &Absent) -> Refused {
    Refused::precondition(absent.to_string()).hint("telltale up")
}

impl Down {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let layout = self.place.layout()?;
        if self.volumes && !self.yes && layout.folder().is_dir() {
            consent(&layout)?;
        }
        match Client::connect(&layout) {
            Ok(mut client) => {
                client.ask(&Request::Shutdown)?;
                client.wait_for_end()?;
                // Whoever hears "stopped" may start another at once.
                drop(ended(&layout)?);
                eprintln!("stopped");
            }
            Err(absent) => {
                if layout.run().is_dir() {
                    let _lock = layout.lock()?;
                    for name in supervise::end_leftovers(&layout.run())? {
                        eprintln!("ended {name}, left by a stack that was killed");
                    }
                }
                eprintln!("{absent}");
            }
        }
        if self.volumes && layout.folder().is_dir() {
            let _lock = ended(&layout)?;
            let database = servers::postgres::home(layout.folder());
            for folder in [database.as_path(), layout.folder()] {
                if folder.is_dir() {
                    fs::remove_dir_all(folder).with_context(|| format!("delete {}", folder.display()))?;
                }
            }
            eprintln!("deleted {}", layout.folder().display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits for the supervisor, which lets go of its lock at its very end; nobody else begins while this is held.
fn ended(layout: &Layout) -> anyhow::Result<fs::File> {
    let lock = fs::File::create(layout.run().join("lock")).context("open the lock")?;
    lock.lock().context("wait for the supervisor to end")?;
    Ok(lock)
}

/// Nothing is deleted that nobody agreed to: without a terminal only `--yes` agrees.
fn consent(layout: &Layout) -> anyhow::Result<()> {
    let what = format!("{} and all readings in it", layout.folder().display());
    if !io::stdin().is_terminal() {
        return Err(Refused::usage(format!("would delete {what}"))
            .hint("add --yes")
            .into());
    }
    eprint!("delete {what}? Type yes: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim() == "yes" {
        return Ok(());
    }
    Err(Refused::usage("nothing was stopped or deleted").into())
}

const POLL: Duration = Duration::from_millis(200);

impl Logs {
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        let layout = self.place.layout()?;
        let mut files = followed(&layout.logs(), self.name.as_deref())?;
        let named = files.len() > 1;
        for file in &mut files {
            let text = file.news()?;
            let lines: Vec<&str> = text.lines().collect();
            print(
                &file.name,
                named,
                &lines[lines.len().saturating_sub(self.lines)..],
            )?;
        }
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            tokio::select! {
                ended = tokio::signal::ctrl_c() => {
                    ended.context("listen for signals")?;
                    return Ok(ExitCode::from(crate::commands::exit::INTERRUPTED));
                }
                () = tokio::time::sleep(POLL) => {}
            }
            for file in &mut files {
                let text = file.news()?;
                print(&file.name, named, &text.lines().collect::<Vec<_>>())?;
            }
        }
    }
}

/// A log and how far we have read it.
struct Followed {
    name: String,
    path: PathBuf,
    at: u64,
}

impl Followed {
    /// The whole lines since the last time; from the start again when the log was moved away.
    fn news(&mut self) -> anyhow::Result<String> {
        let mut file = fs::File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        if file.metadata()?.len() < self.at {
            self.at = 0;
        }
        file.seek(io::SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        self.at += whole as u64;
        Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
    }
}

fn followed(folder: &Path, name: Option<&str>) -> anyhow::Result<Vec<Followed>> {
    let mut files: Vec<Followed> = fs::read_dir(folder)
        .map_err(|_| Refused::precondition(format!("no logs in {}", folder.display())).hint("telltale up"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some(Followed { name, path, at: 0 })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(name) = name else { return Ok(files) };
    let known: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    files.retain(|file| file.name == name);
    if files.is_empty() {
        let refused = Refused::usage(format!("no process called `{name}` has logged anything"));
        let hint = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known.join(", ")),
        };
        return Err(refused.hint(hint).into());
    }
    Ok(files)
}

fn print(name: &str, named: bool, lines: &[&str]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in lines {
        if named {
            write!(stdout, "{name:<10} ")?;
        }
        writeln!(stdout, "{line}")?;
    }
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_by_whole_lines_and_from_its_start_again_when_it_was_moved_away() {
        let folder = crate::stack::scratch("logs").unwrap();
        let path = folder.join("store.log");
        fs::write(&path, "one\ntw").unwrap();
        let mut files = followed(&folder, None).unwrap();
        assert_eq!(files[0].news().unwrap(), "one\n");
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(files[0].news().unwrap(), "two\n");
        fs::write(&path, "new\n").unwrap();
        assert_eq!(files[0].news().unwrap(), "new\n");
        let error = followed(&folder, Some("stoer")).err().unwrap();
        assert!(format!("{error:?}").contains("stoer"), "{error:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
