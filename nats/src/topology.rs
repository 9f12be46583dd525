//! The streams and buckets of a site, read from the files beside this crate.
//!
//! `streams/*.json` and `buckets/*.json` say what there is, `sites/<site>.json` what is different at one site.
//! Sizes and times are written as people write them (`2GiB`, `90d`). Each file says why it is as it is.
mod measure;

use crate::{Lane, Manifest, Name};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
pub use measure::{Size, Span};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};

const STREAMS: [(&str, &str); 8] = [
    ("streams/RAW.json", include_str!("../streams/RAW.json")),
    ("streams/VALID.json", include_str!("../streams/VALID.json")),
    ("streams/READINGS.json", include_str!("../streams/READINGS.json")),
    ("streams/EVENTS.json", include_str!("../streams/EVENTS.json")),
    ("streams/COMMANDS.json", include_str!("../streams/COMMANDS.json")),
    ("streams/THINGS.json", include_str!("../streams/THINGS.json")),
    (
        "streams/QUARANTINE.json",
        include_str!("../streams/QUARANTINE.json"),
    ),
    ("streams/REDO.json", include_str!("../streams/REDO.json")),
];
const BUCKETS: [(&str, &str); 8] = [
    ("buckets/things.json", include_str!("../buckets/things.json")),
    (
        "buckets/credentials.json",
        include_str!("../buckets/credentials.json"),
    ),
    ("buckets/people.json", include_str!("../buckets/people.json")),
    ("buckets/pending.json", include_str!("../buckets/pending.json")),
    ("buckets/sessions.json", include_str!("../buckets/sessions.json")),
    (
        "buckets/subscriptions.json",
        include_str!("../buckets/subscriptions.json"),
    ),
    ("buckets/rules.json", include_str!("../buckets/rules.json")),
    ("buckets/state.json", include_str!("../buckets/state.json")),
];
const SITES: [(&str, &str); 1] = [("sites/local.json", include_str!("../sites/local.json"))];
/// What a site without a file of its own is like.
const DEFAULT_SITE: &str = "local";

/// How a stream lets go of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// By age and size.
    Limits,
    /// When its one reader has acknowledged.
    WorkQueue,
}

/// What a full stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Drops the oldest.
    Old,
    /// Refuses the newest.
    New,
}

/// A stream as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Why it is as it is; the broker keeps it as the description.
    pub why: String,
    /// What it takes.
    pub subjects: Vec<String>,
    /// How it lets go.
    pub retention: Retention,
    /// What it does when full.
    pub discard: Discard,
    /// Most bytes.
    pub max_bytes: Size,
    /// Greatest age; none for ever.
    #[serde(default)]
    pub max_age: Option<Span>,
    /// Most messages of one subject.
    #[serde(default)]
    pub max_messages_per_subject: Option<u32>,
    /// Whether that cap refuses the newest.
    #[serde(default)]
    pub discard_new_per_subject: bool,
    /// How long a `Nats-Msg-Id` is remembered.
    pub duplicate_window: Span,
    /// Whether it takes atomic batches.
    pub allow_atomic: bool,
}

impl Stream {
    /// As the broker is told. Rollups, TTLs and schedules stay off: no header commands the broker.
    pub fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            description: Some(self.why.clone()),
            subjects: self.subjects.clone(),
            retention: match self.retention {
                Retention::Limits => RetentionPolicy::Limits,
                Retention::WorkQueue => RetentionPolicy::WorkQueue,
            },
            discard: match self.discard {
                Discard::Old => DiscardPolicy::Old,
                Discard::New => DiscardPolicy::New,
            },
            max_bytes: self.max_bytes.signed(),
            max_age: self.max_age.map(Into::into).unwrap_or_default(),
            max_messages: -1,
            max_messages_per_subject: self.max_messages_per_subject.map_or(-1, Into::into),
            discard_new_per_subject: self.discard_new_per_subject,
            duplicate_window: self.duplicate_window.into(),
            allow_atomic_publish: self.allow_atomic,
            allow_direct: true,
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        }
    }
}

/// A bucket as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Revisions kept of each key.
    pub history: u8,
    /// Most bytes.
    pub max_bytes: Size,
    /// Most bytes of one value.
    pub max_value_bytes: Size,
    /// Whether what is left of a deleted key may be told to vanish.
    #[serde(default)]
    pub forgets: bool,
}

impl Bucket {
    /// The stream under it.
    pub fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    /// As the broker is told, in the form that every client takes for a bucket.
    pub fn config(&self) -> Config {
        Config {
            name: self.stream(),
            description: Some(self.why.clone()),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages: -1,
            max_messages_per_subject: self.history.into(),
            max_bytes: self.max_bytes.signed(),
            max_message_size: i32::try_from(self.max_value_bytes.bytes()).unwrap_or(i32::MAX),
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_message_ttl: self.forgets,
            deny_delete: true,
            allow_direct: true,
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteFile {
    site: String,
    #[expect(dead_code, reason = "for who reads the file")]
    why: String,
    #[serde(default)]
    streams: HashMap<String, Limits>,
}

/// What a site may set otherwise.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Instead of the stream's.
    pub max_bytes: Option<Size>,
    /// Instead of the stream's.
    pub max_age: Option<Span>,
}

/// Everything that a site's broker holds.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The site.
    pub site: Name,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

/// Why a topology cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A site's file sets limits for a stream that is none.
    #[error("site `{site}` sets limits for `{stream}`, which is no stream")]
    NoStream {
        /// The site.
        site: String,
        /// What it names.
        stream: String,
    },
    /// A worker reads or writes what no stream keeps.
    #[error("`{worker}` needs the lane `{lane}`, which no stream keeps")]
    NoLane {
        /// Whose manifest.
        worker: String,
        /// The lane.
        lane: Lane,
    },
    /// A worker needs a bucket that is none.
    #[error("`{worker}` needs the bucket `{bucket}`, which does not exist")]
    NoBucket {
        /// Whose manifest.
        worker: String,
        /// The bucket.
        bucket: String,
    },
    /// A work queue hands each message to one reader only.
    #[error("`{worker}` cannot read `{stream}`: it is a work queue, and `{reader}` reads it")]
    Taken {
        /// Who comes second.
        worker: String,
        /// The stream.
        stream: String,
        /// Who comes first.
        reader: String,
    },
    /// Two workers of one name.
    #[error("two workers are named `{0}`")]
    Twice(String),
}

impl Topology {
    /// Of a site: by its file, or by that of `local` where it has none.
    pub fn of(site: &Name) -> Self {
        let files: Vec<SiteFile> = SITES.iter().map(|(path, text)| read(path, text)).collect();
        let own = files.iter().find(|file| file.site == site.plain());
        let file = own.or_else(|| files.iter().find(|file| file.site == DEFAULT_SITE));
        let mut topology = Self {
            site: site.clone(),
            streams: STREAMS.iter().map(|(path, text)| read(path, text)).collect(),
            buckets: BUCKETS.iter().map(|(path, text)| read(path, text)).collect(),
        };
        if let Some(file) = file {
            topology
                .limit(file.streams.iter().map(|(name, limits)| (name.as_str(), *limits)))
                .expect("the embedded files are checked by a test");
        }
        topology
    }

    /// Sets other limits for some of the streams.
    pub fn limit<'a>(
        &mut self,
        limits: impl IntoIterator<Item = (&'a str, Limits)>,
    ) -> Result<(), TopologyError> {
        for (name, limits) in limits {
            let found = self.streams.iter_mut().find(|stream| stream.name == name);
            let stream = found.ok_or_else(|| TopologyError::NoStream {
                site: self.site.plain().to_owned(),
                stream: name.to_owned(),
            })?;
            stream.max_bytes = limits.max_bytes.unwrap_or(stream.max_bytes);
            stream.max_age = limits.max_age.or(stream.max_age);
        }
        Ok(())
    }

    /// What all streams and buckets may take on disk together: a server needs as much room promised.
    pub fn max_bytes(&self) -> u64 {
        let streams = self.streams.iter().map(|stream| stream.max_bytes.bytes());
        let buckets = self.buckets.iter().map(|bucket| bucket.max_bytes.bytes());
        streams.chain(buckets).sum()
    }

    /// Whether the workers find all that they need, and do not take it from one another.
    pub fn check(&self, manifests: &[Manifest]) -> Result<(), TopologyError> {
        let mut names = BTreeSet::new();
        let mut readers: HashMap<(&str, Lane), &str> = HashMap::new();
        for manifest in manifests {
            let worker = manifest.name.as_str();
            if !names.insert(worker) {
                return Err(TopologyError::Twice(worker.to_owned()));
            }
            for lane in manifest.inputs.iter().chain(&manifest.outputs) {
                self.stream_of(*lane).ok_or_else(|| TopologyError::NoLane {
                    worker: worker.to_owned(),
                    lane: *lane,
                })?;
            }
            for lane in &manifest.inputs {
                let Some(stream) = self.stream_of(*lane) else {
                    continue;
                };
                if stream.retention == Retention::Limits {
                    continue;
                }
                let first = readers.entry((stream.name.as_str(), *lane)).or_insert(worker);
                if *first != worker {
                    return Err(TopologyError::Taken {
                        worker: worker.to_owned(),
                        stream: stream.name.clone(),
                        reader: (*first).to_owned(),
                    });
                }
            }
            for bucket in manifest.buckets.iter().chain(&manifest.keeps) {
                if !self.buckets.iter().any(|found| found.name == *bucket) {
                    return Err(TopologyError::NoBucket {
                        worker: worker.to_owned(),
                        bucket: bucket.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn stream_of(&self, lane: Lane) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == lane.stream())
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("the embedded {path} is wrong: {error}"))
}
