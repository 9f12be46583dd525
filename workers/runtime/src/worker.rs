//! What a worker is.
use crate::{Delivery, Failure, Inbound, Outbound, Verdict};

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
    /// Most deliveries in one call.
    const BATCH_MAX: usize = 5_000;

    /// Once, before the first message.
    fn start(args: Self::Args, at: &Resources) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// One verdict for each input, in order. The outer `Err` is for what hits the whole batch, so that
    /// `transaction.commit().await.or_outage()?` works.
    fn handle_batch(
        &self,
        inputs: &[Delivery<Self::Input>],
    ) -> impl Future<Output = Result<Vec<Verdict<Self::Output>>, Failure>> + Send;
}

/// For a worker that is told nothing of its own.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct NoArgs {}

/// What the runtime lends at start. Accessors only; it is not a context for all.
#[derive(Debug)]
pub struct Resources {
    pub(crate) site: telltale_nats::Name,
}

impl Resources {
    /// The site that this copy runs at.
    pub fn site(&self) -> &telltale_nats::Name {
        &self.site
    }
}
