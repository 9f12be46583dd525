//! The process: arguments, what the adapters share, and their end.
use crate::{
    Adapter,
    downlink::Downlinks,
    http,
    intake::{Intake, Parts},
    keyring::Keyring,
    metrics::Metrics,
    mqtt,
    mqtt_client::{self, MqttClient},
    notes,
    outbox::{self, Outbox},
    pace::Pace,
    presence::Presence,
};
use anyhow::Context as _;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use telltale_nats::{
    async_nats::connection::State,
    client,
    publish::{Options, Publisher},
    seal,
};
use telltale_runtime::{Daemon, daemon, health, web::listen};
use tokio_util::sync::CancellationToken;

/// How long publishing may go on after the last connection is closed.
const PUBLISH_DRAIN: Duration = Duration::from_secs(5);

/// What the bridge is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where HTTP devices connect; port 0 takes a free one.
    #[arg(
        long,
        env = "TELLTALE_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    http_listen: SocketAddr,
    /// Where MQTT devices connect; port 0 takes a free one.
    #[arg(
        long,
        env = "TELLTALE_MQTT_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:1883"
    )]
    mqtt_listen: SocketAddr,
    /// File with the deployment's key for the seal on raw messages.
    #[arg(long, env = "TELLTALE_SEAL_KEY_FILE", value_name = "FILE")]
    seal_key_file: PathBuf,
    /// Listen beyond this machine without TLS: secrets cross the network in the clear.
    #[arg(long, env = "TELLTALE_INSECURE")]
    insecure: bool,
    /// HTTP connections at once; more wait.
    #[arg(
        long,
        env = "TELLTALE_HTTP_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 1024
    )]
    http_connections_max: usize,
    /// MQTT connections at once; more wait.
    #[arg(
        long,
        env = "TELLTALE_MQTT_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 10_000
    )]
    mqtt_connections_max: usize,
    /// Messages a second that one thing may send, and twice as many at once; 0 for any number. Credentials with backfill are
    /// not held to it.
    #[arg(long, env = "TELLTALE_THING_RATE", value_name = "N", default_value_t = 500)]
    thing_rate: u32,
    /// Seconds without a session after which a device is told to be offline; a device that keeps falling waits longer.
    #[arg(
        long,
        env = "TELLTALE_OFFLINE_AFTER",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    offline_after: u32,
    #[command(flatten)]
    mqtt_client: mqtt_client::Settings,
}

/// The process `telltale-bridge`.
pub fn run() -> ExitCode {
    daemon(
        "bridge",
        "Takes what devices say over HTTP and MQTT, and publishes it.",
        bridge,
    )
}

/// Its command line, for documentation.
pub fn command() -> clap::Command {
    telltale_runtime::command_daemon::<Args>("bridge")
}

async fn bridge(args: Args, daemon: Daemon) -> anyhow::Result<()> {
    let key = seal::Key::read(&args.seal_key_file)?;
    let metrics = Metrics::new(daemon.registry()).context("register metrics")?;
    let http = http::Http {
        listener: listen::bind(args.http_listen, args.insecure).await?,
        connections_max: args.http_connections_max,
        face: health::router(daemon.health().clone(), daemon.registry().clone()),
    };
    let mqtt = mqtt::Mqtt {
        listener: listen::bind(args.mqtt_listen, args.insecure).await?,
        connections_max: args.mqtt_connections_max,
    };
    let (client, stop) = (daemon.client().clone(), daemon.stop().clone());
    let keyring = Arc::new(Keyring::new());
    let (outbox, jobs) = Outbox::new();
    let pace = Pace::new(args.thing_rate);
    let publisher = Publisher::new(client.clone(), Options::default());
    let own_publisher = Publisher::new(client.clone(), Options::default());
    let telling_publisher = Publisher::new(client.clone(), Options::default());
    let presence = Presence::new(Duration::from_secs(args.offline_after.into()));
    let connected = client.clone();
    let is_connected = move || connected.connection_state() == State::Connected;
    let publishing = tokio::spawn(outbox::run(jobs, publisher, is_connected, metrics.clone()));
    let report = |name| {
        let check = daemon.health().check(name);
        move |followed: Result<(), String>| match followed {
            Ok(()) => check.set_ready(),
            Err(why) => check.set_unready(why),
        }
    };
    let context = client::context(client);
    let check = || daemon.health().check(MqttClient::NAME);
    let mqtt_client = MqttClient::new(
        args.mqtt_client,
        daemon.site(),
        args.insecure,
        context.clone(),
        check,
    )?;
    let following = keyring.watch(&context, report("credentials"), &stop);
    let instance = daemon.instance().to_owned();
    let (downlinks, work) = Downlinks::new(daemon.site().clone(), instance, metrics.clone());
    let delivering = downlinks.run(work, &context, &telling_publisher, report("pending"), &stop);
    let intake = Intake::new(Parts {
        site: daemon.site().clone(),
        key,
        keyring: keyring.clone(),
        outbox,
        pace,
        presence,
        downlinks: downlinks.clone(),
        metrics,
    });
    let telling = async {
        let intake = intake.clone();
        notes::run(&intake, &own_publisher, &stop).await;
    };
    let serving = serve_all(http, mqtt, mqtt_client, &intake, &stop);
    let ((), (), (), served) = tokio::join!(following, telling, delivering, serving);
    drop(intake);
    // Nobody holds the intake any more but connections that did not finish in time: publishing ends by itself,
    // or has had its chance.
    if tokio::time::timeout(PUBLISH_DRAIN, publishing).await.is_err() {
        tracing::warn!("some messages were not confirmed before the end");
    }
    served
}

async fn serve_all(
    http: http::Http,
    mqtt: mqtt::Mqtt,
    mqtt_client: Option<MqttClient>,
    intake: &Intake,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mqtt_client = async {
        match mqtt_client {
            Some(client) => serve(client, intake.clone(), stop).await,
            None => Ok(()),
        }
    };
    let (http, mqtt) = (
        serve(http, intake.clone(), stop),
        serve(mqtt, intake.clone(), stop),
    );
    let (http, mqtt, mqtt_client) = tokio::join!(http, mqtt, mqtt_client);
    http.and(mqtt).and(mqtt_client)
}

async fn serve<A: Adapter>(adapter: A, intake: Intake, stop: &CancellationToken) -> anyhow::Result<()> {
    let served = adapter.serve(intake, stop.clone()).await;
    // One that fails takes the other along: the process starts again whole.
    stop.cancel();
    served.with_context(|| format!("serve {}", A::NAME))
}
