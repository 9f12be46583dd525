//! From decoded records to a reading: each judged, all in time and in order, none too much.
use crate::{
    location,
    origin::Origin,
    policy::{self, Part, Wrong},
};
use std::{io, time::Duration};
use telltale_schemas::{Reading, Record, Timestamp, decode::Decoded, duration, kinds::Fault, thing::Policy};

/// Records of one reading.
const RECORDS_MAX: usize = 1_000;
/// Bytes of one reading.
const RESOLVED_MAX: usize = 512 * 1024;
/// Faults that are told at once.
const FAULTS_MAX: usize = 20;
/// How long before its receipt a reading may have been measured, unless the policy says.
const LATE: Duration = Duration::from_hours(7 * 24);
/// How far ahead of its receipt a reading may be, unless the policy says.
const AHEAD: Duration = Duration::from_mins(5);

/// What becomes of a message that is right.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) reading: Reading,
    /// When the newest record was measured.
    pub(crate) time: Timestamp,
}

/// Why a message is not taken: one reason, and each place where it holds.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    places: Vec<(Option<usize>, Wrong)>,
}

impl Refused {
    fn whole(reason: &'static str, message: String) -> Self {
        let part = Part::Value;
        Self {
            reason,
            places: vec![(
                None,
                Wrong {
                    reason,
                    part,
                    message,
                },
            )],
        }
    }

    /// As faults; `pointer` tells where a part of the record of that index stood in the payload.
    pub(crate) fn faults(self, pointer: impl Fn(usize, Part) -> String) -> Vec<Fault> {
        let fault = |(index, wrong): (Option<usize>, Wrong)| {
            let pointer = index.map_or_else(String::new, |index| pointer(index, wrong.part));
            Fault::at(pointer, wrong.message)
        };
        self.places.into_iter().map(fault).collect()
    }
}

pub(crate) fn make(decoded: Decoded, policy: &Policy, origin: &Origin) -> Result<Made, Refused> {
    let Decoded {
        time, mut records, ..
    } = decoded;
    match records.len() {
        0 => return Err(Refused::whole("records", "no record".to_owned())),
        1..=RECORDS_MAX => {}
        more => {
            let message = format!("{more} records are more than {RECORDS_MAX}");
            return Err(Refused::whole("records", message));
        }
    }
    for_each(&mut records, |record| policy::judge(record, policy))?;
    location::judge(&mut records, policy);
    let window = Window::of(policy, origin);
    let otherwise = time.unwrap_or(origin.received);
    let mut newest = None;
    for_each(&mut records, |record| {
        let at = window.check(record, otherwise)?;
        newest = newest.max(Some(at));
        record.t = Some(at.as_seconds());
        Ok(())
    })?;
    let time = newest.expect("there is a record");
    arrange(&mut records, time);
    let reading = Reading { records };
    check_size(&reading)?;
    Ok(Made { reading, time })
}

/// Judges all; the first reason decides, and all places where it holds are told.
fn for_each(
    records: &mut [Record],
    mut judge: impl FnMut(&mut Record) -> Result<(), Wrong>,
) -> Result<(), Refused> {
    let mut refused: Option<Refused> = None;
    for (index, record) in records.iter_mut().enumerate() {
        let Err(wrong) = judge(record) else { continue };
        let refused = refused.get_or_insert_with(|| Refused {
            reason: wrong.reason,
            places: Vec::new(),
        });
        if refused.reason == wrong.reason && refused.places.len() < FAULTS_MAX {
            refused.places.push((Some(index), wrong));
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Oldest first, and as they came where that is the same; `t` only where it tells something.
fn arrange(records: &mut [Record], time: Timestamp) {
    let seconds = time.as_seconds();
    if !records.is_sorted_by(|a, b| a.t <= b.t) {
        records.sort_by(|a, b| a.t.unwrap_or(seconds).total_cmp(&b.t.unwrap_or(seconds)));
    }
    for record in records {
        record.t = record.t.filter(|t| t.to_bits() != seconds.to_bits());
    }
}

/// When a reading may have been measured; both ends count from its receipt, so that a replay and a queue
/// change nothing.
struct Window {
    received: Timestamp,
    earliest: Option<Timestamp>,
    latest: Timestamp,
}

impl Window {
    fn of(policy: &Policy, origin: &Origin) -> Self {
        let span = |told: &Option<String>, otherwise: Duration| {
            let span = told.as_deref().and_then(duration::parse).unwrap_or(otherwise);
            i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
        };
        let received = origin.received;
        Self {
            received,
            earliest: (!origin.backfill).then(|| received.plus_micros(-span(&policy.late, LATE))),
            latest: received.plus_micros(span(&policy.ahead, AHEAD)),
        }
    }

    fn check(&self, record: &Record, otherwise: Timestamp) -> Result<Timestamp, Wrong> {
        let wrong = |message| Wrong {
            reason: "time",
            part: Part::Time,
            message,
        };
        let at = match record.t {
            None => otherwise,
            Some(t) => Timestamp::from_seconds(t).ok_or_else(|| {
                wrong(format!(
                    "{t} seconds since 1970 are outside the years 0000 to 9999"
                ))
            })?,
        };
        let received = self.received;
        if at > self.latest {
            let latest = self.latest;
            return Err(wrong(format!(
                "measured at {at} but received at {received}: too far ahead, the latest would be {latest}"
            )));
        }
        match self.earliest {
            Some(earliest) if at < earliest => Err(wrong(format!(
                "measured at {at} but received at {received}: too late, the earliest would be {earliest}"
            ))),
            _ => Ok(at),
        }
    }
}

/// Names and units are repeated once resolved, and CBOR's texts are escaped: a small payload can become large.
fn check_size(reading: &Reading) -> Result<(), Refused> {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    // An escaped character takes six bytes at most; labels, numbers and quotes of a record less than 256.
    let bound = |record: &Record| {
        record.n.len()
            + length(&record.u)
            + length(&record.vd)
            + 6 * (length(&record.vs) + length(&record.sentinel))
            + 256
    };
    if reading.records.iter().map(bound).sum::<usize>() <= RESOLVED_MAX {
        return Ok(());
    }
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, reading).expect("records serialize, and counting cannot fail");
    if counted.0 <= RESOLVED_MAX {
        return Ok(());
    }
    let message = format!("{} bytes once resolved are more than {RESOLVED_MAX}", counted.0);
    Err(Refused::whole("size", message))
}

struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
