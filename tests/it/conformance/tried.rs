//! The workers that are tried: what a reading is to each of them, and what follows from it.
use serde_json::{Value, json};
use std::{path::PathBuf, sync::OnceLock};
use telltale_cli::stack::{self, Build};
use telltale_nats::{Lane, Name, Outgoing, header, subject};
use telltale_schemas::{Envelope, Observation, Reading, Record, Timestamp};

pub(crate) const SITE: &str = "local";
/// Readings in a pack that we make, so that each has siblings.
const PACK: usize = 3;

/// A reading: its thing, its key, and its records, which tell a trial worker what to do.
pub(crate) type Told<'a> = (&'a str, String, Vec<(&'a str, f64)>);

/// Who is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// Does what a reading tells it to, one by one.
    Trial,
    /// The same in batches, out of packs.
    TrialBatch,
    /// Counts and sums up, in order.
    TrialOrdered,
    Validate,
    Annotate,
    Store,
}

impl Tried {
    /// Those that can be told what to do: one of each kind.
    pub(crate) const TRIALS: [Self; 2] = [Self::Trial, Self::TrialBatch];
    /// They and all that are shipped.
    pub(crate) const ALL: [Self; 5] = [
        Self::Trial,
        Self::TrialBatch,
        Self::Validate,
        Self::Annotate,
        Self::Store,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::TrialBatch => "trial-batch",
            Self::TrialOrdered => "trial-ordered",
            Self::Validate => "validate",
            Self::Annotate => "annotate",
            Self::Store => "store",
        }
    }

    /// Its program, built.
    pub(crate) fn program(self) -> PathBuf {
        if Self::TRIALS.contains(&self) || self == Self::TrialOrdered {
            return telltale_tests::examples().join(self.name().replace('-', "_"));
        }
        let telltale = stack::telltale(Build::Own).expect("the programs are built");
        telltale.with_file_name(format!("telltale-{}", self.name()))
    }

    /// The lane that its readings come on.
    pub(crate) const fn reads(self) -> Lane {
        match self {
            Self::Validate => Lane::Raw,
            Self::TrialBatch | Self::Annotate => Lane::Valid,
            Self::Trial | Self::TrialOrdered | Self::Store => Lane::Annotated,
        }
    }

    /// The lane of what follows from a reading; none where that is a row.
    pub(crate) const fn writes(self) -> Option<Lane> {
        match self {
            Self::Trial | Self::TrialBatch | Self::TrialOrdered => Some(Lane::Event),
            Self::Validate => Some(Lane::Valid),
            Self::Annotate => Some(Lane::Annotated),
            Self::Store => None,
        }
    }

    /// The reason for which it refuses bytes that are no message.
    pub(crate) const fn refuses_for(self) -> &'static str {
        match self {
            Self::Validate => "json",
            _ => "undecodable",
        }
    }

    /// The line of its metrics that counts so many readings handled.
    pub(crate) fn counts(self, readings: usize) -> String {
        let stage = self.name();
        match self.writes() {
            Some(lane) => {
                format!("telltale_published_total{{kind=\"{lane}\",stage=\"{stage}\"}} {readings}")
            }
            None => format!("telltale_processed_total{{outcome=\"filtered\",stage=\"{stage}\"}} {readings}"),
        }
    }

    /// Readings as the stage before it would publish them.
    pub(crate) fn messages(self, readings: &[Told<'_>]) -> Vec<Outgoing> {
        match self.reads() {
            Lane::Raw => readings.iter().map(raw).collect(),
            Lane::Valid => readings.chunks(PACK).map(pack).collect(),
            _ => readings.iter().map(observation).collect(),
        }
    }

    /// Bytes as if they were a message about that thing.
    pub(crate) fn message(self, thing: &str, payload: &str) -> Outgoing {
        outgoing(self.reads(), thing, None, payload.to_owned())
    }
}

/// The reading that something follows from.
pub(crate) fn cause_of(envelope: &Value) -> &str {
    let id = envelope.get("causationid").or(envelope.get("id"));
    id.and_then(Value::as_str).expect("an id")
}

/// A message of no reading, that takes up room.
pub(crate) fn bystander(lane: Lane) -> Outgoing {
    outgoing(lane, "bystander", None, "[]".to_owned())
}

fn outgoing(lane: Lane, thing: &str, content_type: Option<&str>, payload: String) -> Outgoing {
    let content_type = content_type.map(|media| (header::CONTENT_TYPE, media.to_owned()));
    Outgoing {
        subject: telltale_tests::subject(lane, thing, "any"),
        headers: content_type.into_iter().collect(),
        payload: payload.into(),
        stream: lane.stream(),
    }
}

/// As a device sends one that knows its id.
fn raw((thing, key, records): &Told<'_>) -> Outgoing {
    let data: serde_json::Map<String, Value> = records
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    let event = json!({"specversion": "1.0", "id": key, "source": "/test", "type": "reading", "data": data});
    outgoing(Lane::Raw, thing, Some(header::CLOUDEVENT), event.to_string())
}

/// When each reading was measured: what is given twice is the same message.
fn measured() -> Timestamp {
    static AT: OnceLock<Timestamp> = OnceLock::new();
    *AT.get_or_init(Timestamp::now)
}

fn reading((thing, key, records): &Told<'_>) -> Envelope<Reading> {
    let records = records.iter().map(|(name, value)| Record {
        v: Some(*value),
        ..Record::named(*name)
    });
    let records = records.collect();
    let id = format!("{thing}:{key}");
    let mut envelope = Envelope::new(&id, "/local/test", *thing, measured(), Reading { records });
    envelope.rawseq = "7-1".parse().ok();
    envelope
}

fn observation(told: &Told<'_>) -> Outgoing {
    let envelope = reading(told).map(|reading| Observation {
        records: reading.records,
        annotation: serde_json::Map::new(),
    });
    let payload = serde_json::to_string(&envelope).expect("it can be written");
    outgoing(Lane::Annotated, told.0, Some(header::CLOUDEVENT), payload)
}

fn pack(readings: &[Told<'_>]) -> Outgoing {
    let items: Vec<_> = readings.iter().map(reading).collect();
    Outgoing {
        subject: subject::pack(&Name::new(SITE).expect("a name")),
        headers: vec![(header::CONTENT_TYPE, header::CLOUDEVENT_BATCH.into())],
        payload: serde_json::to_vec(&items).expect("they can be written").into(),
        stream: Lane::Valid.stream(),
    }
}
