//! Binding to a durable, at start and again whenever it gives nothing more.
use crate::{
    arrival::{Road, Through},
    backoff,
    consume::Pulled,
    daemon::Daemon,
    health::Check,
    pull::{Pull, PullError, Valve},
    stop::Fatal,
};
use async_nats::{
    Client,
    jetstream::{
        self, ErrorCode,
        consumer::PullConsumer,
        stream::{ConsumerError, ConsumerErrorKind},
    },
};
use std::time::Duration;
use telltale_nats::{Lane, manifest, subject};
use tokio::sync::watch;

/// The metadata of a durable on RAW that says when RAW was made.
const EPOCH: &str = "telltale-epoch";
/// What is fetched ahead of what was tried before and failed.
const AGAIN_PREFETCH: usize = 64;

/// One durable of the worker's, bound.
#[derive(Debug, Clone)]
struct Durable {
    name: String,
    stream: &'static str,
    road: Road,
    batch: usize,
    context: jetstream::Context,
    client: Client,
    check: Check,
    valve: watch::Receiver<Valve>,
}

#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("durable `{name}` on {stream} is not there; run `telltale provision`")]
    Missing { name: String, stream: &'static str },
    #[error("durable `{name}` on {stream} does not say when RAW was made; run `telltale provision`")]
    NoEpoch { name: String, stream: &'static str },
    #[error("durable `{name}` on {stream} cannot be bound: {source}")]
    Unavailable {
        name: String,
        stream: &'static str,
        // The client's error prints its own source.
        source: ConsumerError,
    },
    #[error("no subscription for durable `{name}` on {stream}: {source}")]
    Subscribe {
        name: String,
        stream: &'static str,
        source: async_nats::SubscribeError,
    },
}

/// A bound durable's messages.
pub(crate) struct Source {
    durable: Durable,
    pull: Pull,
    through: Through,
    ack_wait: Duration,
}

impl Durable {
    async fn bind(&self) -> Result<(Pull, Through, Duration), BindError> {
        let (name, stream) = (self.name.clone(), self.stream);
        let consumer: PullConsumer = self
            .context
            .get_consumer_from_stream(&name, stream)
            .await
            .map_err(|source| match source.kind() {
                ConsumerErrorKind::JetStream(error)
                    if matches!(
                        error.error_code(),
                        ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND
                    ) =>
                {
                    let name = name.clone();
                    BindError::Missing { name, stream }
                }
                _ => BindError::Unavailable {
                    name: name.clone(),
                    stream,
                    source,
                },
            })?;
        let config = &consumer.cached_info().config;
        let ack_wait = config.ack_wait;
        let epoch = config.metadata.get(EPOCH).and_then(|text| text.parse().ok());
        if stream == Lane::Raw.stream() && epoch.is_none() {
            return Err(BindError::NoEpoch { name, stream });
        }
        let through = Through {
            epoch: epoch.filter(|_| stream == Lane::Raw.stream()),
            road: self.road,
        };
        let pull = Pull::new(&self.client, consumer, self.batch, self.valve.clone())
            .await
            .map_err(|source| BindError::Subscribe { name, stream, source })?;
        self.check.set_ready();
        Ok((pull, through, ack_wait))
    }

    /// Binds again, for as long as it takes.
    async fn rebind(&self, why: &PullError) -> (Pull, Through, Duration) {
        tracing::warn!(
            stream = self.stream,
            "no more messages from {}: {why}; binding again",
            self.stream
        );
        self.check.set_unready(why.to_string());
        let mut attempt = 0;
        loop {
            match self.bind().await {
                Ok(bound) => {
                    tracing::info!(stream = self.stream, "bound to {} again", self.stream);
                    return bound;
                }
                Err(error) => {
                    attempt += 1;
                    if attempt == 1 {
                        tracing::warn!("{error}");
                    }
                    self.check.set_unready(error.to_string());
                    let pause = backoff::jittered(Duration::from_millis(200), attempt);
                    tokio::time::sleep(pause.min(Duration::from_secs(5))).await;
                }
            }
        }
    }
}

impl Source {
    /// Binds the durables of a worker: one on each of `streams`, and two on REDO. What is not provisioned, or not
    /// allowed, is fatal; what is away is waited for.
    pub(crate) async fn bind_all(
        daemon: &Daemon,
        name: &str,
        streams: impl IntoIterator<Item = &'static str>,
        prefetch: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let context = telltale_nats::client::context(daemon.client().clone());
        let lanes = streams.into_iter().map(|stream| {
            let check = format!("durable {stream}");
            (name.to_owned(), stream, Road::Lane, prefetch, check)
        });
        let redo = subject::REDO_STREAM;
        let own = [
            (name.to_owned(), redo, Road::Alone, 1, format!("durable {redo}")),
            (
                manifest::again_durable(name),
                redo,
                Road::Again,
                AGAIN_PREFETCH,
                format!("durable {redo} again"),
            ),
        ];
        let mut sources = Vec::new();
        for (name, stream, road, batch, check) in lanes.chain(own) {
            let durable = Durable {
                name,
                stream,
                road,
                batch,
                context: context.clone(),
                client: daemon.client().clone(),
                check: daemon.health().check(check),
                valve: daemon.valve().subscribe(),
            };
            let (pull, through, ack_wait) = bind_first(daemon, &durable).await?;
            sources.push(Self {
                durable,
                pull,
                through,
                ack_wait,
            });
        }
        Ok(sources)
    }

    /// What fails is bound again; it ends when nothing is to be asked for any more.
    pub(crate) async fn next(&mut self) -> Option<Pulled> {
        loop {
            match self.pull.next().await {
                Ok(message) => {
                    return Some(Pulled {
                        message: Pull::delivered(message, self.durable.context.clone()),
                        through: self.through,
                        ack_wait: self.ack_wait,
                    });
                }
                // All that was on its way has come, or never will.
                Err(_) if self.durable.valve.borrow().closed => return None,
                Err(why) => {
                    let (pull, through, ack_wait) = self.durable.rebind(&why).await;
                    (self.pull, self.through, self.ack_wait) = (pull, through, ack_wait);
                }
            }
        }
    }
}

async fn bind_first(daemon: &Daemon, durable: &Durable) -> anyhow::Result<(Pull, Through, Duration)> {
    let mut attempt = 0;
    loop {
        let error = match durable.bind().await {
            Ok(bound) => return Ok(bound),
            Err(error @ (BindError::Missing { .. } | BindError::NoEpoch { .. })) => {
                return Err(Fatal::Precondition(error.to_string()).into());
            }
            Err(error) => error,
        };
        // A request that is not allowed is seen only as silence; the refusal comes beside it.
        if let Some(text) = daemon.denied() {
            return Err(Fatal::Unauthorised(format!("`{}` is not allowed: {text}", durable.name)).into());
        }
        attempt += 1;
        if attempt == 1 {
            tracing::warn!("{error}; trying on");
        }
        durable.check.set_unready(error.to_string());
        let pause = backoff::jittered(Duration::from_millis(200), attempt);
        tokio::select! {
            () = tokio::time::sleep(pause.min(Duration::from_secs(2))) => {}
            () = daemon.stop().cancelled() => return Err(error.into()),
        }
    }
}
