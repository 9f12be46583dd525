//! Publishing that counts only once the broker has confirmed it, with a bounded window.
mod batch;

use async_nats::{
    Client, HeaderMap, HeaderName, HeaderValue,
    connection::State,
    jetstream::{
        self, ErrorCode,
        context::{PublishError as ClientError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    future::{Future, IntoFuture as _},
    pin::{Pin, pin},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// What the server counts beside payload and headers, and what a batch adds to them.
const FRAME: usize = 256;
/// How often a lost connection is looked for while confirmations are awaited.
const OUTAGE_CHECK: Duration = Duration::from_millis(100);

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Built by [`crate::subject`].
    pub subject: String,
    /// Names from [`crate::header`].
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Bytes,
    /// The stream that must confirm it; a confirmation by another is an error.
    pub stream: &'static str,
}

/// Limits of a [`Publisher`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most messages that await their confirmation; more wait for their turn.
    pub window: usize,
    /// How long a confirmation may take.
    pub ack_timeout: Duration,
    /// From how many messages for one stream on an atomic batch is used; 0 for never. It pays where the server
    /// syncs always, for 16 or more.
    pub atomic_min: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: 2_000,
            ack_timeout: Duration::from_secs(5),
            atomic_min: 16,
        }
    }
}

/// The broker has the message, on disk where it syncs always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Where it is.
    pub stream: String,
    /// Its sequence there; for a duplicate, that of the first.
    pub sequence: u64,
    /// Whether it had been there before, by its `Nats-Msg-Id`.
    pub duplicate: bool,
}

/// Why a message was not confirmed. It may be there all the same after [`PublishError::Away`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream is full, by messages or bytes, or the disk is.
    #[error("the stream is full")]
    Full,
    /// Too many messages wait to be stored.
    #[error("the broker is busy")]
    Busy,
    /// No connection, no answer in time, or no such stream.
    #[error("the broker is away: {0}")]
    Away(String),
    /// Larger than the server or the stream takes.
    #[error("the message is too large")]
    TooLarge,
    /// The stream keeps no more messages of this subject.
    #[error("the stream keeps no more messages of this subject")]
    CapForSubject,
    /// A mistake of ours, or an answer that we do not know.
    #[error("{0}")]
    Other(String),
}

impl PublishError {
    fn of_api(error: &jetstream::Error) -> Self {
        let text = error.to_string();
        match error.error_code() {
            // One code for three causes; only the text tells them apart.
            ErrorCode::STREAM_STORE_FAILED if text.contains("per subject exceeded") => Self::CapForSubject,
            ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => Self::Full,
            ErrorCode::STREAM_TOO_MANY_REQUESTS => Self::Busy,
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Self::TooLarge,
            ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::JETSTREAM_NOT_ENABLED
            | ErrorCode::STREAM_NOT_FOUND => Self::Away(text),
            _ => Self::Other(text),
        }
    }

    fn of_client(error: &ClientError) -> Self {
        match error.kind() {
            PublishErrorKind::StreamNotFound => Self::Away("no stream takes this subject".into()),
            PublishErrorKind::TimedOut => Self::Away("no confirmation in time".into()),
            PublishErrorKind::BrokenPipe => Self::Away("the connection is closed".into()),
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge,
            _ => {
                let source = std::error::Error::source(error);
                match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                    Some(api) => Self::of_api(api),
                    None => Self::Other(error.to_string()),
                }
            }
        }
    }
}

/// One result, with the place of its message in the group.
type Settled = (usize, Result<Ack, PublishError>);
/// Messages for one stream, with their places in the group.
type Lot = Vec<(usize, Outgoing)>;

/// Sends groups of messages and awaits their confirmations. Shared by reference; cheap for one message and for
/// a thousand: no task is spawned.
#[derive(Debug)]
pub struct Publisher {
    client: Client,
    context: jetstream::Context,
    options: Options,
    window: Semaphore,
    batch_prefix: String,
    batch_count: AtomicU64,
    /// Most messages that are sent before their confirmations are awaited: fewer where these do not come in time.
    at_once: AtomicUsize,
    /// Streams that turned out to take no batches.
    unbatched: Mutex<Vec<&'static str>>,
}

impl Publisher {
    /// Over a connection. A window of 0 is one of 1.
    pub fn new(client: Client, options: Options) -> Self {
        let window = options
            .window
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            context: jetstream::ContextBuilder::new()
                // The library's time-out begins when a confirmation is asked for; ours, when the message is sent.
                .timeout(options.ack_timeout)
                .ack_timeout(options.ack_timeout)
                .max_ack_inflight(window)
                .backpressure_on_inflight(true)
                .build(client.clone()),
            client,
            options: Options { window, ..options },
            window: Semaphore::new(window),
            batch_prefix: format!("{:016x}", rand::random::<u64>()),
            batch_count: AtomicU64::new(0),
            at_once: AtomicUsize::new(window),
            unbatched: Mutex::new(Vec::new()),
        }
    }

    /// Sends all and awaits all: one result each, in the same order. A message whose result is an error may be
    /// published again under the same `Nats-Msg-Id`.
    pub async fn publish(&self, group: Vec<Outgoing>) -> Vec<Result<Ack, PublishError>> {
        let mut results: Vec<_> = group
            .iter()
            .map(|_| Err(PublishError::Away("not connected".into())))
            .collect();
        if self.client.connection_state() != State::Connected {
            return results;
        }
        let mut lots: Vec<(&'static str, Lot)> = Vec::new();
        for (place, outgoing) in group.into_iter().enumerate() {
            match self.check(&outgoing) {
                Err(error) => results[place] = Err(error),
                Ok(()) => match lots.iter_mut().find(|(stream, _)| *stream == outgoing.stream) {
                    Some((_, lot)) => lot.push((place, outgoing)),
                    None => lots.push((outgoing.stream, vec![(place, outgoing)])),
                },
            }
        }
        let lots = lots.into_iter().map(|(stream, lot)| self.lot(stream, lot));
        for (place, result) in futures::future::join_all(lots).await.into_iter().flatten() {
            results[place] = result;
        }
        results
    }

    /// Sends one.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Ack, PublishError> {
        self.publish(vec![outgoing])
            .await
            .pop()
            .expect("a result for each message")
    }

    /// A lot of which some is not confirmed in time is not sent on: what waits behind it would only be later still,
    /// and the next one is half as large, so that over a slow connection something is confirmed each time.
    async fn lot(&self, stream: &'static str, mut lot: Lot) -> Vec<Settled> {
        let mut settled = Vec::with_capacity(lot.len());
        while !lot.is_empty() {
            let mut rest = lot.split_off(lot.len().min(self.at_once.load(Ordering::Relaxed)));
            let is_batch = self.options.atomic_min > 0
                && lot.len() >= self.options.atomic_min
                && !self.is_unbatched(stream);
            let sent = if is_batch {
                let mut behind = lot.split_off(self.batch_length(&lot));
                behind.append(&mut rest);
                rest = behind;
                match self.batch(stream, &lot).await {
                    Ok(acks) => lot.into_iter().map(|(place, _)| place).zip(acks).collect(),
                    Err(batch::Refused) => self.singles(lot).await,
                }
            } else {
                self.singles(lot).await
            };
            let late = sent.iter().find_map(|(_, result)| match result {
                Err(error @ PublishError::Away(_)) => Some(error.clone()),
                _ => None,
            });
            self.adapt(sent.len(), late.is_some());
            settled.extend(sent);
            if let Some(error) = late {
                settled.extend(rest.into_iter().map(|(place, _)| (place, Err(error.clone()))));
                break;
            }
            lot = rest;
        }
        settled
    }

    /// Half as many as were too many, twice as many as were not.
    fn adapt(&self, sent: usize, late: bool) {
        let change = |at_once: usize| {
            Some(if late {
                // One alone is not late for being too many.
                if sent > 1 {
                    (sent / 2).min(at_once)
                } else {
                    at_once
                }
            } else {
                at_once.max(sent.saturating_mul(2)).min(self.options.window)
            })
        };
        self.at_once
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .ok();
    }

    async fn singles(&self, lot: Lot) -> Vec<Settled> {
        let mut outage = pin!(Outage::new(self.outage(self.connects())));
        let mut settled = Vec::with_capacity(lot.len());
        let mut pending: VecDeque<Pending<'_>> = VecDeque::new();
        for (place, outgoing) in lot {
            // The window may be full of our own: then the oldest makes room.
            let permit = loop {
                if let Ok(permit) = self.window.try_acquire() {
                    break permit;
                }
                match pending.pop_front() {
                    Some(oldest) => settled.push(oldest.settle(outage.as_mut()).await),
                    None => break self.permits(1).await,
                }
            };
            let stream = outgoing.stream;
            let message = PublishMessage::build()
                .headers(header_map(&outgoing))
                .payload(outgoing.payload);
            match self.context.send_publish(outgoing.subject, message).await {
                Ok(ack) => pending.push_back(Pending {
                    place,
                    stream,
                    deadline: Instant::now() + self.options.ack_timeout,
                    ack: ack.into_future(),
                    _permit: permit,
                }),
                Err(error) => settled.push((place, Err(PublishError::of_client(&error)))),
            }
        }
        for one in pending {
            settled.push(one.settle(outage.as_mut()).await);
        }
        settled
    }

    fn check(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        if outgoing.subject.is_empty() || outgoing.subject.bytes().any(|byte| byte <= b' ') {
            return Err(PublishError::Other(format!(
                "`{}` is no subject",
                outgoing.subject.escape_debug()
            )));
        }
        let mut size = FRAME + outgoing.payload.len();
        for (name, value) in &outgoing.headers {
            if value.contains(['\r', '\n']) {
                return Err(PublishError::Other(format!("header `{name}` holds a line break")));
            }
            size += name.len() + value.len() + 4;
        }
        if size > self.client.max_payload() {
            return Err(PublishError::TooLarge);
        }
        Ok(())
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Ends when the connection over which we sent is gone: what it has not confirmed, it never will.
    async fn outage(&self, connects: u64) {
        loop {
            tokio::time::sleep(OUTAGE_CHECK).await;
            if self.client.connection_state() != State::Connected || self.connects() != connects {
                return;
            }
        }
    }

    fn is_unbatched(&self, stream: &str) -> bool {
        let unbatched = self.unbatched.lock().unwrap_or_else(PoisonError::into_inner);
        unbatched.contains(&stream)
    }

    async fn permits(&self, count: usize) -> SemaphorePermit<'_> {
        let count = u32::try_from(count).expect("a batch is never larger than the window");
        self.window
            .acquire_many(count)
            .await
            .expect("the window is never closed")
    }
}

struct Pending<'a> {
    place: usize,
    stream: &'static str,
    deadline: Instant,
    ack: Pin<Box<dyn Future<Output = Result<jetstream::publish::PublishAck, ClientError>> + Send>>,
    _permit: SemaphorePermit<'a>,
}

impl Pending<'_> {
    async fn settle<F: Future<Output = ()>>(self, outage: Pin<&mut Outage<F>>) -> Settled {
        let result = match outage.or(self.ack, self.deadline).await {
            Err(lost) => Err(lost.into()),
            Ok(Err(error)) => Err(PublishError::of_client(&error)),
            Ok(Ok(ack)) if ack.stream != self.stream => Err(stored_elsewhere(&ack.stream, self.stream)),
            Ok(Ok(ack)) => Ok(Ack {
                stream: ack.stream,
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            }),
        };
        (self.place, result)
    }
}

fn stored_elsewhere(found: &str, wanted: &str) -> PublishError {
    PublishError::Other(format!("stored in `{found}`, not in `{wanted}`"))
}

fn header_map(outgoing: &Outgoing) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &outgoing.headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from(value.as_str()));
    }
    map
}

/// Why an answer will not come.
#[derive(Debug, Clone, Copy)]
enum Lost {
    Connection,
    Time,
}

impl From<Lost> for PublishError {
    fn from(lost: Lost) -> Self {
        Self::Away(match lost {
            Lost::Connection => "the connection was lost".into(),
            Lost::Time => "no confirmation in time".into(),
        })
    }
}

/// Watches the connection for one group. It may be asked again after it has ended.
struct Outage<F> {
    watch: Pin<Box<F>>,
    over: bool,
}

impl<F: Future<Output = ()>> Outage<F> {
    fn new(watch: F) -> Self {
        Self {
            watch: Box::pin(watch),
            over: false,
        }
    }

    /// The answer, if it comes before the deadline and while the connection holds. One that is there already
    /// counts in any case.
    async fn or<T>(
        mut self: Pin<&mut Self>,
        answer: impl Future<Output = T>,
        deadline: Instant,
    ) -> Result<T, Lost> {
        let mut answer = pin!(answer);
        if self.over {
            return futures::FutureExt::now_or_never(answer.as_mut()).ok_or(Lost::Connection);
        }
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = tokio::time::sleep_until(deadline) => Err(Lost::Time),
            () = self.watch.as_mut() => {
                self.over = true;
                Err(Lost::Connection)
            }
        }
    }
}
