//! Between readings and operators: which records take part, and how computed ones leave.
use crate::heard::{Follows, Heard, Said};
use std::sync::Arc;
use telltale_runtime::{Cause, Draft, Made};
use telltale_schemas::{Derivation, Flag, Record, Timestamp, rule::Use};

/// The records of that name that take part, by time.
pub(super) fn taking_part<'a>(heard: &'a Heard, of: &str, take: Use) -> Vec<(Timestamp, &'a Record)> {
    let records = heard.records.iter();
    let mut records: Vec<_> = records
        .filter(|record| record.n == of && take.takes(record.q))
        .map(|record| (heard.time_of(record), record))
        .collect();
    records.sort_by_key(|(at, _)| *at);
    records
}

/// The numbers among them.
pub(super) fn numbers<'a>(heard: &'a Heard, of: &str, take: Use) -> Vec<(Timestamp, f64, &'a Record)> {
    let records = taking_part(heard, of, take).into_iter();
    records
        .filter_map(|(at, record)| Some((at, record.v?, record)))
        .collect()
}

/// Of two flags, where there are two, the one that says worse; passed is worse than not looked at.
pub(super) fn worst(one: Option<Flag>, other: Option<Flag>) -> Option<Flag> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.worse(other)),
        (one, other) => one.or(other),
    }
}

/// What follows from one reading, as one message: its time is that of the newest record.
pub(super) fn derivation(
    cause: &Arc<Cause>,
    rule: &str,
    id: String,
    records: Vec<(Timestamp, Record)>,
) -> Option<Follows> {
    let newest = records.iter().map(|(at, _)| *at).max()?;
    let records = records.into_iter().map(|(at, mut record)| {
        record.t = (at != newest).then(|| at.as_seconds());
        record
    });
    let said = Derivation {
        records: records.collect(),
        rule: Some(rule.to_owned()),
    };
    Some(Made {
        cause: Arc::clone(cause),
        draft: Draft::new(Said::from(said)).keyed(id).at(newest),
    })
}

/// The id of what follows from one reading by one rule.
pub(super) fn id_of(heard: &Heard, rule: &str) -> String {
    format!("{}.process.{rule}", heard.cause.id)
}
