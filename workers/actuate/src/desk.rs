//! The bucket `pending`. Every change compares the revision, so that of two who change an entry one wins.
use crate::{STAGE, metrics::Metrics};
use anyhow::Context as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use telltale_nats::{
    Name,
    async_nats::{
        Client,
        jetstream::kv::{Entry, Operation, Store, UpdateErrorKind},
    },
    client, pending,
    publish::{Options, PublishError, Publisher},
};
use telltale_runtime::{Failure, Judge as _, things};
use telltale_schemas::{
    Timestamp,
    pending::{Pending, Told},
};

/// The broker has so long to answer, well under what a handler has: its silence is an outage, no time-out.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Most bytes of a new entry: with its end, which repeats the command, it still has room in the bucket.
const ENTRY_MAX: usize = 96 * 1024;
/// How often a change is begun anew because others were faster.
const TRIES_MAX: usize = 8;

/// What was found under a key that was to be created.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: the entry is there now, at that revision.
    Created(u64),
    /// An entry, at that revision.
    There(Box<Pending>, u64),
    /// That there was one.
    Gone,
}

/// What came of an attempt to end a command.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It ends so.
    Done,
    /// It has ended, or there was none.
    Gone,
    /// It cannot be ended like that: this is how far it is.
    Not(Box<Pending>),
}

/// Whoever changes the bucket here.
#[derive(Debug)]
pub(crate) struct Desk {
    pending: Store,
    things: Store,
    site: Name,
    publisher: Publisher,
    metrics: Metrics,
}

/// An entry of `things` as far as commands go.
#[derive(Deserialize)]
struct Described {
    td: Option<Value>,
}

impl Desk {
    pub(crate) async fn open(client: &Client, site: &Name, metrics: Metrics) -> anyhow::Result<Self> {
        let context = client::context(client.clone());
        let open = async |bucket: &str| {
            let opened = context.get_key_value(bucket).await;
            opened.with_context(|| format!("open the bucket `{bucket}`; `telltale provision` makes it"))
        };
        Ok(Self {
            pending: open(pending::BUCKET).await?,
            things: open(things::BUCKET).await?,
            site: site.clone(),
            publisher: Publisher::new(client.clone(), Options::default()),
            metrics,
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.pending
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The thing's description, if it has one.
    pub(crate) async fn description(&self, thing: &Name) -> Result<Option<Value>, Failure> {
        let entry = read(&self.things, thing.token()).await.or_outage()?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            return Ok(None);
        };
        let described: Described = serde_json::from_slice(&entry.value)
            .with_context(|| format!("read the entry of `{thing}` in the bucket `things`"))?;
        Ok(described.td)
    }

    /// Puts the entry where nothing has been, or tells what has.
    pub(crate) async fn create(&self, key: &str, entry: &Pending) -> Result<Found, Failure> {
        let value = bytes_of(entry)?;
        if value.len() > ENTRY_MAX {
            return Err(Failure::reject("too_large"));
        }
        for _ in 0..TRIES_MAX {
            if let Some(revision) = self.set(key, value.clone(), 0).await.or_outage()? {
                return Ok(Found::Created(revision));
            }
            match read(&self.pending, key).await.or_outage()? {
                // It was removed for good in between.
                None => {}
                Some(there) if there.operation == Operation::Put => {
                    let pending = parse(&there)?;
                    return Ok(Found::There(Box::new(pending), there.revision));
                }
                Some(_) => return Ok(Found::Gone),
            }
        }
        Err(anyhow::anyhow!("the entry `{key}` of `pending` changes all the time").into())
    }

    /// Ends a command if `how` says so of what it is now, and tells of it.
    pub(crate) async fn end(
        &self,
        key: &str,
        how: impl Fn(&Pending) -> Option<Told>,
    ) -> anyhow::Result<Ended> {
        for _ in 0..TRIES_MAX {
            let there = read(&self.pending, key).await?;
            let Some(there) = there.filter(|there| there.operation == Operation::Put) else {
                return Ok(Ended::Gone);
            };
            let (pending, revision) = (parse(&there)?, there.revision);
            if pending.end.is_some() {
                return Ok(Ended::Not(Box::new(pending)));
            }
            let Some(told) = how(&pending) else {
                return Ok(Ended::Not(Box::new(pending)));
            };
            let ended = pending.to_ended(pending.ending(STAGE, told, Timestamp::now()));
            if let Some(revision) = self.set(key, bytes_of(&ended)?, revision).await? {
                if let Some(end) = &ended.end {
                    self.metrics.ended(end.data.state);
                }
                // Decided. Should telling fail, whoever looks after the bucket tells it.
                if let Err(failure) = self.finish(key, &ended, revision).await {
                    tracing::warn!(key, "an end is told later: {failure:?}");
                }
                return Ok(Ended::Done);
            }
        }
        anyhow::bail!("the entry `{key}` of `pending` changes all the time")
    }

    /// Tells the end that stands in an entry, and takes the entry away.
    pub(crate) async fn finish(&self, key: &str, entry: &Pending, revision: u64) -> Result<(), Failure> {
        let Some(end) = &entry.end else { return Ok(()) };
        let Some(outgoing) = pending::outcome(end, &self.site) else {
            // Its names were a subject's when it came.
            return Err(anyhow::anyhow!("the end of `{key}` has no subject").into());
        };
        match self.publisher.send(outgoing).await {
            Ok(_) => {}
            Err(error @ (PublishError::Away(_) | PublishError::Busy | PublishError::Full)) => {
                return Err(Failure::outage(error));
            }
            // It would be refused for ever.
            Err(error) => tracing::error!(key, "the end of a command cannot be told: {error}"),
        }
        let deleted = self.pending.delete_expect_revision(key, Some(revision));
        match tokio::time::timeout(ANSWER_WITHIN, deleted).await {
            Ok(Ok(())) => {}
            // Somebody else has taken it away, or will.
            Ok(Err(error)) => tracing::debug!(key, "an entry of `pending` is taken away later: {error:#}"),
            Err(_) => tracing::debug!(key, "an entry of `pending` is taken away later"),
        }
        Ok(())
    }

    /// Tells an end that whoever decided it did not tell.
    pub(crate) async fn finish_for_others(&self, key: &str) -> anyhow::Result<()> {
        let there = read(&self.pending, key).await?;
        let Some(there) = there.filter(|there| there.operation == Operation::Put) else {
            return Ok(());
        };
        let told = self.finish(key, &parse(&there)?, there.revision).await;
        told.map_err(|failure| anyhow::anyhow!("{failure:?}"))
    }

    /// Forgets that there was a command.
    pub(crate) async fn forget(&self, key: &str, revision: u64) -> anyhow::Result<()> {
        let gone = self
            .pending
            .purge_expect_revision_with_ttl(key, revision, Duration::from_secs(1));
        Ok(tokio::time::timeout(ANSWER_WITHIN, gone).await??)
    }

    /// The new revision, or none where it was not as expected. 0: nothing there.
    async fn set(&self, key: &str, value: Bytes, revision: u64) -> anyhow::Result<Option<u64>> {
        let set = self.pending.update(key, value, revision);
        match tokio::time::timeout(ANSWER_WITHIN, set).await {
            Ok(Ok(revision)) => Ok(Some(revision)),
            Ok(Err(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Ok(Err(error)) => Err(error).context("write to the bucket `pending`"),
            Err(_) => anyhow::bail!("the bucket `pending` does not answer"),
        }
    }
}

async fn read(store: &Store, key: &str) -> anyhow::Result<Option<Entry>> {
    let read = tokio::time::timeout(ANSWER_WITHIN, store.entry(key)).await;
    let read = read.with_context(|| format!("the bucket `{}` does not answer", store.name))?;
    read.with_context(|| format!("read `{key}` from the bucket `{}`", store.name))
}

fn bytes_of(entry: &Pending) -> anyhow::Result<Bytes> {
    Ok(serde_json::to_vec(entry)
        .context("write an entry of `pending`")?
        .into())
}

fn parse(entry: &Entry) -> anyhow::Result<Pending> {
    serde_json::from_slice(&entry.value)
        .with_context(|| format!("read the entry `{}` of the bucket `pending`", entry.key))
}
