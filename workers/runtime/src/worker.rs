//! What a worker is.
use crate::{
    Cause, Delivery, Draft, Failure, Inbound, Outbound, Verdict,
    daemon::Daemon,
    health::Health,
    things::{Annotations, Policies},
};
use anyhow::Context as _;
use prometheus::Registry;
use std::{sync::Arc, time::Duration};
use telltale_nats::Name;
use telltale_schemas::{Timestamp, thing::Entry};

/// A function from one message to messages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a worker",
    label = "needs `impl Worker for {Self}` (or `BatchWorker`)"
)]
pub trait Worker: Sized + Send + Sync + 'static {
    /// Its name: durable, credential and last part of `source`.
    const NAME: &'static str;
    /// Decides what it subscribes to.
    type Input: Inbound;
    /// Decides where it may publish.
    type Output: Outbound;
    /// Its own flags and environment variables.
    type Args: clap::Args + Send;
    /// The events that it may raise.
    const EVENTS: &'static [&'static str] = &[];
    /// The commands that it may give.
    const COMMANDS: &'static [&'static str] = &[];
    /// The buckets that it reads.
    const BUCKETS: &'static [&'static str] = &[];
    /// The buckets that it writes, and reads.
    const KEEPS: &'static [&'static str] = &[];
    /// The operations that it answers under `api.<site>.<name>`.
    const API: &'static [&'static str] = &[];
    /// The streams of which it may ask how far they and their durables are; never what is in them.
    const OBSERVES: &'static [&'static str] = &[];

    /// Once, before the first message.
    fn start(args: Self::Args, at: &Resources) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// For each message. Must give the same answer to the same message.
    fn handle(&self, input: Delivery<Self::Input>) -> impl Future<Output = Verdict<Self::Output>> + Send;
}

/// `handle` for many at once, with one verdict for each.
pub trait BatchWorker: Sized + Send + Sync + 'static {
    /// Its name: durable, credential and last part of `source`.
    const NAME: &'static str;
    /// Decides what it subscribes to.
    type Input: Inbound;
    /// Decides where it may publish.
    type Output: Outbound;
    /// Its own flags and environment variables.
    type Args: clap::Args + Send;
    /// The events that it may raise.
    const EVENTS: &'static [&'static str] = &[];
    /// The commands that it may give.
    const COMMANDS: &'static [&'static str] = &[];
    /// The buckets that it reads.
    const BUCKETS: &'static [&'static str] = &[];
    /// The buckets that it writes, and reads.
    const KEEPS: &'static [&'static str] = &[];
    /// The operations that it answers under `api.<site>.<name>`.
    const API: &'static [&'static str] = &[];
    /// The streams of which it may ask how far they and their durables are; never what is in them.
    const OBSERVES: &'static [&'static str] = &[];
    /// Most deliveries in one call.
    const BATCH_MAX: usize = 5_000;
    /// How long a batch that is not full waits for more before it is handled.
    const LINGER: Duration = Duration::from_millis(2);

    /// Once, before the first message.
    fn start(args: Self::Args, at: &Resources) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// One verdict for each input, in order. The outer `Err` is for what hits the whole batch, so that
    /// `transaction.commit().await.or_outage()?` works.
    fn handle_batch(
        &self,
        inputs: &[Delivery<Self::Input>],
    ) -> impl Future<Output = Result<Vec<Verdict<Self::Output>>, Failure>> + Send;
}

/// A worker whose answers depend on what came before (ADR 0023). One copy for each site reads, in the order of the one
/// stream that its lanes are in; others stand by. What it is told is a function of the stream alone, and so must be
/// what it answers: after a crash it is given the state that it kept and all that came since, and answers the same
/// again under the same ids.
pub trait OrderedWorker: Sized + Send + 'static {
    /// Its name: durable, credential and last part of `source`.
    const NAME: &'static str;
    /// Decides what it subscribes to; all of it in one stream.
    type Input: Inbound;
    /// Decides where it may publish.
    type Output: Outbound;
    /// Its own flags and environment variables.
    type Args: clap::Args + Send;
    /// The events that it may raise; `*` for any.
    const EVENTS: &'static [&'static str] = &[];
    /// The commands that it may give; `*` for any.
    const COMMANDS: &'static [&'static str] = &[];
    /// The buckets that it reads.
    const BUCKETS: &'static [&'static str] = &[];
    /// The buckets that it writes, and reads.
    const KEEPS: &'static [&'static str] = &[];
    /// The operations that it answers under `api.<site>.<name>`.
    const API: &'static [&'static str] = &[];
    /// The streams of which it may ask how far they and their durables are; never what is in them.
    const OBSERVES: &'static [&'static str] = &[];

    /// Once, before the first message, and before this copy is the one that reads.
    fn start(args: Self::Args, at: &Resources) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// Takes up what [`OrderedWorker::keep`] wrote. What cannot be read is an error, and all is computed anew from
    /// what the stream has.
    fn restore(&mut self, kept: &[u8]) -> anyhow::Result<()>;
    /// The whole state, from which it goes on after the last message that it was given.
    fn keep(&self) -> anyhow::Result<Vec<u8>>;
    /// Between messages: takes up what people have changed. Whether anything has, which is kept at once.
    fn refresh(&mut self) -> impl Future<Output = bool> + Send;
    /// The next message of the stream, which the broker stored at `stored`.
    fn handle(
        &mut self,
        input: Delivery<Self::Input>,
        stored: Timestamp,
    ) -> impl Future<Output = Result<Vec<Made<Self::Output>>, Failure>> + Send;
    /// Whether silence means anything to it now: whether [`OrderedWorker::passed`] may answer something.
    fn waits(&self) -> bool;
    /// The stream has no further message that was stored before `until`. Only an outage is a failure.
    fn passed(
        &mut self,
        until: Timestamp,
    ) -> impl Future<Output = Result<Vec<Made<Self::Output>>, Failure>> + Send;
}

/// One message that follows, now, from one that came then.
#[derive(Debug)]
pub struct Made<O> {
    /// What it follows from.
    pub cause: Arc<Cause>,
    /// The message; its id should name the effect, for `cause` may have several over time.
    pub draft: Draft<O>,
}

/// For a worker that is told nothing of its own.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct NoArgs {}

/// What the runtime lends at start. Accessors only; it is not a context for all.
#[derive(Debug, Clone)]
pub struct Resources {
    pub(crate) worker: &'static str,
    pub(crate) at: At,
}

/// Where the worker runs.
#[derive(Debug, Clone)]
pub(crate) enum At {
    Broker(Box<Daemon>),
    Offline(Box<Offline>),
}

/// What stands for the broker offline.
#[derive(Debug, Clone)]
pub(crate) struct Offline {
    pub(crate) site: Name,
    pub(crate) things: Vec<Entry>,
    pub(crate) health: Health,
    pub(crate) registry: Registry,
}

impl Resources {
    /// The site that this copy runs at.
    pub fn site(&self) -> &Name {
        match &self.at {
            At::Broker(daemon) => daemon.site(),
            At::Offline(offline) => &offline.site,
        }
    }

    /// The connection to the broker; an error offline.
    pub fn client(&self) -> anyhow::Result<&async_nats::Client> {
        match &self.at {
            At::Broker(daemon) => Ok(daemon.client()),
            At::Offline(_) => anyhow::bail!("`{}` needs the broker and cannot run offline", self.worker),
        }
    }

    /// The name of this copy, new at each start.
    pub fn instance(&self) -> &str {
        match &self.at {
            At::Broker(daemon) => daemon.instance(),
            At::Offline(_) => "offline",
        }
    }

    /// What is expected of things, from the bucket `things`; offline from the file that was named. The worker's
    /// `BUCKETS` must name `things`, its `API` `holds`.
    pub async fn policies(&self) -> anyhow::Result<Policies> {
        match &self.at {
            At::Broker(daemon) => {
                let opened = Policies::open(daemon.client(), daemon.site(), self.worker, daemon.instance());
                opened.await.context("open the `things` bucket")
            }
            At::Offline(offline) => Ok(Policies::fixed(&offline.things)),
        }
    }

    /// What is known about things, in the same way.
    pub async fn annotations(&self) -> anyhow::Result<Annotations> {
        match &self.at {
            At::Broker(daemon) => {
                let opened =
                    Annotations::open(daemon.client(), daemon.site(), self.worker, daemon.instance());
                opened.await.context("open the `things` bucket")
            }
            At::Offline(offline) => Ok(Annotations::fixed(&offline.things)),
        }
    }

    /// Where metrics are registered.
    pub fn registry(&self) -> &Registry {
        match &self.at {
            At::Broker(daemon) => daemon.registry(),
            At::Offline(offline) => &offline.registry,
        }
    }

    /// Where checks of readiness are made.
    pub fn health(&self) -> &Health {
        match &self.at {
            At::Broker(daemon) => daemon.health(),
            At::Offline(offline) => &offline.health,
        }
    }
}
