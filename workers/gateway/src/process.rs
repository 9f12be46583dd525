//! The process: arguments, what the handlers share, and their end.
use crate::{
    app::{App, Parts},
    auth::People,
    directory::{Bases, Feed, expiry},
    metrics::Metrics,
    presence,
    registry::Registry,
    service,
    sql::{Pools, SqlArgs},
    streams::Streams,
};
use anyhow::Context as _;
use std::{net::SocketAddr, process::ExitCode};
use telltale_nats::{
    Lane,
    publish::{Options, Publisher},
    rights,
};
use telltale_runtime::{
    Daemon, daemon,
    web::{self, door::Door, listen},
};

/// What the gateway is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where HTTP clients connect; port 0 takes a free one.
    #[arg(
        long,
        env = "TELLTALE_GATEWAY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8081"
    )]
    listen: SocketAddr,
    /// A host name that clients use for this gateway, beside localhost and addresses; several separated by commas.
    #[arg(
        long = "host",
        env = "TELLTALE_GATEWAY_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    hosts: Vec<String>,
    /// Where clients reach this gateway, for the forms of Thing Descriptions; the address that it listens on if not said.
    #[arg(long, env = "TELLTALE_GATEWAY_URL", value_name = "URL")]
    url: Option<String>,
    /// Where devices reach the bridge by MQTT, for the forms of Thing Descriptions; none are added if not said.
    #[arg(long, env = "TELLTALE_MQTT_URL", value_name = "URL")]
    mqtt_url: Option<String>,
    /// Where clients reach the broker, for the forms of Thing Descriptions; none are added if not said.
    #[arg(long, env = "TELLTALE_NATS_PUBLIC_URL", value_name = "URL")]
    nats_public_url: Option<String>,
    /// Listen beyond this machine without TLS: tokens cross the network in the clear.
    #[arg(long, env = "TELLTALE_INSECURE")]
    insecure: bool,
    /// Connections at once; more wait.
    #[arg(
        long,
        env = "TELLTALE_GATEWAY_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 1024
    )]
    connections_max: usize,
    /// Event streams at once for each token; one more is refused.
    #[arg(
        long,
        env = "TELLTALE_GATEWAY_STREAMS_MAX",
        value_name = "N",
        default_value_t = 64
    )]
    streams_max: usize,
    #[command(flatten)]
    sql: SqlArgs,
}

/// The process `telltale-gateway`.
pub fn run() -> ExitCode {
    daemon(
        rights::GATEWAY,
        "Serves things, their descriptions and their data over HTTP.",
        gateway,
    )
}

/// Its command line, for documentation.
pub fn command() -> clap::Command {
    telltale_runtime::command_daemon::<Args>(rights::GATEWAY)
}

async fn gateway(args: Args, daemon: Daemon) -> anyhow::Result<()> {
    let sql = Pools::new(&args.sql)?;
    let metrics = Metrics::new(daemon.registry()).context("register metrics")?;
    let listener = listen::bind(args.listen, args.insecure).await?;
    let at = listener.local_addr().context("read the HTTP address")?;
    let (client, site, stop) = (daemon.client(), daemon.site(), daemon.stop());
    let without_slash = |url: String| url.trim_end_matches('/').to_owned();
    let bases = Bases {
        http: args.url.map_or_else(|| format!("http://{at}"), without_slash),
        mqtt: args.mqtt_url.map(without_slash),
        nats: args.nats_public_url.map(without_slash),
    };
    let health = daemon.health();
    let registry = Registry::new(client.clone(), site.clone(), rights::GATEWAY);
    let feed = |lane| Feed::of(lane, client.clone(), &registry);
    let (registrations, outcomes) = (feed(Lane::Thing), feed(Lane::Outcome));
    let (people, following_people) =
        People::follow(client, site, metrics.refused(), health.check("people"), stop);
    let app = App::new(Parts {
        site: site.clone(),
        nats: client.clone(),
        registry,
        feed: registrations,
        outcomes,
        people,
        bases,
        sql,
        streams: Streams::new(args.streams_max),
        publisher: Publisher::new(client.clone(), Options::default()),
        stop: stop.clone(),
    });
    let following_things = app.registry().follow(health.check("things"), stop);
    let following_feed = app.feed().follow(health.check("registrations"), stop);
    let following_outcomes = app.outcomes().follow(health.check("outcomes"), stop);
    let expiring = expiry::run(app.registry(), stop);
    let listening = presence::run(&app);
    let answering = service::run(&app, daemon.instance());
    tracing::info!(%at, "HTTP clients connect to http://{at}");
    let router = crate::router(app.clone(), Door::new(args.hosts));
    let serving = web::serve(
        listener,
        args.connections_max,
        router,
        move || metrics.connection(),
        stop,
    );
    let following = async {
        tokio::join!(
            following_people,
            following_things,
            following_feed,
            following_outcomes
        )
    };
    tokio::join!(serving, following, expiring, listening, answering);
    Ok(())
}
