//! What can be told of a message before the database sees it.
use crate::Storable;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use telltale_runtime::{Delivery, Failure};
use telltale_schemas::{Record, Timestamp, kinds::Fault};

/// Days since 1970-01-01 that a partition may have: the years 1990 to 2099.
const DAYS: std::ops::Range<i64> = 7_305..47_482;
const DAY_MICROS: i64 = 86_400_000_000;
/// As many records as a reading may have; the position is a smallint.
const RECORDS_MAX: usize = 1_000;

/// A message that goes into a transaction.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Its place among the inputs.
    pub(crate) index: usize,
    pub(crate) delivery: &'a Delivery<Storable>,
    /// Rows in `store.readings`.
    pub(crate) rows: usize,
    /// Days of its rows, since 1970-01-01, without repetition.
    pub(crate) days: Vec<i32>,
    /// About what it takes on its way to the database.
    pub(crate) bytes: usize,
}

impl Message<'_> {
    /// Records and kind, if it is a reading of some sort.
    pub(crate) fn records(&self) -> Option<(&[Record], &'static str)> {
        records(self.delivery)
    }
}

fn records(delivery: &Delivery<Storable>) -> Option<(&[Record], &'static str)> {
    match &delivery.data {
        Storable::Observation(it) => Some((&it.records, "observation")),
        Storable::Derivation(it) => Some((&it.records, "derivation")),
        _ => None,
    }
}

/// When that record was measured; admitted ones have a time that can be told.
pub(crate) fn time_of(record: &Record, of_message: Timestamp) -> Option<Timestamp> {
    record.t.map_or(Some(of_message), Timestamp::from_seconds)
}

/// The bytes of a record's `vd`.
pub(crate) fn bytes_of(record: &Record) -> Option<Vec<u8>> {
    record.vd.as_ref().and_then(|vd| URL_SAFE_NO_PAD.decode(vd).ok())
}

/// Refuses what no row could hold.
pub(crate) fn admit(index: usize, delivery: &Delivery<Storable>) -> Result<Message<'_>, Failure> {
    let mut message = Message {
        index,
        delivery,
        rows: 0,
        days: Vec::new(),
        bytes: weight(delivery),
    };
    let Some((records, _)) = records(delivery) else {
        return Ok(message);
    };
    if records.is_empty() || records.len() > RECORDS_MAX {
        let fault = Fault::at(
            "/data/records",
            format!("{} records, not 1 to {RECORDS_MAX}", records.len()),
        );
        return Err(Failure::reject_for("records", vec![fault]));
    }
    message.rows = records.len();
    for (n, record) in records.iter().enumerate() {
        let day = time_of(record, delivery.cause.time)
            .map(|at| at.as_micros().div_euclid(DAY_MICROS))
            .filter(|day| DAYS.contains(day))
            .and_then(|day| i32::try_from(day).ok());
        let Some(day) = day else {
            let (place, found) = match record.t {
                Some(t) => (format!("/data/records/{n}/t"), t.to_string()),
                None => ("/time".into(), delivery.cause.time.to_string()),
            };
            let fault = Fault::at(place, format!("{found} is not in the years 1990 to 2099"));
            return Err(Failure::reject_for("time", vec![fault]));
        };
        if !message.days.contains(&day) {
            message.days.push(day);
        }
        if record.vd.is_some() && bytes_of(record).is_none() {
            let fault = Fault::at(format!("/data/records/{n}/vd"), "not base64url without padding");
            return Err(Failure::reject_for("shape", vec![fault]));
        }
    }
    Ok(message)
}

fn weight(delivery: &Delivery<Storable>) -> usize {
    const ROW: usize = 256;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match &delivery.data {
        Storable::Quarantine(it) => ROW + it.payload.len(),
        // A Thing Description may have 256.
        Storable::Registration(it) if it.entry.as_ref().is_some_and(|entry| entry.td.is_some()) => 64 << 10,
        // A few KiB at most by their own limits, but a detail may have 16.
        Storable::Event(_) | Storable::Outcome(_) | Storable::Registration(_) => 16 << 10,
        Storable::Observation(_) | Storable::Derivation(_) => records(delivery).map_or(0, |(records, _)| {
            let of = |r: &Record| ROW + text(&r.vs) + text(&r.vd) + text(&r.sentinel);
            records.iter().map(of).sum()
        }),
    }
}

/// So much at most goes into one transaction. A partition and its indexes are locked by each transaction that
/// writes to it, and PostgreSQL's default lock table has room for 6 400 locks in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) rows: usize,
    pub(crate) days: usize,
    pub(crate) bytes: usize,
}

pub(crate) const BOUNDS: Bounds = Bounds {
    rows: 20_000,
    days: 200,
    bytes: 16 << 20,
};

/// In order, each within the bounds or of one message.
pub(crate) fn transactions(messages: Vec<Message<'_>>, bounds: Bounds) -> Vec<Vec<Message<'_>>> {
    let mut groups = Vec::new();
    let mut group: Vec<Message<'_>> = Vec::new();
    let mut days = std::collections::HashSet::new();
    let (mut rows, mut bytes) = (0, 0);
    for message in messages {
        let new_days = message.days.iter().filter(|day| !days.contains(*day)).count();
        let over = rows + message.rows > bounds.rows
            || bytes + message.bytes > bounds.bytes
            || days.len() + new_days > bounds.days;
        if over && !group.is_empty() {
            groups.push(std::mem::take(&mut group));
            days.clear();
            (rows, bytes) = (0, 0);
        }
        days.extend(message.days.iter().copied());
        rows += message.rows;
        bytes += message.bytes;
        group.push(message);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_schemas::{Envelope, Observation};

    fn observation(time: &str, records: Vec<Record>) -> Delivery<Storable> {
        let data = Observation {
            records,
            ..Observation::default()
        };
        let Delivery { data, cause } = Delivery::of(Envelope::new(
            "t:1",
            "/site/annotate",
            "t",
            Timestamp::parse(time).unwrap(),
            data,
        ));
        Delivery {
            data: Storable::Observation(data),
            cause,
        }
    }

    fn number(t: Option<f64>) -> Record {
        Record {
            v: Some(1.0),
            t,
            ..Record::named("n")
        }
    }

    #[test]
    fn the_days_of_partitions_are_the_years_1990_to_2099() {
        for (time, reason) in [
            ("1989-12-31T23:59:59.999999Z", Some("time")),
            ("1990-01-01T00:00:00Z", None),
            ("2004-03-10T18:00:00Z", None),
            ("2099-12-31T23:59:59Z", None),
            ("2100-01-01T00:00:00Z", Some("time")),
        ] {
            let delivery = observation(time, vec![number(None)]);
            let answer = admit(0, &delivery);
            assert_eq!(
                answer
                    .err()
                    .and_then(|f| f.reason().map(str::to_owned))
                    .as_deref(),
                reason,
                "{time}"
            );
        }
    }

    #[test]
    fn what_no_row_could_hold_is_refused_with_its_place() {
        let bytes = Record {
            vd: Some("a+b/".into()),
            ..Record::named("n")
        };
        for (records, reason, pointer) in [
            (vec![], "records", "/data/records"),
            (vec![number(None); 1_001], "records", "/data/records"),
            (
                vec![number(None), number(Some(1e300))],
                "time",
                "/data/records/1/t",
            ),
            (vec![number(None), number(Some(0.0))], "time", "/data/records/1/t"),
            (vec![bytes], "shape", "/data/records/0/vd"),
        ] {
            let delivery = observation("2026-01-15T07:41:09Z", records);
            let failure = admit(0, &delivery).unwrap_err();
            assert_eq!(failure.reason(), Some(reason));
            assert_eq!(failure.faults()[0].pointer, pointer);
        }
    }

    #[test]
    fn a_transaction_ends_where_one_more_message_would_pass_a_bound() {
        let day = |n: u8| observation(&format!("2026-01-{n:02}T00:00:00Z"), vec![number(None)]);
        let deliveries = [day(1), day(1), day(2), day(3), day(1)];
        let groups = |bounds| {
            let messages = deliveries
                .iter()
                .enumerate()
                .map(|(n, d)| admit(n, d).unwrap())
                .collect();
            transactions(messages, bounds)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(groups(BOUNDS), [5]);
        assert_eq!(groups(Bounds { days: 2, ..BOUNDS }), [3, 2]);
        assert_eq!(groups(Bounds { rows: 2, ..BOUNDS }), [2, 2, 1]);
        assert_eq!(groups(Bounds { bytes: 1, ..BOUNDS }), [1, 1, 1, 1, 1]);
    }
}
