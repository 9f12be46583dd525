//! Which things are heard of, and when each was heard of last, by the clock.
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use telltale_schemas::Timestamp;

/// All things that are not forgotten. Each is looked at once in the time that it is remembered for, however often it
/// speaks.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Roll {
    last: BTreeMap<String, Timestamp>,
    looks: BTreeSet<(Timestamp, String)>,
}

impl Roll {
    /// The thing was heard of.
    pub(crate) fn heard(&mut self, thing: &str, at: Timestamp, remember: i64) {
        if let Some(last) = self.last.get_mut(thing) {
            *last = at;
        } else {
            self.last.insert(thing.to_owned(), at);
            self.looks.insert((at.plus_micros(remember), thing.to_owned()));
        }
    }

    /// When one is to be looked at next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Looks at that one: its name, if nothing was heard of it for so long. It is not on the roll any more.
    pub(crate) fn silent(&mut self, remember: i64) -> Option<String> {
        let (at, thing) = self.looks.pop_first()?;
        let until = self.last.get(&thing)?.plus_micros(remember);
        if until > at {
            self.looks.insert((until, thing));
            return None;
        }
        self.last.remove(&thing);
        Some(thing)
    }
}
