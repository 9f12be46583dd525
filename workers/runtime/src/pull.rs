//! Pulling from one durable, with an exact account of what was asked for.
//!
//! The client's own `stream()` asks on by itself; we must be able to stop asking, hand out what was asked for
//! already, and know when there is no more of it: in an outage, and when the process drains.
use async_nats::{
    Subscriber,
    jetstream::{
        self,
        consumer::{
            PullConsumer,
            pull::{BatchConfig, BatchRequestError},
        },
    },
    status::StatusCode,
};
use futures::{FutureExt as _, StreamExt as _};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// The broker forgets a request after this time and says so. A request cannot be taken back, and a client that
/// unsubscribes drops what is on its way to it, which nobody else is given before its acknowledgement expires: who stops
/// waits for this end. So short, stopping is quick; an idle durable costs two small messages for each.
pub(crate) const EXPIRES: Duration = Duration::from_secs(1);
/// Without any answer for so long, the request is lost.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// Whether to ask, and how often the connection was made; a new connection has forgotten all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Valve {
    pub(crate) open: bool,
    pub(crate) connects: u64,
    /// Whether nothing is ever to be asked for again.
    pub(crate) closed: bool,
}

/// Why a durable gives nothing more. It has to be bound again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("the broker says: {0}")]
    Refused(String),
    #[error("the broker does not answer")]
    Silent,
    #[error("the subscription has ended")]
    Ended,
    #[error("the request could not be sent")]
    Request(#[source] BatchRequestError),
}

/// Requests to one durable and what comes of them.
#[derive(Debug)]
pub(crate) struct Pull {
    consumer: PullConsumer,
    messages: Subscriber,
    inbox: async_nats::Subject,
    valve: watch::Receiver<Valve>,
    connects: u64,
    batch: usize,
    /// What the broker still owes us.
    owed: usize,
    heard: Instant,
}

impl Pull {
    /// Subscribes; nothing is asked for before the first [`Pull::next`].
    pub(crate) async fn new(
        client: &async_nats::Client,
        consumer: PullConsumer,
        batch: usize,
        valve: watch::Receiver<Valve>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = async_nats::Subject::from(client.new_inbox());
        let messages = client.subscribe(inbox.clone()).await?;
        let connects = valve.borrow().connects;
        Ok(Self {
            consumer,
            messages,
            inbox,
            valve,
            connects,
            batch,
            owed: 0,
            heard: Instant::now(),
        })
    }

    /// The next message. May be dropped and called again without loss.
    pub(crate) async fn next(&mut self) -> Result<async_nats::Message, PullError> {
        loop {
            self.ask().await?;
            let received = match self.messages.next().now_or_never() {
                Some(received) => received,
                None => match self.wait().await? {
                    Some(received) => received,
                    None => continue,
                },
            };
            let message = received.ok_or(PullError::Ended)?;
            self.heard = Instant::now();
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.owed = self.owed.saturating_sub(1);
                    return Ok(message);
                }
                Some(status) => self.account(status, &message)?,
            }
        }
    }

    /// Waits for a message; `None` when something else has to be seen to.
    async fn wait(&mut self) -> Result<Option<Option<async_nats::Message>>, PullError> {
        let is_owed = self.owed > 0;
        tokio::select! {
            received = self.messages.next() => Ok(Some(received)),
            changed = self.valve.changed() => match changed {
                Ok(()) => Ok(None),
                Err(_) => Err(PullError::Ended),
            },
            () = tokio::time::sleep_until(self.heard + SILENCE_MAX), if is_owed => Err(PullError::Silent),
        }
    }

    async fn ask(&mut self) -> Result<(), PullError> {
        let valve = *self.valve.borrow_and_update();
        if valve.connects != self.connects {
            self.connects = valve.connects;
            self.owed = 0;
        }
        if valve.closed && self.owed == 0 {
            return Err(PullError::Ended);
        }
        if !valve.open || self.owed > self.batch / 2 {
            return Ok(());
        }
        let wanted = BatchConfig {
            batch: self.batch - self.owed,
            expires: Some(EXPIRES),
            ..BatchConfig::default()
        };
        self.consumer
            .request_batch(wanted, self.inbox.clone())
            .await
            .map_err(PullError::Request)?;
        self.owed = self.batch;
        self.heard = Instant::now();
        Ok(())
    }

    /// A request has ended before it was filled.
    fn account(&mut self, status: StatusCode, message: &async_nats::Message) -> Result<(), PullError> {
        let text = message.description.as_deref().unwrap_or_default();
        let unfilled = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|count| count.as_str().parse::<usize>().ok());
        match (status, unfilled) {
            (
                StatusCode::TIMEOUT | StatusCode::REQUEST_TERMINATED | StatusCode::NOT_FOUND,
                Some(unfilled),
            ) => {
                self.owed = self.owed.saturating_sub(unfilled);
                Ok(())
            }
            // Not a fault of the durable: the next request goes to its new home.
            (StatusCode::TIMEOUT | StatusCode::REQUEST_TERMINATED, None)
                if !text.contains("Deleted")
                    && !text.contains("Exceeded")
                    && !text.contains("push based") =>
            {
                self.owed = 0;
                Ok(())
            }
            _ => Err(PullError::Refused(format!("{status} {text}"))),
        }
    }

    /// The message as JetStream's, with what is known of its delivery.
    pub(crate) fn delivered(message: async_nats::Message, context: jetstream::Context) -> jetstream::Message {
        jetstream::Message { message, context }
    }
}
