//! A thing's messages in the streams, and its keys in the buckets.
use super::Part;
use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use telltale_nats::{
    Lane, Name,
    async_nats::jetstream::{
        self,
        consumer::{DeliverPolicy, pull},
        stream::Stream,
    },
    subject::PACK,
};

/// Packs of VALID, at whatever site.
fn packs() -> String {
    format!("{}.*.{PACK}", Lane::Valid)
}

async fn open(js: &jetstream::Context, name: &str) -> anyhow::Result<Stream> {
    js.get_stream(name)
        .await
        .with_context(|| format!("open the stream {name}; `telltale provision` makes it"))
}

/// How many messages of these subjects a stream holds.
async fn held(stream: &Stream, filter: &str) -> anyhow::Result<u64> {
    let mut subjects = stream
        .info_with_subjects(filter)
        .await
        .with_context(|| format!("look for `{filter}`"))?;
    let mut count = 0;
    while let Some((_, messages)) = subjects
        .try_next()
        .await
        .with_context(|| format!("look for `{filter}`"))?
    {
        count += messages as u64;
    }
    Ok(count)
}

/// The last sequence of a stream.
pub(super) async fn last(js: &jetstream::Context, name: &str) -> anyhow::Result<u64> {
    Ok(open(js, name).await?.cached_info().state.last_sequence)
}

/// What waits for validate.
pub(super) async fn in_raw(js: &jetstream::Context, thing: &Name) -> anyhow::Result<u64> {
    let stream = open(js, Lane::Raw.stream()).await?;
    held(&stream, &Lane::Raw.filter_thing(thing)).await
}

/// Where a lane is kept, and what of it is the thing's.
fn filters(thing: &Name) -> impl Iterator<Item = (&'static str, String)> {
    let thing = thing.clone();
    Lane::ALL
        .into_iter()
        .map(move |lane| (lane.stream(), lane.filter_thing(&thing)))
}

/// How many messages there are of it, by stream.
pub(super) async fn count(js: &jetstream::Context, thing: &Name) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, filter) in filters(thing) {
        let stream = open(js, name).await?;
        super::add(
            &mut parts,
            vec![Part {
                place: format!("stream {name}"),
                count: held(&stream, &filter).await?,
            }],
        );
    }
    parts.push(Part {
        place: PACKS.to_owned(),
        count: in_packs(js, thing).await?.len() as u64,
    });
    Ok(parts)
}

const PACKS: &str = "packs of stream VALID";

/// Takes its messages out of every stream. A pack that has a reading of it goes whole: what it has of other things has
/// been annotated before, and can only not be replayed from VALID any more.
pub(super) async fn erase(js: &jetstream::Context, thing: &Name) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, filter) in filters(thing) {
        let stream = open(js, name).await?;
        let purged = stream
            .purge()
            .filter(filter.as_str())
            .await
            .with_context(|| format!("purge `{filter}` from {name}"))?;
        super::add(
            &mut parts,
            vec![Part {
                place: format!("stream {name}"),
                count: purged.purged,
            }],
        );
    }
    let valid = open(js, Lane::Valid.stream()).await?;
    let found = in_packs(js, thing).await?;
    for sequence in &found {
        valid
            .delete_message(*sequence)
            .await
            .with_context(|| format!("delete message {sequence} of VALID"))?;
    }
    parts.push(Part {
        place: PACKS.to_owned(),
        count: found.len() as u64,
    });
    Ok(parts)
}

/// The sequences of the packs that have a reading of it. All packs are read: a subject does not tell.
async fn in_packs(js: &jetstream::Context, thing: &Name) -> anyhow::Result<Vec<u64>> {
    let valid = open(js, Lane::Valid.stream()).await?;
    let named = "read the packs of VALID";
    let config = pull::OrderedConfig {
        filter_subject: packs(),
        deliver_policy: DeliverPolicy::All,
        ..pull::OrderedConfig::default()
    };
    if held(&valid, &packs()).await? == 0 {
        return Ok(Vec::new());
    }
    let consumer = valid.create_consumer(config).await.context(named)?;
    let mut messages = consumer.messages().await.context(named)?;
    let mut found = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message.context(named)?;
        let info = message
            .info()
            .map_err(|error| anyhow::anyhow!("{named}: {error}"))?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        let readings: Vec<Value> = serde_json::from_slice(&message.payload).unwrap_or_default();
        if readings.iter().any(|reading| reading["subject"] == thing.plain()) {
            found.push(sequence);
        }
        if pending == 0 {
            break;
        }
    }
    Ok(found)
}

/// Its keys in a bucket that have a value: its name, or its name, a dot and more.
pub(in super::super) async fn keys(
    js: &jetstream::Context,
    bucket: &str,
    thing: &Name,
) -> anyhow::Result<Vec<String>> {
    let named = || format!("list the keys of the bucket `{bucket}`");
    let store = js.get_key_value(bucket).await.with_context(named)?;
    let mut keys = Vec::new();
    if store.get(thing.token()).await.with_context(named)?.is_some() {
        keys.push(thing.token().to_owned());
    }
    let longer = format!("$KV.{bucket}.{}.>", thing.token());
    let mut subjects = store
        .stream
        .info_with_subjects(&longer)
        .await
        .with_context(named)?;
    while let Some((subject, _)) = subjects.try_next().await.with_context(named)? {
        let Some(key) = subject.strip_prefix(&format!("$KV.{bucket}.")) else {
            continue;
        };
        if store.get(key).await.with_context(named)?.is_some() {
            keys.push(key.to_owned());
        }
    }
    Ok(keys)
}
