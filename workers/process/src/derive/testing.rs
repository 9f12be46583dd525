//! Readings and what follows from them, in tests. Times are seconds after an arbitrary hour.
use crate::heard::{Follows, Heard, Said};
use std::sync::Arc;
use telltale_runtime::Delivery;
use telltale_schemas::{Envelope, Flag, Observation, Record, Timestamp};

/// The hour, in seconds since the epoch.
pub(super) const HOUR: i64 = 1_768_003_200;

pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_seconds(HOUR as f64 + seconds).unwrap()
}

pub(super) fn heard(thing: &str, time: f64, values: &[(&str, f64)]) -> Heard {
    let records = values.iter().map(|(name, value)| Record {
        v: Some(*value),
        ..Record::named(*name)
    });
    with(thing, time, records.collect())
}

pub(super) fn flagged(mut heard: Heard, flag: Flag) -> Heard {
    for record in &mut heard.records {
        record.q = Some(flag);
    }
    heard
}

pub(super) fn with(thing: &str, time: f64, records: Vec<Record>) -> Heard {
    let envelope: Envelope<Observation> = serde_json::from_value(serde_json::json!({
        "specversion": "1.0", "id": format!("{thing}:{time}"), "type": "telltale.observation.v1",
        "source": "/site/annotate", "subject": thing, "time": at(time).to_string(),
        "data": {"records": [], "annotation": {}}
    }))
    .unwrap();
    Heard {
        cause: Arc::new(Delivery::of(envelope).cause),
        stored: at(time),
        records,
        annotation: serde_json::Map::default(),
        rule: None,
    }
}

/// One computed record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) thing: String,
    pub(super) at: f64,
    pub(super) name: String,
    /// A boolean as 0 or 1.
    pub(super) value: f64,
    pub(super) unit: Option<String>,
    pub(super) q: Option<Flag>,
}

pub(super) fn told(out: &[Follows]) -> Vec<Told> {
    let mut told = Vec::new();
    for made in out {
        let Said::Derivation(derivation) = &made.draft.message else {
            panic!("{made:?}");
        };
        let time = made.draft.time.unwrap();
        for record in &derivation.records {
            let at = record.t.and_then(Timestamp::from_seconds).unwrap_or(time);
            told.push(Told {
                id: made.draft.id.clone().unwrap(),
                thing: made
                    .draft
                    .thing
                    .clone()
                    .unwrap_or_else(|| made.cause.thing.plain().to_owned()),
                at: at.as_micros() as f64 / 1e6 - HOUR as f64,
                name: record.n.clone(),
                value: record.v.or(record.vb.map(f64::from)).unwrap(),
                unit: record.u.clone(),
                q: record.q,
            });
        }
    }
    told
}
