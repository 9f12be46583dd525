//! What a worker says of itself: everything that it needs of the broker, and nothing more.
//!
//! `<binary> --manifest` prints it from the worker's types; in another language it is written by hand.
use crate::{
    Lane, Name,
    subject::{REDO_STREAM, again, redo},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::time::Duration;

/// Longest name of a worker.
const NAME_MAX: usize = 32;
/// Names of identities that are no workers.
pub const RESERVED: [&str; 4] = ["operator", "client", "bridge", "gateway"];

/// Buckets that no worker reads: the bridge alone judges devices, and the gateway people.
const NO_WORKERS_BUCKETS: [&str; 3] = ["credentials", "people", STATE_BUCKET];
/// Where a worker that answers in order keeps its state, under its own name.
pub const STATE_BUCKET: &str = "state";
/// In `events` or `commands`: whatever name there is.
pub const ANY: &str = "*";

/// A worker's needs. Read from wherever, it has been checked: names from it become parts of rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Manifest {
    /// Its name: durable, user and last part of `source`. Lower-case letters, digits and `-`.
    pub name: String,
    /// The lanes that it reads.
    #[serde(default)]
    pub inputs: Vec<Lane>,
    /// The lanes that it writes.
    #[serde(default)]
    pub outputs: Vec<Lane>,
    /// The events that it may raise; `*` for any.
    #[serde(default)]
    pub events: Vec<String>,
    /// The commands that it may give; `*` for any.
    #[serde(default)]
    pub commands: Vec<String>,
    /// The buckets that it reads.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// The buckets that it writes and reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<String>,
    /// Whether its answers depend on what came before: one copy at a time reads, in order, and keeps its state.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ordered: bool,
    /// The SQL views that it brings.
    #[serde(default)]
    pub sql: Vec<String>,
    /// How its messages are delivered.
    #[serde(default)]
    pub consumer: Consumer,
    /// The operations that it answers under `api.<site>.<name>`.
    #[serde(default)]
    pub api: Vec<String>,
    /// The streams of which it may ask how far they and their durables are; never what is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observes: Vec<String>,
}

/// How messages are delivered to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    /// Seconds after which the broker delivers again what was not acknowledged.
    pub ack_wait_s: u64,
    /// Most messages that all copies together may hold unacknowledged.
    pub max_ack_pending: u32,
    /// Attempts after which the runtime quarantines.
    pub attempts_max: u32,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            ack_wait_s: 30,
            max_ack_pending: 2_000,
            attempts_max: 5,
        }
    }
}

/// Why a text is no manifest, or a manifest asks for what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("not a worker's manifest")]
    Malformed(#[source] serde_json::Error),
    /// The name cannot be that of a user and of a durable.
    #[error("`{0}` is no name for a worker: 1 to 32 lower-case letters, digits and `-`, a letter first")]
    Name(String),
    /// The name is that of an identity of ours.
    #[error("`{0}` is the name of one of our own identities")]
    Reserved(String),
    /// A name in `events`, `commands` or `api` cannot stand in a subject.
    #[error("in the manifest of `{worker}`")]
    Token {
        /// Whose manifest.
        worker: String,
        /// What is wrong with the name.
        #[source]
        source: crate::subject::NameError,
    },
    /// Names without the lane that they would be written to.
    #[error("`{worker}` names {what}, but `{lane}` is not among its outputs")]
    Unwritten {
        /// Whose manifest.
        worker: String,
        /// `events` or `commands`.
        what: &'static str,
        /// The lane.
        lane: Lane,
    },
    /// A bucket that no worker may use, or a text that is no bucket's name.
    #[error("`{worker}` cannot use the bucket `{bucket}`")]
    Bucket {
        /// Whose manifest.
        worker: String,
        /// The bucket.
        bucket: String,
    },
    /// A text that is no stream of ours.
    #[error("`{worker}` cannot observe the stream `{stream}`")]
    Observed {
        /// Whose manifest.
        worker: String,
        /// The stream.
        stream: String,
    },
    /// Order over more streams than one is nothing that a broker has.
    #[error("`{0}` is to answer in order, but reads {1} streams; it can read one")]
    Ordered(String, usize),
    /// A limit that is nothing.
    #[error("`{worker}` sets consumer.{field} to 0")]
    Zero {
        /// Whose manifest.
        worker: String,
        /// Which.
        field: &'static str,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The name of the durable for what a worker tries again. No worker's name has a `_`.
pub fn again_durable(worker: &str) -> String {
    format!("{worker}_again")
}

/// A durable consumer that a worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// The stream that it reads.
    pub stream: &'static str,
    /// Its name, the worker's.
    pub name: String,
    /// What it reads of the stream.
    pub filters: Vec<String>,
    /// After how long the broker delivers again.
    pub ack_wait: Duration,
    /// Most that is unacknowledged.
    pub max_ack_pending: u32,
}

impl Manifest {
    /// Reads and checks one.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let manifest = Self::deserialize(&mut reader).map_err(ManifestError::Malformed)?;
        reader.end().map_err(ManifestError::Malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it asks only for what can be given.
    pub fn check(&self) -> Result<(), ManifestError> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.len() > NAME_MAX
            || !self.name.starts_with(|first: char| first.is_ascii_lowercase())
            || !self.name.bytes().all(legal)
        {
            return Err(ManifestError::Name(self.name.chars().take(80).collect()));
        }
        if RESERVED.contains(&self.name.as_str()) {
            return Err(ManifestError::Reserved(self.name.clone()));
        }
        let named = self
            .events
            .iter()
            .chain(&self.commands)
            .filter(|name| *name != ANY);
        for name in named.chain(&self.api) {
            Name::new(name).map_err(|source| ManifestError::Token {
                worker: self.name.clone(),
                source,
            })?;
        }
        for (what, names, lane) in [
            ("events", &self.events, Lane::Event),
            ("commands", &self.commands, Lane::Command),
        ] {
            if !names.is_empty() && !self.outputs.contains(&lane) {
                return Err(ManifestError::Unwritten {
                    worker: self.name.clone(),
                    what,
                    lane,
                });
            }
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let wrong = |bucket: &&String| {
            bucket.is_empty() || !bucket.bytes().all(plain) || NO_WORKERS_BUCKETS.contains(&bucket.as_str())
        };
        if let Some(bucket) = self.buckets.iter().chain(&self.keeps).find(wrong) {
            return Err(ManifestError::Bucket {
                worker: self.name.clone(),
                bucket: bucket.chars().take(80).collect(),
            });
        }
        let upper =
            |stream: &&String| stream.is_empty() || !stream.bytes().all(|byte| byte.is_ascii_uppercase());
        if let Some(stream) = self.observes.iter().find(upper) {
            return Err(ManifestError::Observed {
                worker: self.name.clone(),
                stream: stream.chars().take(80).collect(),
            });
        }
        let streams: std::collections::BTreeSet<_> = self.inputs.iter().map(|lane| lane.stream()).collect();
        if self.ordered && streams.len() != 1 {
            return Err(ManifestError::Ordered(self.name.clone(), streams.len()));
        }
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), ManifestError> {
        let limits = [
            ("ack_wait_s", self.consumer.ack_wait_s),
            ("max_ack_pending", self.consumer.max_ack_pending.into()),
            ("attempts_max", self.consumer.attempts_max.into()),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            Some((field, _)) => Err(ManifestError::Zero {
                worker: self.name.clone(),
                field,
            }),
            None => Ok(()),
        }
    }

    /// The durables that it needs: one on each stream that it reads, and two on REDO.
    pub fn durables(&self) -> Vec<Durable> {
        let ack_wait = Duration::from_secs(self.consumer.ack_wait_s);
        let mut durables: Vec<Durable> = Vec::new();
        for lane in &self.inputs {
            let filter = lane.filter();
            match durables
                .iter_mut()
                .find(|durable| durable.stream == lane.stream())
            {
                Some(durable) if durable.filters.contains(&filter) => {}
                Some(durable) => durable.filters.push(filter),
                None => durables.push(Durable {
                    stream: lane.stream(),
                    name: self.name.clone(),
                    filters: vec![filter],
                    ack_wait,
                    max_ack_pending: self.consumer.max_ack_pending,
                }),
            }
        }
        if let Ok(name) = Name::new(&self.name) {
            durables.push(Durable {
                stream: REDO_STREAM,
                name: self.name.clone(),
                filters: vec![redo(&name)],
                ack_wait,
                // What may have killed the process is handled strictly by itself.
                max_ack_pending: 1,
            });
            durables.push(Durable {
                stream: REDO_STREAM,
                name: again_durable(&self.name),
                filters: vec![again(&name)],
                ack_wait,
                // What waits for its next attempt takes no place of what was never tried.
                max_ack_pending: self.consumer.max_ack_pending,
            });
        }
        durables
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let manifest = Self::deserialize(deserializer)?;
        manifest
            .check()
            .map_err(|error| match std::error::Error::source(&error) {
                Some(source) => D::Error::custom(format!("{error}: {source}")),
                None => D::Error::custom(error),
            })?;
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER_LIMIT: &str = r#"{"name":"over-limit","inputs":["annotated"],"outputs":["event"],
        "events":["over_limit"],"commands":[],"buckets":[],"sql":[],
        "consumer":{"ack_wait_s":30,"max_ack_pending":2000,"attempts_max":5}}"#;

    #[test]
    fn the_manifest_of_the_design_is_read() {
        let manifest = Manifest::parse(OVER_LIMIT.as_bytes()).unwrap();
        assert_eq!(manifest.inputs, [Lane::Annotated]);
        assert_eq!(manifest.consumer, Consumer::default());
        let written = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Manifest::parse(&written).unwrap(), manifest);
    }

    #[test]
    fn a_worker_has_one_durable_on_each_stream_and_two_on_redo() {
        let manifest = Manifest::parse(
            br#"{"name":"store","inputs":["annotated","derived","event","outcome","annotated"]}"#,
        )
        .unwrap();
        let found: Vec<_> = manifest
            .durables()
            .into_iter()
            .map(|durable| (durable.stream, durable.filters, durable.max_ack_pending))
            .collect();
        let filters = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("READINGS", filters(&["annotated.>", "derived.>"]), 2_000),
                ("EVENTS", filters(&["event.>", "outcome.>"]), 2_000),
                ("REDO", filters(&["redo.store"]), 1),
                ("REDO", filters(&["redo.store.again"]), 2_000),
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            r"{}",
            r#"{"name":""}"#,
            r#"{"name":"Store"}"#,
            r#"{"name":"a.b"}"#,
            r#"{"name":"-a"}"#,
            r#"{"name":"bridge"}"#,
            r#"{"name":"gateway"}"#,
            r#"{"name":"operator"}"#,
            r#"{"name":"x","inputs":["readings"]}"#,
            r#"{"name":"x","surprise":1}"#,
            r#"{"name":"x","events":["e"]}"#,
            r#"{"name":"x","outputs":["event"],"events":[""]}"#,
            r#"{"name":"x","outputs":["event"],"events":["_pack"]}"#,
            r#"{"name":"x","consumer":{"ack_wait_s":0}}"#,
            r#"{"name":"x","buckets":["credentials"]}"#,
            r#"{"name":"x","buckets":["people"]}"#,
            r#"{"name":"x","buckets":["*"]}"#,
            r#"{"name":"x","buckets":["things.>"]}"#,
            r#"{"name":"x","observes":["*"]}"#,
            r#"{"name":"x","buckets":["state"]}"#,
            r#"{"name":"x","keeps":["credentials"]}"#,
            r#"{"name":"x","ordered":true}"#,
            r#"{"name":"x","ordered":true,"inputs":["annotated","event"]}"#,
            r#"{"name":"x","observes":["KV_credentials"]}"#,
            r#"{"name":"x","api":["*"]} x"#,
            "{\"name\":\"x\\n}\"}",
        ] {
            assert!(Manifest::parse(wrong.as_bytes()).is_err(), "{wrong}");
            assert!(serde_json::from_str::<Manifest>(wrong).is_err(), "{wrong}");
        }
    }
}
