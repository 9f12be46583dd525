//! Where in the stream the worker stands, and whether anything is missing before the next message.
use crate::Fatal;
use anyhow::Context as _;
use async_nats::jetstream::{self, Message, consumer::PullConsumer};
use serde::Deserialize;
use std::collections::BTreeSet;
use telltale_nats::Lane;
use telltale_schemas::Timestamp;

/// Something was lost on its way; the broker would give it again, but later and out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap;

/// A durable, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durable {
    /// When it was made, epoch microseconds.
    pub(crate) made: i64,
    /// Up to which message all is acknowledged.
    pub(crate) acknowledged: u64,
}

/// Where the worker stands.
#[derive(Debug)]
pub(crate) struct Place {
    context: jetstream::Context,
    stream: &'static str,
    name: &'static str,
    made: i64,
    /// The last message that was taken, by its number in the stream.
    last: u64,
    /// The last delivery, by its number; `None` before the first.
    delivery: Option<u64>,
    /// When the newest message was stored.
    clock: Option<Timestamp>,
}

/// What the broker says of a durable, with the time at which it said so.
#[derive(Debug, Deserialize)]
struct Told {
    ts: Option<Timestamp>,
    num_pending: u64,
    delivered: Sequences,
}

#[derive(Debug, Deserialize)]
struct Sequences {
    stream_seq: u64,
}

impl Place {
    pub(crate) fn new(
        context: jetstream::Context,
        name: &'static str,
        reads: &'static [Lane],
    ) -> anyhow::Result<Self> {
        let streams: BTreeSet<_> = reads.iter().map(|lane| lane.stream()).collect();
        let mut streams = streams.into_iter();
        match (streams.next(), streams.next()) {
            (Some(stream), None) => Ok(Self {
                context,
                stream,
                name,
                made: 0,
                last: 0,
                delivery: None,
                clock: None,
            }),
            _ => anyhow::bail!("`{name}` answers in order, and must read one stream"),
        }
    }

    /// Asks how far the durable is.
    pub(crate) async fn look(&mut self) -> anyhow::Result<Durable> {
        let found: Result<PullConsumer, _> = self
            .context
            .get_consumer_from_stream(self.name, self.stream)
            .await;
        let consumer = found.map_err(|error| {
            let (name, stream) = (self.name, self.stream);
            Fatal::Precondition(format!(
                "durable `{name}` on {stream} cannot be bound: {error}; run `telltale provision`"
            ))
        })?;
        let info = consumer.cached_info();
        self.made = Timestamp::from_offset(info.created).as_micros();
        Ok(Durable {
            made: self.made,
            acknowledged: info.ack_floor.stream_sequence,
        })
    }

    /// Sets the durable back to after that message, and forgets what was on its way.
    pub(crate) async fn rewind(&mut self, after: u64) -> anyhow::Result<()> {
        let stream = self
            .context
            .get_stream_no_info(self.stream)
            .await
            .context("name the stream")?;
        stream
            .reset_consumer(self.name, Some(after + 1))
            .await
            .with_context(|| {
                format!(
                    "set durable `{}` on {} back to {}",
                    self.name,
                    self.stream,
                    after + 1
                )
            })?;
        self.last = after;
        self.delivery = None;
        Ok(())
    }

    /// Whether the message is new; a gap if one before it has not come.
    pub(crate) fn next(&mut self, message: &Message) -> Result<bool, Gap> {
        let Ok(info) = message.info() else {
            return Ok(true);
        };
        if self
            .delivery
            .is_some_and(|before| info.consumer_sequence != before + 1)
        {
            return Err(Gap);
        }
        self.delivery = Some(info.consumer_sequence);
        if info.stream_sequence <= self.last {
            return Ok(false);
        }
        self.last = info.stream_sequence;
        Ok(true)
    }

    /// The clock, never backwards, as a message was stored.
    pub(crate) fn stored(&mut self, at: Timestamp) -> Timestamp {
        let at = self.clock.map_or(at, |clock| clock.max(at));
        self.clock = Some(at);
        at
    }

    pub(crate) fn clock(&self) -> Option<Timestamp> {
        self.clock
    }

    pub(crate) fn made(&self) -> i64 {
        self.made
    }

    /// Up to when the stream has nothing more than what was taken, by the broker's clock; `None` if it has.
    pub(crate) async fn silent_until(&mut self) -> Option<Timestamp> {
        let subject = format!("CONSUMER.INFO.{}.{}", self.stream, self.name);
        let told: Told = match self.context.request(subject, &serde_json::json!({})).await {
            Ok(jetstream::response::Response::Ok(told)) => told,
            Ok(jetstream::response::Response::Err { error }) => {
                tracing::debug!("how far the stream is: {error}");
                return None;
            }
            Err(error) => {
                tracing::debug!("how far the stream is: {error}");
                return None;
            }
        };
        let is_all = told.num_pending == 0 && told.delivered.stream_seq <= self.last;
        let until = told.ts.filter(|_| is_all)?;
        Some(self.stored(until))
    }
}
