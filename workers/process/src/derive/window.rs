//! Aggregates over windows of time, aligned to the epoch.
//!
//! Values are put into panes, whose length divides both that of a window and the distance between two, so that a value
//! is looked at once however many windows it is in. A window that nothing was measured in says nothing.
use super::{
    aggregate::Aggregate,
    reading::{derivation, numbers},
};
use crate::heard::{Follows, Heard};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::Cause;
use telltale_schemas::{
    Timestamp,
    rule::{Function, Use, Window},
};

/// Most panes in one window.
pub(super) const PANES_MAX: i64 = 2_000;

/// One rule's windows of every thing. Times are microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    rule: String,
    take: Use,
    of: String,
    /// What is computed, and the record's name.
    functions: Vec<(Function, String)>,
    every: i64,
    slide: i64,
    pane: i64,
    things: BTreeMap<String, Thing>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Thing {
    panes: BTreeMap<i64, Aggregate>,
    /// Windows that ended by then are closed.
    closed: Option<i64>,
    /// The newest reading that took part.
    cause: Option<Arc<Cause>>,
}

const fn divisor(one: i64, other: i64) -> i64 {
    if other == 0 {
        one
    } else {
        divisor(other, one % other)
    }
}

impl Windows {
    /// `every` and `slide` in microseconds, more than none. `None` where a window would have more panes than are kept.
    pub(super) fn new(rule: &str, take: Use, window: &Window, every: i64, slide: i64) -> Option<Self> {
        let pane = divisor(every, slide);
        if every / pane > PANES_MAX {
            return None;
        }
        let functions = window.functions.iter().map(|function| {
            let name = format!("{}_{}_{}", window.of, function.word(), window.every);
            (*function, name)
        });
        Some(Self {
            rule: rule.to_owned(),
            take,
            of: window.of.clone(),
            functions: functions.collect(),
            every,
            slide,
            pane,
            things: BTreeMap::new(),
        })
    }

    /// The next reading of its thing. Each window that ended by its time is told.
    pub(super) fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        let now = heard.cause.time;
        let values = numbers(heard, &self.of, self.take);
        // What these do not take part in is told by what was there before.
        self.passed(
            heard.thing(),
            values.first().map_or(now, |(at, ..)| now.min(*at)),
            out,
        );
        self.enter(heard, &values);
        self.passed(heard.thing(), now, out);
    }

    /// A reading that its thing's time has passed: it takes part where its windows are still open. How many of its
    /// values came too late.
    pub(super) fn late(&mut self, heard: &Heard) -> u64 {
        let values = numbers(heard, &self.of, self.take);
        self.enter(heard, &values)
    }

    fn enter(&mut self, heard: &Heard, values: &[(Timestamp, f64, &telltale_schemas::Record)]) -> u64 {
        if values.is_empty() {
            return 0;
        }
        let thing = self.things.entry(heard.thing().to_owned()).or_default();
        let (mut late, mut took_part) = (0, false);
        for (at, value, record) in values {
            let at = at.as_micros();
            let end = at.div_euclid(self.slide) * self.slide + self.every;
            if end <= at {
                // Between two windows.
                continue;
            }
            if thing.closed.is_some_and(|closed| end <= closed) {
                late += 1;
                continue;
            }
            let pane = at.div_euclid(self.pane) * self.pane;
            thing.panes.entry(pane).or_default().add(at, *value, record);
            took_part = true;
        }
        if took_part {
            thing.cause = Some(Arc::clone(&heard.cause));
        }
        late
    }

    /// The thing's time has come that far.
    pub(super) fn passed(&mut self, name: &str, until: Timestamp, out: &mut Vec<Follows>) {
        let until = until.as_micros();
        let Some(thing) = self.things.get_mut(name) else {
            return;
        };
        while let Some(start) =
            next(thing, self.every, self.slide).filter(|start| start + self.every <= until)
        {
            let end = start + self.every;
            let mut whole = Aggregate::default();
            for pane in thing.panes.range(start..end).map(|(_, pane)| pane) {
                whole.merge(pane);
            }
            thing.closed = Some(end);
            let still = start + self.slide;
            thing.panes.retain(|pane, _| *pane >= still);
            let records = self.functions.iter();
            let records = records.filter_map(|(function, name)| whole.record(*function, name));
            let (Some(cause), Some(at)) = (&thing.cause, Timestamp::from_micros(end)) else {
                continue;
            };
            let id = format!("{}:{name}:{start}", self.rule);
            out.extend(derivation(
                cause,
                &self.rule,
                id,
                records.map(|record| (at, record)).collect(),
            ));
        }
        thing.closed = thing.closed.max(Some(until));
    }

    /// When the next window of that thing ends.
    pub(super) fn waits(&self, name: &str) -> Option<Timestamp> {
        let start = next(self.things.get(name)?, self.every, self.slide)?;
        Timestamp::from_micros(start + self.every)
    }

    /// The thing is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.things.remove(name);
    }
}

/// Where the next window begins that has something in it and is open.
fn next(thing: &Thing, every: i64, slide: i64) -> Option<i64> {
    let first = *thing.panes.keys().next()?;
    let over = thing.closed.map_or(first, |closed| closed.max(first));
    let start = |after: i64| ((after - every).div_euclid(slide) + 1) * slide;
    let open = start(over);
    // A pane that only closed windows could have seen is skipped.
    let pane = *thing.panes.range(open..).next()?.0;
    Some(open.max(start(pane)))
}

#[cfg(test)]
mod tests;
