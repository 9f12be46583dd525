//! What surrounds the work of any process of ours: arguments, logs, health, a connection, an end.
use crate::{
    args::{OWN, ProcessArgs},
    backoff, health,
    health::{Check, Health},
    metrics,
    pull::Valve,
    stop,
    stop::Fatal,
    telemetry,
};
use anyhow::Context as _;
use async_nats::{Client, connection::State};
use prometheus::Registry;
use std::{
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telltale_nats::{
    Name,
    client::{ConnectError, Notice, connect_with},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest pause between two attempts to connect at start.
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whoever lacks a right asks again within half a minute and the time-out of a request: after this silence it has it.
const DENIED: Duration = Duration::from_secs(40);

/// What a process has, once it runs.
#[derive(Debug, Clone)]
pub struct Daemon {
    client: Client,
    site: Name,
    health: Health,
    registry: Registry,
    stop: CancellationToken,
    instance: String,
    denials: Denials,
    valve: watch::Sender<Valve>,
}

impl Daemon {
    /// The connection to the broker.
    pub fn client(&self) -> &Client {
        &self.client
    }
    /// The site that it runs at.
    pub fn site(&self) -> &Name {
        &self.site
    }
    /// Where checks of readiness are made.
    pub fn health(&self) -> &Health {
        &self.health
    }
    /// Where metrics are registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
    /// Cancelled when the process is told to stop; drain then, and return.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
    /// The name of this copy, new at each start.
    pub fn instance(&self) -> &str {
        &self.instance
    }
    /// What pulling listens to.
    pub(crate) fn valve(&self) -> &watch::Sender<Valve> {
        &self.valve
    }
    /// What the broker last refused this identity, if it refused anything.
    pub(crate) fn denied(&self) -> Option<String> {
        self.denials.last()
    }
}

/// What the broker refused; shared with the connection's callback.
#[derive(Debug, Clone, Default)]
struct Denials(Arc<Mutex<Option<(String, Instant)>>>);

impl Denials {
    fn last(&self) -> Option<String> {
        let last = self.lock();
        last.as_ref().map(|(text, _)| text.clone())
    }
    fn set(&self, text: Option<String>) {
        *self.lock() = text.map(|text| (text, Instant::now()));
    }
    fn lock(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Forgets what was refused long ago; says whether it did.
    fn forget_old(&self) -> bool {
        self.lock().take_if(|(_, at)| at.elapsed() >= DENIED).is_some()
    }
}

/// The broker tells when it refuses, and not when a right is given back to whoever stays connected.
async fn forget_denials(denials: Denials, check: Check, client: Client) {
    loop {
        tokio::time::sleep(DENIED / 8).await;
        if denials.forget_old() && client.connection_state() == State::Connected {
            tracing::info!("NATS refuses nothing any more");
            check.set_ready();
        }
    }
}

#[derive(clap::Parser)]
struct Both<A: clap::Args> {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten, next_help_heading = OWN)]
    own: A,
}

/// For what is no worker (bridge, gateway): the same arguments, logs, health, metrics and end.
///
/// `main` gets its own arguments and what the runtime has made ready; it should return soon after
/// [`Daemon::stop`]. Its process ends with 0, or 1, or what a [`Fatal`] in its error says.
pub fn daemon<A, F, W>(name: &'static str, about: &'static str, main: F) -> ExitCode
where
    A: clap::Args,
    F: FnOnce(A, Daemon) -> W,
    W: Future<Output = anyhow::Result<()>>,
{
    let both = match parse::<Both<A>>(name, about) {
        Ok(both) => both,
        Err(code) => return code,
    };
    block_on(tokio::runtime::Builder::new_multi_thread(), async move {
        let daemon = start(name, &both.process).await?;
        let Some(daemon) = daemon else { return Ok(()) };
        main(both.own, daemon).await
    })
}

/// The command line of such a process, for documentation.
pub fn command_daemon<A: clap::Args>(name: &'static str) -> clap::Command {
    <Both<A> as clap::CommandFactory>::command().name(name)
}

/// Parses the arguments of the process; the code to end with where that shows usage or help.
pub(crate) fn parse<A: clap::CommandFactory + clap::FromArgMatches>(
    name: &'static str,
    about: &'static str,
) -> Result<A, ExitCode> {
    A::command()
        .name(name)
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .try_get_matches()
        .and_then(|matches| A::from_arg_matches(&matches))
        .map_err(|error| {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            }
        })
}

/// Runs to the end and says how it ended, once.
pub(crate) fn block_on(
    mut builder: tokio::runtime::Builder,
    main: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let ended = match builder.enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(main);
            // A look-up or a file read may still block a thread; nobody waits for it.
            runtime.shutdown_timeout(Duration::from_millis(100));
            ended
        }
        Err(error) => Err(error).context("start the async runtime"),
    };
    if let Err(error) = &ended {
        tracing::error!("{error:#}");
    }
    stop::code(&ended)
}

/// Logs, health, metrics, and a connection: tried until it is there. `None` if told to stop before.
pub(crate) async fn start(name: &'static str, args: &ProcessArgs) -> anyhow::Result<Option<Daemon>> {
    telemetry::init(&args.log, args.log_format)?;
    let stop = stop::token().context("listen for signals")?;
    let (health, registry) = (Health::default(), Registry::new());
    metrics::of_process(&registry).context("register metrics")?;
    metrics::of_health(&registry, &health).context("register metrics")?;
    let check = health.check("nats");
    let listener = health::bind(args.health_listen)
        .await
        .with_context(|| format!("listen on {} for health", args.health_listen))?;
    let at = listener.local_addr().context("read the health address")?;
    let instance = format!("{name}-{:08x}", rand::random::<u32>());
    tracing::info!(%instance, site = %args.site, health = %at, "`{name}` starts, health on http://{at}");
    let tasks = TaskTracker::new();
    tasks.spawn(health::serve(
        listener,
        health.clone(),
        registry.clone(),
        stop.clone(),
    ));
    let denials = Denials::default();
    let valve = watch::Sender::new(Valve {
        open: true,
        closed: false,
        connects: 0,
    });
    let client = tokio::select! {
        client = connect(name, args, &check, &denials, &valve) => client?,
        () = stop.cancelled() => return Ok(None),
    };
    tasks.spawn(forget_denials(denials.clone(), check, client.clone()));
    Ok(Some(Daemon {
        client,
        site: args.site.clone(),
        health,
        registry,
        stop,
        instance,
        denials,
        valve,
    }))
}

async fn connect(
    name: &str,
    args: &ProcessArgs,
    check: &Check,
    denials: &Denials,
    valve: &watch::Sender<Valve>,
) -> anyhow::Result<Client> {
    let mut attempt = 0;
    loop {
        let access = args.access(name)?;
        let (noted, refused, valve) = (check.clone(), denials.clone(), valve.clone());
        let notify = move |notice| match notice {
            Notice::Connected => {
                refused.set(None);
                valve.send_modify(|valve| valve.connects += 1);
                noted.set_ready();
            }
            Notice::Disconnected => noted.set_unready("not connected, reconnecting"),
            Notice::Closed => noted.set_unready("the connection is closed"),
            Notice::Denied(text) => {
                noted.set_unready(text.clone());
                refused.set(Some(text));
            }
        };
        match connect_with(&access, notify).await {
            Ok(client) => {
                check.set_ready();
                return Ok(client);
            }
            Err(error @ ConnectError::Refused { .. }) => {
                return Err(Fatal::Unauthorised(error.to_string()).into());
            }
            Err(error @ ConnectError::Url { .. }) => return Err(error.into()),
            Err(error) => {
                attempt += 1;
                if attempt == 1 {
                    tracing::warn!("{error}; trying until one does");
                }
                check.set_unready(error.to_string());
                let pause = backoff::jittered(Duration::from_millis(100), attempt).min(CONNECT_PAUSE_MAX);
                tokio::time::sleep(pause).await;
            }
        }
    }
}
