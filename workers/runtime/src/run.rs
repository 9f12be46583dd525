//! A worker as a process.
use crate::{
    BatchWorker, OrderedWorker, Resources, Worker,
    args::{OWN, ProcessArgs, WorkerArgs},
    batch,
    compose::Writer,
    consume::{CHUNK, Desk, Inbox},
    daemon::{self, Daemon},
    line::{Line, Rules},
    manifest::Needs,
    metrics::{self, Metrics},
    offline,
    one::{self, Limits},
    ordered::{self, Ground},
    outage::Outage,
    outbox::Outbox,
    worker::At,
};
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};
use telltale_nats::{
    Name,
    manifest::Manifest,
    publish::{Options, Publisher},
};
use tokio_util::sync::CancellationToken;

/// Said by `--help`.
const ABOUT: &str = "A worker of Telltale: reads messages, and writes what follows from them.";
/// One message may be handled for so long.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// One batch may.
const BATCH_TIMEOUT: Duration = Duration::from_mins(1);
/// What a batch worker fetches ahead: it handles as many as the broker lets all copies have.
const BATCH_PREFETCH: usize = 2 * CHUNK;

/// A worker's command line: where it runs, how it works, and what is its own.
#[derive(Debug, Parser)]
struct Cli<A: clap::Args> {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten, next_help_heading = OWN)]
    own: A,
}

/// Runs a worker to its end; the whole of its `main`.
pub fn run<W: Worker>() -> ExitCode {
    let pace = Pace {
        prefetch: CHUNK,
        timeout: HANDLE_TIMEOUT,
    };
    process(Needs::of::<W>(), pace, W::start, offline::run, one::run)
}

/// Runs a batch worker to its end; the whole of its `main`.
pub fn run_batch<W: BatchWorker>() -> ExitCode {
    let pace = Pace {
        prefetch: BATCH_PREFETCH,
        timeout: BATCH_TIMEOUT,
    };
    process(
        Needs::of_batch::<W>(),
        pace,
        W::start,
        offline::run_batch,
        batch::run,
    )
}

/// Runs a worker that answers in order to its end; the whole of its `main`.
pub fn run_ordered<W: OrderedWorker>() -> ExitCode {
    let needs = Needs::of_ordered::<W>();
    let cli = match daemon::parse::<Cli<W::Args>>(needs.name, ABOUT) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if cli.worker.manifest {
        return print(&needs.manifest());
    }
    let one = tokio::runtime::Builder::new_current_thread();
    daemon::block_on(one, async move {
        if cli.worker.offline {
            let at = offline::resources(needs.name, &cli.process, &cli.worker)?;
            let mut worker = W::start(cli.own, &at).await.context("start the worker")?;
            return offline::run_ordered(&mut worker, &needs, &at).await;
        }
        let Some(daemon) = daemon::start(needs.name, &cli.process).await? else {
            return Ok(());
        };
        let ready = daemon.health().check("worker");
        let mut line = line(&daemon, &needs, &cli.worker)?;
        // Who begins again is given much again, and none of it is to blame.
        line.rules.attempts_max = u32::MAX;
        let at = resources(needs.name, &daemon);
        let mut worker = tokio::select! {
            worker = W::start(cli.own, &at) => worker.context("start the worker")?,
            () = daemon.stop().cancelled() => return Ok(()),
        };
        ready.set_ready();
        let ground = Ground {
            daemon: &daemon,
            name: needs.name,
            reads: needs.reads,
            drain: cli.worker.drain,
            active: metrics::active(daemon.registry()).context("register metrics")?,
        };
        ordered::run(&mut worker, line, ground).await
    })
}

/// How the two kinds of workers are driven differently.
#[derive(Clone, Copy)]
struct Pace {
    prefetch: usize,
    timeout: Duration,
}

/// The life of a worker of either kind: arguments, start, loop, drain.
fn process<A: clap::Args, W>(
    needs: Needs,
    pace: Pace,
    start: impl AsyncFnOnce(A, &Resources) -> anyhow::Result<W>,
    offline: impl AsyncFnOnce(&W, &Needs, &Resources) -> anyhow::Result<()>,
    online: impl AsyncFnOnce(&W, Line, Inbox, Limits, &CancellationToken),
) -> ExitCode {
    let cli = match daemon::parse::<Cli<A>>(needs.name, ABOUT) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if cli.worker.manifest {
        return print(&needs.manifest());
    }
    let one = tokio::runtime::Builder::new_current_thread();
    daemon::block_on(one, async move {
        if cli.worker.offline {
            let at = offline::resources(needs.name, &cli.process, &cli.worker)?;
            let worker = start(cli.own, &at).await.context("start the worker")?;
            return offline(&worker, &needs, &at).await;
        }
        let Some(daemon) = daemon::start(needs.name, &cli.process).await? else {
            return Ok(());
        };
        #[cfg(debug_assertions)]
        crate::fault::watch(cli.worker.fault_dir.as_deref(), needs.name);
        let ready = daemon.health().check("worker");
        let (inbox, line) = bind(&daemon, &needs, &cli.worker, pace.prefetch).await?;
        let at = resources(needs.name, &daemon);
        let worker = tokio::select! {
            worker = start(cli.own, &at) => worker.context("start the worker")?,
            () = daemon.stop().cancelled() => return Ok(()),
        };
        ready.set_ready();
        let limits = Limits {
            handle: cli.worker.handle_timeout.unwrap_or(pace.timeout),
            drain: cli.worker.drain,
        };
        online(&worker, line, inbox, limits, daemon.stop()).await;
        Ok(())
    })
}

/// The command line of a worker, for tests that it holds together and for documentation.
pub fn command<W: Worker>() -> clap::Command {
    Cli::<W::Args>::command().name(W::NAME)
}

/// The same of a batch worker.
pub fn command_batch<W: BatchWorker>() -> clap::Command {
    Cli::<W::Args>::command().name(W::NAME)
}

/// The same of a worker that answers in order.
pub fn command_ordered<W: OrderedWorker>() -> clap::Command {
    Cli::<W::Args>::command().name(W::NAME)
}

/// What `--manifest` prints of a worker.
pub fn manifest<W: Worker>() -> Manifest {
    Needs::of::<W>().manifest()
}

/// The same of a batch worker.
pub fn manifest_batch<W: BatchWorker>() -> Manifest {
    Needs::of_batch::<W>().manifest()
}

/// The same of a worker that answers in order.
pub fn manifest_ordered<W: OrderedWorker>() -> Manifest {
    Needs::of_ordered::<W>().manifest()
}

fn print(manifest: &Manifest) -> ExitCode {
    let written = serde_json::to_string(manifest)
        .map_err(std::io::Error::from)
        .and_then(|text| writeln!(std::io::stdout().lock(), "{text}"));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn resources(worker: &'static str, daemon: &Daemon) -> Resources {
    Resources {
        worker,
        at: At::Broker(Box::new(daemon.clone())),
    }
}

async fn bind(
    daemon: &Daemon,
    needs: &Needs,
    args: &WorkerArgs,
    prefetch: usize,
) -> anyhow::Result<(Inbox, Line)> {
    let inbox = Inbox::bind(daemon, needs.name, needs.reads, prefetch).await?;
    Ok((inbox, line(daemon, needs, args)?))
}

fn line(daemon: &Daemon, needs: &Needs, args: &WorkerArgs) -> anyhow::Result<Line> {
    let metrics =
        Metrics::new(daemon.registry(), needs.name, needs.reads, needs.writes).context("register metrics")?;
    let outage = Outage::new(
        daemon.health().check("work"),
        metrics.holding.clone(),
        args.retry_first,
    );
    let publisher = Publisher::new(daemon.client().clone(), Options::default());
    Ok(Line {
        rules: Rules {
            worker: Name::new(needs.name).context("the worker's name")?,
            site: daemon.site().clone(),
            attempts_max: args.attempts_max,
            retry_first: args.retry_first,
        },
        writer: writer(needs, daemon.site()),
        metrics,
        desk: Desk::new(daemon.client().clone()),
        outbox: Outbox::new(Arc::new(publisher)),
        outage,
    })
}

/// Who writes what the worker answers.
pub(crate) fn writer(needs: &Needs, site: &Name) -> Writer {
    Writer {
        stage: needs.name,
        source: format!("/{}/{}", site.token(), needs.name),
        events: needs.events,
        commands: needs.commands,
    }
}
