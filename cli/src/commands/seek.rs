//! Finding messages in streams without reading all of them.
use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;
use telltale_nats::{
    async_nats::{
        HeaderMap,
        jetstream::{
            self,
            consumer::{Consumer, DeliverPolicy, pull::OrderedConfig},
            message::StreamMessage,
            stream::Stream,
        },
    },
    header,
};
use telltale_schemas::{RawSeq, Timestamp};

/// Streams are in the order of RAW but for what was tried again or handled alone: so far around the place where a
/// message should be it is looked for.
const AROUND: u64 = 1_000;
/// The broker sends what it has at once; silence for so long is its end.
const SILENCE: Duration = Duration::from_secs(2);
/// Whatever the subject.
const EVERYTHING: &str = ">";

/// One document in a stream, alone or out of a pack.
#[derive(Debug, Clone)]
pub struct Found {
    /// The stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// The subject of the message.
    pub subject: String,
    /// When the broker stored it.
    pub stored: Timestamp,
    /// `Telltale-Hops`, this document's own part.
    pub hops: String,
    /// The envelope; null where the message is none.
    pub document: Value,
}

impl Found {
    /// An attribute of the envelope.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.document[attribute].as_str()
    }

    /// Where it came from.
    pub fn rawseq(&self) -> Option<RawSeq> {
        self.text("rawseq")?.parse().ok()
    }
}

/// A header of a stored message, whatever its case.
pub fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .iter()
        .find(|(known, _)| AsRef::<str>::as_ref(*known).eq_ignore_ascii_case(name))
        .and_then(|(_, values)| Some(values.first()?.as_str().to_owned()))
}

/// The documents of a message: those of a pack, else its own.
pub fn documents(stream: &str, message: &StreamMessage) -> Vec<Found> {
    let hops = header(&message.headers, header::HOPS).unwrap_or_default();
    let found = |document: Value, hops: &str| Found {
        stream: stream.to_owned(),
        sequence: message.sequence,
        subject: message.subject.to_string(),
        stored: Timestamp::from_offset(message.time),
        hops: hops.to_owned(),
        document,
    };
    match serde_json::from_slice(&message.payload) {
        Ok(Value::Array(pack)) => {
            let mut hops = hops.split('|');
            let parts = pack.into_iter();
            parts
                .map(|document| found(document, hops.next().unwrap_or_default()))
                .collect()
        }
        Ok(document) => vec![found(document, &hops)],
        Err(_) => vec![found(Value::Null, &hops)],
    }
}

/// The first message from that sequence on; some may have been deleted.
pub async fn next(stream: &Stream, sequence: u64) -> Option<StreamMessage> {
    stream
        .direct_get_next_for_subject(EVERYTHING, Some(sequence))
        .await
        .ok()
}

/// What a reader of a stream begins with, and which subjects it sees.
#[derive(Debug, Clone)]
pub struct From {
    /// Where it begins.
    pub policy: DeliverPolicy,
    /// Which subjects; all where there is none.
    pub subjects: Vec<String>,
    /// At most so many messages.
    pub limit: u64,
}

/// Reads on until `each` has enough (`false`), or nothing more is there.
pub async fn scan(
    stream: &Stream,
    from: From,
    mut each: impl FnMut(&StreamMessage) -> bool,
) -> anyhow::Result<()> {
    let config = OrderedConfig {
        deliver_policy: from.policy,
        filter_subjects: from.subjects,
        ..OrderedConfig::default()
    };
    let consumer = stream
        .create_consumer(config)
        .await
        .context("read from the stream")?;
    let name = consumer.cached_info().name.clone();
    let done = if consumer.cached_info().num_pending == 0 {
        Ok(())
    } else {
        read(consumer, from.limit, &mut each).await
    };
    // It would go by itself, but not before others have waited for it.
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!(%error, "a reader of a stream is left behind");
    }
    done
}

async fn read(
    consumer: Consumer<OrderedConfig>,
    limit: u64,
    each: &mut impl FnMut(&StreamMessage) -> bool,
) -> anyhow::Result<()> {
    let mut messages = consumer.messages().await.context("read from the stream")?;
    let mut left = limit;
    while left > 0 {
        let Ok(Some(message)) = tokio::time::timeout(SILENCE, messages.next()).await else {
            return Ok(());
        };
        let message: jetstream::Message = message.context("read from the stream")?;
        let Ok(info) = message.info() else { continue };
        let (sequence, time, pending) = (info.stream_sequence, info.published, info.pending);
        let stored = StreamMessage {
            subject: message.subject.clone(),
            sequence,
            headers: message.headers.clone().unwrap_or_default(),
            payload: message.payload.clone(),
            time,
        };
        left -= 1;
        if !each(&stored) || pending == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Documents of a stream that stem from those places in RAW, which are sorted: found by halving, then read around.
pub async fn by_rawseq(stream: &Stream, wanted: &[RawSeq]) -> anyhow::Result<Vec<Found>> {
    let state = &stream.cached_info().state;
    let name = &stream.cached_info().config.name;
    let mut found: Vec<Found> = Vec::new();
    let mut read_to = 0;
    for raw in wanted {
        if found.iter().any(|one| one.rawseq() == Some(*raw)) || state.messages == 0 {
            continue;
        }
        let place = place_of(stream, *raw).await;
        let first = place.saturating_sub(AROUND).max(state.first_sequence);
        if place + AROUND <= read_to {
            continue;
        }
        read_to = place + AROUND;
        let from = From {
            policy: DeliverPolicy::ByStartSequence {
                start_sequence: first.max(1),
            },
            subjects: Vec::new(),
            limit: 2 * AROUND,
        };
        scan(stream, from, |message| {
            let documents = documents(name, message).into_iter();
            found.extend(documents.filter(|one| one.rawseq().is_some_and(|raw| wanted.contains(&raw))));
            message.sequence < read_to
        })
        .await?;
    }
    Ok(found)
}

/// About where in the stream the documents from that place in RAW are.
async fn place_of(stream: &Stream, raw: RawSeq) -> u64 {
    let state = &stream.cached_info().state;
    let (mut low, mut high) = (state.first_sequence, state.last_sequence + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(message) = next(stream, middle).await else {
            high = middle;
            continue;
        };
        let newest = documents("", &message).iter().filter_map(Found::rawseq).max();
        if newest.is_some_and(|newest| newest < raw) {
            low = message.sequence + 1;
        } else {
            high = middle;
        }
    }
    low
}
