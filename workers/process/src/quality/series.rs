//! One property of one thing: its last values, and the tests that compare them.
//!
//! What has no value, flag 9, breaks the neighbourhood on both sides: nothing is compared across it.
use super::flat::Flat;
use serde::{Deserialize, Serialize};
use telltale_schemas::{
    Flag, Record, Timestamp,
    quality::{Amendment, FlatLine, Method, Quality, Spike, span, test},
};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    last: Option<Last>,
    /// The value before the last one, where it had one.
    before: Option<f64>,
    flat: Flat,
}

/// The newest record so far, whose spike test waits for the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) id: String,
    time: Timestamp,
    pub(super) ordinal: u16,
    value: Option<f64>,
    q: Option<Flag>,
    failed: Vec<String>,
}

pub(super) fn suspect_if(is_suspect: bool) -> Flag {
    if is_suspect { Flag::Suspect } else { Flag::Pass }
}

impl Series {
    pub(super) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Whether a record takes part: it is newer than the last, and its value is a number, or missing.
    pub(super) fn takes(&self, time: Timestamp, record: &Record) -> bool {
        let is_newer = self.last.as_ref().is_none_or(|last| time > last.time);
        is_newer && (record.v.is_some() || record.q == Some(Flag::Missing))
    }

    /// Flags a record that takes part, and says what its value makes of the last one's spike test.
    pub(super) fn next(
        &mut self,
        time: Timestamp,
        record: &mut Record,
        tests: &Quality,
        scale: f64,
    ) -> Option<Flag> {
        let last = self.last.as_ref();
        let seconds = last.map(|last| (time.as_micros() - last.time.as_micros()) as f64 / 1e6);
        if let (Some(gap), Some(seconds)) = (&tests.gap, seconds) {
            record.found(test::GAP, suspect_if(seconds > span(&gap.max).as_secs_f64()));
        }
        let Some(value) = value_of(record) else {
            self.flat = Flat::default();
            return None;
        };
        let last = last.and_then(|last| last.value);
        if let Some(rate) = &tests.rate_of_change {
            // The first of a neighbourhood passes, as in QARTOD: no step is too large where there is none.
            let is_fast = last
                .zip(seconds)
                .is_some_and(|(last, seconds)| (value - last).abs() / seconds > rate.threshold * scale);
            record.found(test::RATE_OF_CHANGE, suspect_if(is_fast));
        }
        if let Some(line) = &tests.flat_line {
            self.flat.push(time, value, line.tolerance * scale);
            record.found(test::FLAT_LINE, flat(&self.flat, time, line));
        }
        let neighbours = self.before.zip(last);
        let spike = tests.spike.as_ref().zip(neighbours);
        spike.map(|(spike, (before, last))| how_far(spike, before, last, value, scale))
    }

    /// That record is the last one from now on.
    pub(super) fn push(&mut self, id: &str, time: Timestamp, ordinal: u16, record: &Record) {
        self.before = self.last.take().and_then(|last| last.value);
        self.last = Some(Last {
            id: id.to_owned(),
            time,
            ordinal,
            value: value_of(record),
            q: record.q,
            failed: record.failed.clone(),
        });
    }
}

fn value_of(record: &Record) -> Option<f64> {
    record.v.filter(|_| record.q != Some(Flag::Missing))
}

impl Last {
    /// What is to be said of it after that finding; nothing where it changes nothing.
    pub(super) fn amended(&self, name: &str, test: &str, flag: Flag) -> Option<Amendment> {
        let mut record = Record {
            q: self.q,
            failed: self.failed.clone(),
            ..Record::named(name)
        };
        record.found(test, flag);
        let is_news = (record.q, &record.failed) != (self.q, &self.failed);
        is_news.then_some(Amendment {
            id: self.id.clone(),
            time: self.time,
            ordinal: self.ordinal,
            n: record.n,
            q: record.q?,
            failed: record.failed,
        })
    }
}

fn flat(line: &Flat, now: Timestamp, limits: &FlatLine) -> Flag {
    let lasted = |limit: &Option<String>| {
        limit
            .as_deref()
            .is_some_and(|limit| line.lasted(now, span(limit)))
    };
    if lasted(&limits.fail) {
        Flag::Fail
    } else {
        suspect_if(lasted(&limits.suspect))
    }
}

/// How far `value` is from its neighbours.
fn how_far(spike: &Spike, before: f64, value: f64, after: f64, scale: f64) -> Flag {
    let distance = match spike.method {
        Method::Average => (value - f64::midpoint(before, after)).abs(),
        Method::Differential => {
            let (to, from) = (value - before, after - value);
            let turns = (to > 0.0 && from < 0.0) || (to < 0.0 && from > 0.0);
            if turns { to.abs().min(from.abs()) } else { 0.0 }
        }
    };
    let over = |limit: Option<f64>| limit.is_some_and(|limit| distance > limit * scale);
    if over(spike.fail) {
        Flag::Fail
    } else {
        suspect_if(over(spike.suspect))
    }
}
