//! The `things` bucket as a worker reads it: the part that it goes by, cached, bounded, watched.
//!
//! What is in the bucket is read once at start, in the background, as far as there is room; a thing that speaks
//! before is asked for. A watch keeps all of it up to date from then on. Absence is remembered too. Whatever the
//! order in which a get's answer and a watch's update arrive, the newer revision stays; `holds` tells `telltale
//! thing put` and `replay` from which revision on this copy judges.
mod cache;
mod holds;
mod texts;
mod watch;

pub use holds::{HoldsReply, HoldsRequest};

use crate::Failure;
use async_nats::{
    Client,
    jetstream::{self, kv},
};
use cache::{Cache, Known, Lookup, Ticket};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telltale_nats::{Name, subject};
use telltale_schemas::thing::{Entry, Policy};
use texts::{Parsed, Part, Right, Texts};
use tokio::{sync::watch as channel, task::JoinSet};
use watch::Position;

/// The bucket's name.
pub const BUCKET: &str = "things";
/// The operation that it answers.
pub const HOLDS: &str = "holds";
/// How much is remembered, in bytes: 100 000 things of a few models, and several thousand of which none is like
/// another and each has a hundred properties.
const BYTES_MAX: usize = 64 << 20;
/// The bucket has so long to answer, well under what a handler has: its silence is an outage, no time-out.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// What is expected of things. Clones share one cache.
#[derive(Debug, Clone)]
pub struct Policies(Arc<Things<Policy>>);

/// What is known about things. Clones share one cache.
#[derive(Debug, Clone)]
pub struct Annotations(Arc<Things<Map<String, Value>>>);

/// What is known about one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Of its entry in the bucket.
    pub revision: u64,
    /// The annotation, but for its `properties`.
    pub annotation: Map<String, Value>,
    /// The annotation's `properties`, by name.
    pub properties: Arc<Map<String, Value>>,
}

/// One part of the entries, which says `T` of properties.
#[derive(Debug)]
struct Things<T> {
    source: Source,
    parsed: Mutex<Parsed<T>>,
}

#[derive(Debug)]
enum Source {
    Fixed(HashMap<String, Known>),
    Bucket(Box<Bucket>),
}

#[derive(Debug)]
struct Bucket {
    store: kv::Store,
    shared: Arc<Shared>,
    /// The watch, the reader and the answerer; they end with the last clone.
    _tasks: JoinSet<()>,
}

/// What the watch writes and lookups read.
#[derive(Debug)]
struct Shared {
    part: Part,
    right: Right,
    cache: Mutex<Cache>,
    /// The newest revision that is applied.
    held: channel::Sender<u64>,
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

impl Policies {
    /// Opens the bucket, begins to watch it, and answers `api.<site>.<worker>.holds`.
    pub async fn open(client: &Client, site: &Name, worker: &str, instance: &str) -> Result<Self, OpenError> {
        let source = Source::open(Part::Policy, client, site, worker, instance).await?;
        Ok(Self(Arc::new(Things::new(source))))
    }

    /// Those of these entries and no others, without a broker.
    pub fn fixed(entries: &[Entry]) -> Self {
        Self(Arc::new(Things::new(Source::fixed(Part::Policy, entries))))
    }

    /// What is expected of that thing; `None` if nobody registered it.
    ///
    /// The error is a verdict already: a bucket that does not answer is an outage, an entry that is no valid
    /// one is retried and then quarantines that thing's messages alone.
    pub async fn of(&self, thing: &str) -> Result<Option<Arc<Policy>>, Failure> {
        let found = self.0.source.look(thing).await?;
        Ok(found.map(|(_, texts)| self.0.shared(&texts)))
    }
}

impl Annotations {
    /// Opens the bucket, begins to watch it, and answers `api.<site>.<worker>.holds`.
    pub async fn open(client: &Client, site: &Name, worker: &str, instance: &str) -> Result<Self, OpenError> {
        let source = Source::open(Part::Annotation, client, site, worker, instance).await?;
        Ok(Self(Arc::new(Things::new(source))))
    }

    /// Those of these entries and no others, without a broker; revisions count from 1.
    pub fn fixed(entries: &[Entry]) -> Self {
        Self(Arc::new(Things::new(Source::fixed(Part::Annotation, entries))))
    }

    /// What is known about that thing; `None` if nobody registered it. The error is as with [`Policies::of`].
    pub async fn of(&self, thing: &str) -> Result<Option<Facts>, Failure> {
        let found = self.0.source.look(thing).await?;
        Ok(found.map(|(revision, texts)| Facts {
            revision,
            annotation: texts.own.as_deref().map_or_else(Map::new, |own| {
                serde_json::from_str(own).expect("it was checked when it was read")
            }),
            properties: self.0.shared(&texts),
        }))
    }
}

impl<T: Default + DeserializeOwned> Things<T> {
    fn new(source: Source) -> Self {
        Self {
            source,
            parsed: Mutex::default(),
        }
    }

    fn shared(&self, texts: &Texts) -> Arc<T> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.of(texts.shared.as_ref())
    }
}

impl Source {
    async fn open(
        part: Part,
        client: &Client,
        site: &Name,
        worker: &str,
        instance: &str,
    ) -> Result<Self, OpenError> {
        let jetstream = jetstream::new(client.clone());
        let store = jetstream.get_key_value(BUCKET).await.map_err(OpenError::Bucket)?;
        let position = Position::of(&store);
        let updates = position.watch(&store).await.map_err(OpenError::Watch)?;
        let held = channel::Sender::new(position.revision);
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
            part,
            right: Right::default(),
            cache: Mutex::new(Cache::new(BYTES_MAX)),
            held,
        });
        let (follower, reader, whole) = (shared.clone(), shared.clone(), store.clone());
        tasks.spawn(async move { position.follow(&jetstream, &follower, updates).await });
        tasks.spawn(async move { watch::warm(whole, &reader).await });
        Ok(Self::Bucket(Box::new(Bucket {
            store,
            shared,
            _tasks: tasks,
        })))
    }

    fn fixed(part: Part, entries: &[Entry]) -> Self {
        let right = Right::default();
        let known = |(revision, entry): (u64, &Entry)| {
            let value = serde_json::to_vec(entry).expect("an entry has a JSON text");
            let known = Known::parse(part, &entry.thing, revision, &value, &right);
            (entry.thing.clone(), known)
        };
        Self::Fixed((1..).zip(entries).map(known).collect())
    }

    /// That part of the thing's entry with its revision.
    async fn look(&self, thing: &str) -> Result<Option<(u64, Texts)>, Failure> {
        let bucket = match self {
            Self::Fixed(entries) => {
                return entries
                    .get(thing)
                    .cloned()
                    .map_or(Ok(None), |known| known.registered(thing));
            }
            Self::Bucket(bucket) => bucket,
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
                    |found| bucket.shared.read(thing, &found),
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
    fn parse(part: Part, thing: &str, revision: u64, value: &[u8], right: &Right) -> Self {
        let texts = Texts::read(part, thing, value, right);
        Self {
            revision,
            entry: texts.map(Some).map_err(Arc::from),
        }
    }

    fn registered(self, thing: &str) -> Result<Option<(u64, Texts)>, Failure> {
        match self.entry {
            Ok(texts) => Ok(texts.map(|texts| (self.revision, texts))),
            Err(problem) => Err(EntryError::Unusable {
                thing: thing.to_owned(),
                revision: self.revision,
                problem,
            }
            .into()),
        }
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
    fn read(&self, thing: &str, found: &kv::Entry) -> Known {
        match found.operation {
            kv::Operation::Put => Known::parse(self.part, thing, found.revision, &found.value, &self.right),
            kv::Operation::Delete | kv::Operation::Purge => Known {
                revision: found.revision,
                entry: Ok(None),
            },
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entries() -> Vec<Entry> {
        let entries = json!([
            {"thing": "a"},
            {
                "thing": "b",
                "policy": {"late": "2d"},
                "annotation": {"foi": "urn:x", "properties": {"p": {"ucum": "Cel"}}},
            },
            {"thing": "c", "policy": {"late": "soon"}},
        ]);
        serde_json::from_value(entries).unwrap()
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

    #[tokio::test]
    async fn fixed_policies_are_those_of_the_entries() {
        let policies = Policies::fixed(&entries());
        assert_eq!(policies.of("a").await.unwrap(), Some(Arc::default()));
        let late = policies.of("b").await.unwrap().unwrap().late.clone();
        assert_eq!(late.as_deref(), Some("2d"));
        assert!(policies.of("c").await.is_err(), "as if it came from the bucket");
        assert_eq!(policies.of("d").await.unwrap(), None);
    }

    #[tokio::test]
    async fn fixed_facts_have_revisions_from_one() {
        let annotations = Annotations::fixed(&entries());
        let facts = annotations.of("b").await.unwrap().unwrap();
        assert_eq!(facts.revision, 2);
        assert_eq!(json!(facts.annotation), json!({"foi": "urn:x"}));
        assert_eq!(json!(*facts.properties), json!({"p": {"ucum": "Cel"}}));
        assert_eq!(annotations.of("a").await.unwrap().unwrap().annotation, Map::new());
        assert_eq!(annotations.of("d").await.unwrap(), None);
    }
}
