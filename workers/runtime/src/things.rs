//! The `things` bucket as a worker reads it: cached, bounded, watched.
//!
//! An entry is read when its thing is first seen, and kept up to date by a watch from then on. Absence is
//! remembered too. Whatever the order in which a get's answer and a watch's update arrive, the newer revision
//! stays; `holds` tells `telltale thing put` and `replay` from which revision on this copy judges.
mod cache;
mod holds;

pub use holds::{HoldsReply, HoldsRequest};

use crate::Failure;
use async_nats::{
    Client,
    jetstream::{self, kv},
};
use cache::{Cache, Known, Lookup, Ticket};
use futures::StreamExt;
use serde_json::Value;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telltale_nats::{Name, subject};
use telltale_schemas::{Timestamp, check, thing::Entry};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

/// The bucket's name.
pub const BUCKET: &str = "things";
/// The operation that it answers.
pub const HOLDS: &str = "holds";
/// Things remembered, known and unknown ones.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// The bucket has so long to answer, well under what a handler has: its silence is an outage, no time-out.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Between two looks whether the bucket is still the same one.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Before the watch is begun again after an error.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// An entry and its revision in the bucket.
pub type Registered = (u64, Arc<Entry>);

/// The entries of the `things` bucket. Clones share one cache.
#[derive(Debug, Clone)]
pub struct Things(Arc<Source>);

#[derive(Debug)]
enum Source {
    Fixed(HashMap<String, Registered>),
    Bucket(Box<Bucket>),
}

#[derive(Debug)]
struct Bucket {
    store: kv::Store,
    shared: Arc<Shared>,
    /// The watch and the answerer; they end with the last clone.
    _tasks: JoinSet<()>,
}

/// What the watch writes and lookups read.
#[derive(Debug)]
struct Shared {
    cache: Mutex<Cache>,
    /// The newest revision that is applied.
    held: watch::Sender<u64>,
}

/// Why the bucket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or we may not see it.
    #[error("bucket `{BUCKET}` cannot be opened; `telltale provision` makes it")]
    Bucket(#[source] jetstream::context::KeyValueError),
    /// It cannot be watched.
    #[error("bucket `{BUCKET}` cannot be watched")]
    Watch(#[source] kv::WatchError),
    /// `holds` cannot be answered.
    #[error("`{subject}` cannot be subscribed to")]
    Subscribe {
        /// The subject.
        subject: String,
        /// What the client says.
        #[source]
        source: async_nats::SubscribeError,
    },
}

/// Why a thing's entry could not be read.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("bucket `{BUCKET}` did not answer for `{thing}`")]
    Away {
        thing: String,
        #[source]
        source: kv::EntryError,
    },
    #[error("the bucket was made anew while `{0}` was looked up")]
    Replaced(String),
    #[error("the entry of `{thing}` in bucket `{BUCKET}`, revision {revision}, is of no use: {problem}")]
    Unusable {
        thing: String,
        revision: u64,
        problem: Arc<str>,
    },
}

impl Things {
    /// Opens the bucket, begins to watch it, and answers `api.<site>.<worker>.holds`.
    pub async fn open(client: &Client, site: &Name, worker: &str, instance: &str) -> Result<Self, OpenError> {
        let jetstream = jetstream::new(client.clone());
        let store = jetstream.get_key_value(BUCKET).await.map_err(OpenError::Bucket)?;
        let position = Position::of(&store);
        let updates = position.watch(&store).await.map_err(OpenError::Watch)?;
        let held = watch::Sender::new(position.revision);
        let subject = subject::api(site, worker, HOLDS);
        let questions = match client.subscribe(subject.clone()).await {
            Ok(questions) => questions,
            Err(source) => return Err(OpenError::Subscribe { subject, source }),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(holds::answer(
            client.clone(),
            questions,
            instance.to_owned(),
            held.subscribe(),
        ));
        let shared = Arc::new(Shared {
            cache: Mutex::new(Cache::new(ENTRIES_MAX)),
            held,
        });
        let follower = shared.clone();
        tasks.spawn(async move { position.follow(&jetstream, &follower, updates).await });
        Ok(Self(Arc::new(Source::Bucket(Box::new(Bucket {
            store,
            shared,
            _tasks: tasks,
        })))))
    }

    /// These and no others, without a broker; revisions count from 1.
    pub fn fixed(entries: Vec<Entry>) -> Self {
        let numbered = (1..)
            .zip(entries)
            .map(|(revision, entry)| (entry.thing.clone(), (revision, Arc::new(entry))));
        Self(Arc::new(Source::Fixed(numbered.collect())))
    }

    /// The entry of that thing with its revision; `None` if nobody registered it.
    ///
    /// The error is a verdict already: a bucket that does not answer is an outage, an entry that is no valid
    /// one is retried and then quarantines that thing's messages alone.
    pub async fn entry(&self, thing: &str) -> Result<Option<Registered>, Failure> {
        let bucket = match &*self.0 {
            Source::Fixed(entries) => return Ok(entries.get(thing).cloned()),
            Source::Bucket(bucket) => bucket,
        };
        let ticket = match bucket.shared.cache().begin(thing) {
            Lookup::Known(known) => return known.registered(thing),
            Lookup::Fetch(ticket) => Given {
                ticket: Some(ticket),
                shared: &bucket.shared,
            },
        };
        let got = match Name::new(thing) {
            Ok(name) => tokio::time::timeout(ANSWER_WITHIN, bucket.store.entry(name.token()))
                .await
                .unwrap_or_else(|_| Err(kv::EntryError::new(kv::EntryErrorKind::TimedOut))),
            // No such key can be in the bucket.
            Err(_) => Ok(None),
        };
        match got {
            Ok(found) => {
                let known = found.map_or(
                    Known {
                        revision: 0,
                        entry: Ok(None),
                    },
                    |found| Known::read(thing, &found),
                );
                let newest = ticket.back(Some(known));
                let replaced = || Failure::outage(EntryError::Replaced(thing.to_owned()));
                newest.ok_or_else(replaced)?.registered(thing)
            }
            Err(source) => match ticket.back(None) {
                Some(known) => known.registered(thing),
                None => Err(Failure::outage(EntryError::Away {
                    thing: thing.to_owned(),
                    source,
                })),
            },
        }
    }
}

impl Known {
    fn read(thing: &str, found: &kv::Entry) -> Self {
        let entry = match found.operation {
            kv::Operation::Put => parse(thing, &found.value).map(|entry| Some(Arc::new(entry))),
            kv::Operation::Delete | kv::Operation::Purge => Ok(None),
        };
        Self {
            revision: found.revision,
            entry: entry.map_err(Arc::from),
        }
    }

    fn registered(self, thing: &str) -> Result<Option<Registered>, Failure> {
        match self.entry {
            Ok(entry) => Ok(entry.map(|entry| (self.revision, entry))),
            Err(problem) => Err(EntryError::Unusable {
                thing: thing.to_owned(),
                revision: self.revision,
                problem,
            }
            .into()),
        }
    }
}

fn parse(thing: &str, value: &[u8]) -> Result<Entry, String> {
    let document: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    // A strange annotation is no reason to refuse a thing's readings.
    let faults = check::thing_entry(&document);
    if let Some(fault) = faults
        .iter()
        .find(|fault| !fault.pointer.starts_with("/annotation"))
    {
        return Err(format!("{} at `{}`", fault.message, fault.pointer));
    }
    let entry: Entry = serde_json::from_value(document).map_err(|error| error.to_string())?;
    if entry.thing == thing {
        Ok(entry)
    } else {
        Err(format!("it is about `{}`", entry.thing))
    }
}

/// A ticket that is given back even where the lookup is cut off by a time-out.
struct Given<'a> {
    ticket: Option<Ticket>,
    shared: &'a Shared,
}

impl Given<'_> {
    fn back(mut self, got: Option<Known>) -> Option<Known> {
        let ticket = self.ticket.take().expect("given back once");
        self.shared.cache().finish(&ticket, got)
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.cache().finish(&ticket, None);
        }
    }
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the watch has come, in which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// When the bucket was made: one that was made anew counts from 1 again.
    created: Timestamp,
    revision: u64,
}

impl Position {
    fn of(store: &kv::Store) -> Self {
        let info = store.stream.cached_info();
        Self {
            created: Timestamp::from_offset(info.created),
            revision: info.state.last_sequence,
        }
    }

    /// Whether what was read up to here says nothing of that bucket.
    fn is_void_in(self, bucket: Self) -> bool {
        self.created != bucket.created || self.revision > bucket.revision
    }

    async fn watch(self, store: &kv::Store) -> Result<kv::Watch, kv::WatchError> {
        store.watch_all_from_revision(self.revision + 1).await
    }

    /// Applies updates for ever; begins again where the watch or the bucket breaks off.
    async fn follow(mut self, jetstream: &jetstream::Context, shared: &Shared, mut updates: kv::Watch) {
        loop {
            let why = self.apply(jetstream, shared, &mut updates).await;
            tracing::warn!(bucket = BUCKET, "the watch is begun again: {why:#}");
            updates = loop {
                tokio::time::sleep(WATCH_AGAIN).await;
                match self.resume(jetstream, shared).await {
                    Ok(updates) => break updates,
                    Err(error) => tracing::warn!(bucket = BUCKET, "no watch yet: {error:#}"),
                }
            };
        }
    }

    /// Returns why it could not go on.
    async fn apply(
        &mut self,
        jetstream: &jetstream::Context,
        shared: &Shared,
        updates: &mut kv::Watch,
    ) -> anyhow::Error {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                update = updates.next() => match update {
                    Some(Ok(update)) => self.update(shared, &update),
                    Some(Err(error)) => return error.into(),
                    None => return anyhow::anyhow!("it ended"),
                },
                _ = look.tick() => {
                    // No answer is no news: then the watch itself will break off.
                    if let Ok(store) = jetstream.get_key_value(BUCKET).await
                        && self.is_void_in(Self::of(&store))
                    {
                        return anyhow::anyhow!("the bucket was made anew");
                    }
                }
            }
        }
    }

    fn update(&mut self, shared: &Shared, update: &kv::Entry) {
        // A key that is no token of ours belongs to no thing, so nobody can have asked for it.
        if let Ok(name) = Name::from_token(&update.key) {
            let known = Known::read(name.plain(), update);
            shared.cache().update(name.plain(), &known);
        }
        self.revision = update.revision;
        shared.held.send_replace(self.revision);
    }

    async fn resume(&mut self, jetstream: &jetstream::Context, shared: &Shared) -> anyhow::Result<kv::Watch> {
        let store = jetstream.get_key_value(BUCKET).await?;
        let now = Self::of(&store);
        if self.is_void_in(now) {
            *self = now;
            shared.cache().reset();
            shared.held.send_replace(self.revision);
        }
        Ok(self.watch(&store).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_gone_by_is_told_apart_from_none() {
        for (value, problem) in [
            (r#"{"thing": "t"}"#, None),
            (r#"{"thing": "t", "policy": {"late": "2d"}}"#, None),
            (r#"{"thing": "t", "annotation": {"foi": "no uri"}}"#, None),
            (r#"{"thing": "u"}"#, Some("it is about `u`")),
            (
                r#"{"thing": "t", "policy": {"late": "soon"}}"#,
                Some("/policy/late"),
            ),
            (r#"{"thing": "t", "polic": {}}"#, Some("`/polic`")),
            (
                r#"{"thing": "t", "policy": {"properties": {"p": {"unit": "furlong"}}}}"#,
                Some("furlong"),
            ),
            ("{", Some("EOF")),
        ] {
            let found = parse("t", value.as_bytes()).err();
            match problem {
                None => assert_eq!(found, None, "{value}"),
                Some(problem) => assert!(found.is_some_and(|found| found.contains(problem)), "{value}"),
            }
        }
    }

    #[test]
    fn a_broken_entry_is_retried_and_no_outage() {
        let known = Known {
            revision: 3,
            entry: Err("no JSON".into()),
        };
        let failure = known.registered("t").unwrap_err();
        assert!(!failure.is_outage() && failure.reason().is_none());
        assert!(format!("{failure:?}").contains("revision 3, is of no use: no JSON"));
    }

    #[test]
    fn a_bucket_made_anew_or_restored_voids_what_is_known() {
        let at = |created: i64, revision| Position {
            created: Timestamp::from_micros(created).unwrap(),
            revision,
        };
        assert!(!at(1, 5).is_void_in(at(1, 5)) && !at(1, 5).is_void_in(at(1, 9)));
        assert!(at(1, 5).is_void_in(at(2, 9)), "made anew");
        assert!(at(1, 5).is_void_in(at(1, 4)), "restored from an older copy");
    }

    #[tokio::test]
    async fn fixed_things_have_revisions_from_one() {
        let entry = |thing: &str| Entry {
            thing: thing.to_owned(),
            ..Entry::default()
        };
        let things = Things::fixed(vec![entry("a"), entry("b")]);
        let revision = async |thing| things.entry(thing).await.unwrap().map(|(revision, _)| revision);
        assert_eq!(
            (revision("a").await, revision("b").await, revision("c").await),
            (Some(1), Some(2), None)
        );
    }
}
