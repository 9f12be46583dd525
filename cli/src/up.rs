//! `telltale up`: a whole stack in front of you, or behind you with `--detach`.
mod detach;
mod show;
mod units;

pub use units::{Down, Logs, Restart, Start, Stop};

use crate::{
    commands::exit::{self, Refused},
    control,
    find::{FindError, Say, ServerArgs},
    stack::{Build, Layout, Port, Ports, Stack, StackOptions, Sync, ports::PortError},
};
use anyhow::Context as _;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The site of a stack that nobody named.
const SITE: &str = "local";
/// The simulator's, so that every stack plays the same road.
const SEED: &str = "7";

/// Start everything on this machine: servers, database, workers, bridge, gateway and a simulated road
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(after_help = "\
Examples:
  telltale up                      # in front of you; Ctrl-C ends it
  telltale up --detach             # behind you; `telltale down` ends it
  telltale up --nats-port 14222    # on this port or not at all

Ports that are not named are the usual ones where those are free, else free ones. What is running, and where, is
written to .telltale/env; secrets are made the first time and kept under .telltale/credentials.")]
pub struct Up {
    #[command(flatten)]
    place: Place,
    /// The name of the site
    #[arg(long, env = "TELLTALE_SITE", default_value = SITE)]
    site: String,
    /// The port of nats-server [default: 4222, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    nats_port: Option<u16>,
    /// The port of PostgreSQL [default: 5432, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    database_port: Option<u16>,
    /// The port of the bridge for HTTP [default: 8080, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    bridge_port: Option<u16>,
    /// The port of the bridge for MQTT [default: 1883, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    mqtt_port: Option<u16>,
    /// The port of the gateway [default: 8081, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    gateway_port: Option<u16>,
    /// When accepted messages are written to disk
    #[arg(long, value_enum, default_value_t)]
    sync: Sync,
    /// Run without optimisation what is built here
    #[arg(long, conflicts_with = "release")]
    debug: bool,
    /// Run optimised what is built here; the default
    #[arg(long)]
    release: bool,
    /// Start no simulated devices
    #[arg(long)]
    no_simulate: bool,
    /// Return when all is ready, and leave it running
    #[arg(long)]
    detach: bool,
    /// Set for the process that `--detach` leaves running
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
    #[command(flatten)]
    servers: ServerArgs,
}

/// Which stack is meant.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Place {
    /// The folder that holds `.telltale` [default: the nearest one from here upward, else here]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Place {
    fn layout(&self) -> anyhow::Result<Layout> {
        let here = std::env::current_dir().context("find the working directory")?;
        let nearest = || {
            here.ancestors()
                .find(|folder| folder.join(crate::envfile::FOLDER).is_dir())
        };
        let dir = match &self.dir {
            Some(dir) => std::path::absolute(dir).context("find the folder of the stack")?,
            None => nearest().unwrap_or(&here).to_owned(),
        };
        Ok(Layout::at(&dir))
    }
}

impl Up {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let layout = self.place.layout()?;
        if let Ok(mut running) = control::Client::connect(&layout) {
            let status = running.status()?;
            show::already(&status, &layout)?;
            return Ok(ExitCode::SUCCESS);
        }
        std::fs::create_dir_all(layout.dir()).with_context(|| format!("make {}", layout.dir().display()))?;
        if self.detach {
            detach::run(&self, &layout).await
        } else {
            self.stay(&layout).await
        }
    }

    fn options(&self, dir: &Path) -> StackOptions {
        let port = |given: Option<u16>, usual| given.map_or(Port::Rather(usual), Port::Only);
        StackOptions {
            dir: Some(dir.to_owned()),
            site: self.site.clone(),
            ports: Ports {
                nats: port(self.nats_port, 4222),
                database: port(self.database_port, 5432),
                bridge: port(self.bridge_port, 8080),
                mqtt: port(self.mqtt_port, 1883),
                gateway: port(self.gateway_port, 8081),
            },
            sync: self.sync,
            servers: self.servers.clone(),
            build: if self.debug { Build::Debug } else { Build::Release },
            show_build: true,
            say: Say::new(|line| eprintln!("  {line}")),
            ..StackOptions::default()
        }
    }

    /// Starts the stack and stays with it until it is told to end.
    async fn stay(&self, layout: &Layout) -> anyhow::Result<ExitCode> {
        if self.detached {
            // Away from the terminal, whose end would otherwise be ours.
            rustix::process::setsid().context("leave the terminal")?;
        }
        let began = Instant::now();
        let mut asked = Asked::listen()?;
        eprintln!("telltale starts in {}", layout.dir().display());
        let stack = tokio::select! {
            started = Stack::start(self.options(layout.dir())) => Arc::new(started.map_err(coded)?),
            code = asked.end() => {
                eprintln!("stopped before it was ready");
                return Ok(code);
            }
        };
        let stop = CancellationToken::new();
        let listener = control::listen(&layout.socket())?;
        let serving = tokio::spawn(control::serve(listener, Arc::clone(&stack), stop.clone()));
        if !self.no_simulate {
            // The same road each time, but new readings: ids that were there before would be duplicates.
            let args = ["simulate", "--seed", SEED, "--run", "now"].map(ToOwned::to_owned);
            stack.start_simulator(&args)?;
        }
        if !self.detached {
            let status = control::Client::connect(layout)?;
            let status = tokio::task::spawn_blocking(move || { status }.status()).await??;
            show::ready(&status, layout, began.elapsed())?;
        }
        let shown = async {
            if !self.no_simulate && !self.detached {
                show::first_rows(stack.env("DATABASE_URL")).await?;
            }
            std::future::pending::<anyhow::Result<ExitCode>>().await
        };
        let code = tokio::select! {
            code = asked.end() => code,
            () = stop.cancelled() => ExitCode::SUCCESS,
            failed = shown => failed?,
        };
        stop.cancel();
        eprintln!("stopping; again Ctrl-C ends it at once");
        tokio::select! {
            () = stack.shutdown() => eprintln!("stopped"),
            _ = asked.interrupt.recv() => stack.supervisor().end(),
        }
        // The socket goes with the stack: who connects afterwards is to hear that nobody is there.
        std::fs::remove_file(layout.socket()).context("remove the control socket")?;
        serving.await.context("end the control socket")?;
        Ok(code)
    }
}

/// The signals that ask us to end.
struct Asked {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Asked {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and says with which code to end.
    async fn end(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(exit::INTERRUPTED),
            _ = self.terminate.recv() => ExitCode::SUCCESS,
            _ = self.hangup.recv() => ExitCode::SUCCESS,
        }
    }
}

/// What must be there and is not has a code of its own.
fn coded(error: anyhow::Error) -> anyhow::Error {
    let precondition = error.downcast_ref::<PortError>().is_some()
        || error.downcast_ref::<FindError>().is_some()
        || error.downcast_ref::<std::fs::TryLockError>().is_some();
    if precondition {
        Refused::precondition(format!("{error:#}")).into()
    } else {
        error
    }
}

/// How long a stack in the background may take: its first build included.
const START_MAX: Duration = Duration::from_mins(30);
