//! A lane of things or outcomes, read by many at once: who waits for the next message, and who begins further back.
//!
//! One consumer tells that there is something new; each reader then gets its messages by their sequences, directly.
//! So a reader costs the broker nothing while nothing happens, and one that was away begins where it ended.
use crate::registry::Registry;
use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::{
        Client,
        jetstream::{
            self,
            consumer::{DeliverPolicy, pull::OrderedConfig},
            stream::{DirectGetErrorKind, Stream},
        },
    },
};
use telltale_runtime::Check;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

/// Before the consumer is made again after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The header in which a stream says where an answer stands.
const SEQUENCE: &str = "Nats-Sequence";

/// One lane of a site. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nats: Client,
    js: jetstream::Context,
    site: Name,
    lane: Lane,
    stream: OnceCell<Stream<()>>,
    /// The newest sequence that is known to be there.
    newest: watch::Sender<u64>,
}

/// One message of the stream.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) sequence: u64,
    pub(crate) thing: Name,
    /// The last token of its subject.
    pub(crate) change: String,
    pub(crate) payload: Bytes,
}

impl Feed {
    /// That lane of a registry's site; its subjects have a name at their end.
    pub(crate) fn of(lane: Lane, nats: Client, registry: &Registry) -> Self {
        Self(Arc::new(Inner {
            nats,
            js: registry.jetstream().clone(),
            site: registry.site().clone(),
            lane,
            stream: OnceCell::new(),
            newest: watch::Sender::new(0),
        }))
    }

    async fn stream(&self) -> anyhow::Result<&Stream<()>> {
        let open = || async { self.0.js.get_stream_no_info(self.0.lane.stream()).await };
        let opened = self.0.stream.get_or_try_init(open).await;
        opened.with_context(|| format!("open the stream {}", self.0.lane.stream()))
    }

    /// Its last sequence.
    pub(crate) async fn last(&self) -> anyhow::Result<u64> {
        let info = self.stream().await?.get_info().await;
        Ok(info
            .with_context(|| format!("ask how far the stream {} is", self.0.lane.stream()))?
            .state
            .last_sequence)
    }

    /// The first message of our site from that sequence on: waits for it.
    pub(crate) async fn next(&self, from: u64) -> anyhow::Result<Told> {
        let mut newest = self.0.newest.subscribe();
        let stream = self.stream().await?;
        let filter = self.0.lane.filter_at(&self.0.site);
        let mut from = from;
        loop {
            let known = *newest.borrow_and_update();
            match stream
                .direct_get_next_for_subject(filter.as_str(), Some(from))
                .await
            {
                Ok(message) => {
                    let sequence = message.sequence;
                    let subject = Subject::parse(&message.subject).ok();
                    let Some((thing, Some(change))) = subject.map(|subject| (subject.thing, subject.name))
                    else {
                        from = sequence + 1;
                        continue;
                    };
                    return Ok(Told {
                        sequence,
                        thing,
                        change: change.plain().to_owned(),
                        payload: message.payload,
                    });
                }
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("read the stream {}", self.0.lane.stream()));
                }
            }
            // What was there when we looked is not there, or not ours.
            from = from.max(known + 1);
            let came = newest.wait_for(|newest| *newest >= from).await;
            came.context("wait for what is new")?;
        }
    }

    /// The description that a thing had before that sequence, if the stream knows it.
    pub(super) async fn before(&self, thing: &Name, sequence: u64) -> anyhow::Result<Option<Value>> {
        let Some(up_to) = sequence.checked_sub(1).filter(|up_to| *up_to > 0) else {
            return Ok(None);
        };
        let inbox = self.0.nats.new_inbox();
        let mut answers = self.0.nats.subscribe(inbox.clone()).await?;
        let question = json!({ "multi_last": [Lane::Thing.filter_thing(thing)], "up_to_seq": up_to });
        let subject = format!("$JS.API.DIRECT.GET.{}", Lane::Thing.stream());
        self.0
            .nats
            .publish_with_reply(subject, inbox, question.to_string().into())
            .await?;
        let mut newest: Option<(u64, Value)> = None;
        loop {
            let answer = tokio::time::timeout(ANSWER_WITHIN, answers.next()).await;
            let answer = answer.context("the stream of registrations does not answer")?;
            let answer = answer.context("the connection was closed")?;
            match answer.status.map(|status| status.as_u16()) {
                None => {}
                // The end of the answers; or there are none.
                Some(204 | 404) => break,
                Some(status) => anyhow::bail!("the stream of registrations says {status}"),
            }
            let headers = answer.headers.as_ref();
            let at = headers.and_then(|headers| headers.get(SEQUENCE));
            let at: u64 = at.and_then(|at| at.as_str().parse().ok()).unwrap_or(0);
            let told: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            let description = &told["data"]["entry"]["td"];
            if !description.is_null() && newest.as_ref().is_none_or(|(newest, _)| *newest < at) {
                newest = Some((at, description.clone()));
            }
        }
        Ok(newest.map(|(_, description)| description))
    }

    /// Tells readers of what is new, until stopped.
    pub(crate) async fn follow(&self, check: Check, stop: &CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.follow_once(&check) => ended,
            };
            let why = ended
                .err()
                .map_or_else(|| "it ended".to_owned(), |error| format!("{error:#}"));
            tracing::warn!("the lane `{}` is followed again: {why}", self.0.lane);
            check.set_unready(why);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn follow_once(&self, check: &Check) -> anyhow::Result<()> {
        let last = self.last().await?;
        let config = OrderedConfig {
            // In the subject of the request: where the server takes a name from, decides whose consumer it may be.
            name: Some(format!("gateway_{:016x}", rand::random::<u64>())),
            filter_subject: self.0.lane.filter_at(&self.0.site),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: last + 1,
            },
            headers_only: true,
            ..OrderedConfig::default()
        };
        let consumer = self.stream().await?.create_consumer(config).await?;
        let mut messages = consumer.messages().await?;
        // Whoever waits may have missed something since the last time.
        self.0.newest.send_replace(last);
        check.set_ready();
        while let Some(message) = messages.try_next().await? {
            let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
            self.0.newest.send_replace(info.stream_sequence);
        }
        Ok(())
    }
}
