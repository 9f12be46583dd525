//! A subscriber in place of one that notifies: it counts what it would have done.
use anyhow::Context as _;
use futures::StreamExt as _;
use serde::Deserialize;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use telltale_nats::{
    async_nats::{
        Client,
        jetstream::consumer::{AckPolicy, PullConsumer, pull},
    },
    client,
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

const DURABLE: &str = "chaos";
const STREAM: &str = "READINGS";
/// Before it subscribes anew.
const PAUSE: Duration = Duration::from_millis(500);

/// What it has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// For each reading, how many messages of different ids it would have told somebody about. It remembers what it
    /// has told, as who notifies must.
    pub(super) effects: HashMap<String, u32>,
    /// Messages that came again under an id that it knew.
    pub(super) again: u64,
}

/// The subscriber at work.
#[derive(Debug)]
pub(super) struct Subscriber {
    task: JoinHandle<Seen>,
    stop: CancellationToken,
}

impl Subscriber {
    /// Subscribes before anything is sent.
    pub(super) async fn begin(nats: &Client) -> anyhow::Result<Self> {
        let js = client::context(nats.clone());
        let stream = js.get_stream(STREAM).await?;
        let wanted = pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            ack_policy: AckPolicy::Explicit,
            filter_subject: "annotated.>".to_owned(),
            max_ack_pending: 10_000,
            ..pull::Config::default()
        };
        let consumer = stream
            .create_consumer(wanted)
            .await
            .context("make the durable of the counting subscriber")?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(count(consumer, stop.clone()));
        Ok(Self { task, stop })
    }

    /// Counts no more; at rest there is nothing left.
    pub(super) async fn end(self) -> anyhow::Result<Seen> {
        self.stop.cancel();
        self.task.await.context("the counting subscriber ended")
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    correlationid: Option<Cow<'a, str>>,
}

async fn count(consumer: PullConsumer, stop: CancellationToken) -> Seen {
    let hasher = RandomState::new();
    let mut known = HashSet::new();
    let mut seen = Seen::default();
    let mut note = |payload: &[u8]| {
        let Ok(head) = serde_json::from_slice::<Head<'_>>(payload) else {
            return;
        };
        if known.insert(hasher.hash_one(&head.id)) {
            let origin = head.correlationid.unwrap_or(head.id);
            *seen.effects.entry(origin.into_owned()).or_default() += 1;
        } else {
            seen.again += 1;
        }
    };
    loop {
        if let Ok(mut messages) = consumer.messages().await {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = stop.cancelled() => return seen,
                };
                // The broker may be down; what is not acknowledged comes again.
                let Some(Ok(message)) = message else { break };
                note(&message.payload);
                if message.ack().await.is_err() {
                    break;
                }
            }
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = stop.cancelled() => return seen,
        }
    }
}
