//! A virtual sensor: one record computed from those of several things.
//!
//! Each reading that brings an input computes it anew, from the newest of every input. Its time is that of the newest
//! input, and inputs that are older than `max_age` by then count as absent.
use super::{
    formula::{Formula, Inputs},
    reading::{derivation, id_of, worst},
};
use crate::{
    heard::{Follows, Heard},
    rules::{expression::Trouble, history::Plain},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use telltale_schemas::{Flag, Record, Timestamp, rule::Use};

/// One rule's sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sensor {
    pub(super) rule: String,
    pub(super) take: Use,
    pub(super) thing: String,
    pub(super) name: String,
    pub(super) unit: Option<String>,
    /// By the name in the formula: thing and record.
    pub(super) inputs: BTreeMap<String, (String, String)>,
    /// Microseconds.
    pub(super) max_age: Option<i64>,
    pub(super) formula: Formula,
    pub(super) known: BTreeMap<String, Known>,
}

/// The newest value of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    at: Timestamp,
    value: Plain,
    q: Option<Flag>,
}

impl Sensor {
    /// The next reading of its thing. Why nothing could be computed, if something should have been.
    pub(super) fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) -> Option<Trouble> {
        let (mut records, mut trouble) = (Vec::new(), None);
        for at in self.moments(heard) {
            if !self.take_up(heard, at) {
                continue;
            }
            match self.compute() {
                Some(Ok(record)) => records.push(record),
                Some(Err(why)) => trouble = Some(why),
                None => {}
            }
        }
        if let Some(mut made) = derivation(&heard.cause, &self.rule, id_of(heard, &self.rule), records) {
            made.draft = made.draft.about(self.thing.clone());
            out.push(made);
        }
        trouble
    }

    /// When that reading's inputs were measured.
    fn moments(&self, heard: &Heard) -> BTreeSet<Timestamp> {
        let records = heard.records.iter();
        records
            .filter(|record| self.names(heard.thing(), record).next().is_some())
            .map(|record| heard.time_of(record))
            .collect()
    }

    /// The inputs that a record is.
    fn names(&self, thing: &str, record: &Record) -> impl Iterator<Item = &String> {
        let inputs = self.inputs.iter().filter(move |_| self.take.takes(record.q));
        inputs
            .filter(move |(_, (of, name))| of == thing && *name == record.n)
            .map(|(input, _)| input)
    }

    /// Whether it brings anything that is not older than what is known.
    fn take_up(&mut self, heard: &Heard, at: Timestamp) -> bool {
        let mut news = Vec::new();
        for record in heard.records.iter().filter(|record| heard.time_of(record) == at) {
            let Some(value) = Plain::of(record) else {
                continue;
            };
            for input in self.names(heard.thing(), record) {
                let is_news = self.known.get(input).is_none_or(|known| known.at <= at);
                if is_news {
                    let (value, q) = (value.clone(), record.q);
                    news.push((input.clone(), Known { at, value, q }));
                }
            }
        }
        let has_news = !news.is_empty();
        self.known.extend(news);
        has_news
    }

    /// `None` while an input is absent.
    fn compute(&self) -> Option<Result<(Timestamp, Record), Trouble>> {
        let newest = self.known.values().map(|known| known.at).max()?;
        let is_fresh = |known: &Known| {
            let age = newest.as_micros() - known.at.as_micros();
            self.max_age.is_none_or(|most| age <= most)
        };
        if self.known.len() < self.inputs.len() || !self.known.values().all(is_fresh) {
            return None;
        }
        let values = self.known.iter();
        let values = values
            .map(|(name, known)| (name.as_str(), &known.value))
            .collect();
        let inputs = Inputs {
            values: &values,
            at: newest,
        };
        let mut record = Record {
            u: self.unit.clone(),
            q: self.known.values().map(|known| known.q).fold(None, worst),
            ..Record::named(self.name.clone())
        };
        Some(self.formula.fill(&inputs, &mut record).map(|()| (newest, record)))
    }
}
