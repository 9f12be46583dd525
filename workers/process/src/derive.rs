//! Derived readings: window aggregates, what changed, how unlikely a value is, and sensors computed from others.
//!
//! [`Derive`] is a function of the readings that it is told, in the order of their things, and of the rules in force;
//! what it remembers is kept by its `Serialize`. It has no clock.
mod aggregate;
mod anomaly;
mod formula;
mod on_change;
mod operator;
mod reading;
mod sensor;
#[cfg(test)]
mod testing;
mod window;

use crate::{
    heard::{Follows, Heard},
    rules::{HOPS_MAX, Wrong},
};
use operator::Operator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telltale_schemas::{Timestamp, rule::Rule};

/// All rules that derive readings, and what they remember.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Derive {
    rules: BTreeMap<String, Deriving>,
    #[serde(skip)]
    tally: Tally,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Deriving {
    rule: Rule,
    operator: Operator,
}

/// What went wrong since it was asked for last, by rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many values came after their windows had been told.
    pub late: BTreeMap<String, u64>,
    /// How often a value could not be computed, and why it could not the last time.
    pub failed: BTreeMap<String, (u64, String)>,
    /// How often nothing followed because what caused it had been through here too often.
    pub stopped: BTreeMap<String, u64>,
}

impl Tally {
    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.late.is_empty() && self.failed.is_empty() && self.stopped.is_empty()
    }
}

/// What is wrong with a rule that derives readings, beyond what its schema says; a condition is none of ours.
pub fn check(rule: &Rule) -> Result<(), Vec<Wrong>> {
    Operator::of(rule).map(drop)
}

impl Derive {
    /// Puts a rule into force in place of the one of its name, or, with `None`, takes that out of it. What was
    /// remembered is kept where the rule computes what it did before.
    pub fn apply(&mut self, name: &str, rule: Option<&Rule>) -> Result<(), Vec<Wrong>> {
        let operator = rule.map(Operator::of).transpose()?.flatten();
        let (Some(rule), Some(operator)) = (rule, operator) else {
            self.rules.remove(name);
            return Ok(());
        };
        if let Some(deriving) = self.rules.get_mut(name)
            && operator::computes_the_same(&deriving.rule, rule)
        {
            deriving.rule = rule.clone();
            return Ok(());
        }
        let rule = rule.clone();
        self.rules.insert(name.to_owned(), Deriving { rule, operator });
        Ok(())
    }

    /// The next reading of its thing: by time, then by id.
    pub fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        let is_spent = is_spent(heard);
        for (name, deriving) in hearing(&mut self.rules, heard) {
            if is_spent {
                *self.tally.stopped.entry(name.clone()).or_default() += 1;
            } else if let Some(trouble) = deriving.operator.hear(heard, out) {
                let (count, why) = self.tally.failed.entry(name.clone()).or_default();
                *count += 1;
                *why = trouble.to_string();
            }
        }
    }

    /// A reading that is older than what its thing was given already. What was computed is so as a rule, for it follows
    /// from a reading of then: it takes part in the order in which it comes.
    pub fn late(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        if is_spent(heard) {
            return;
        }
        for (name, deriving) in hearing(&mut self.rules, heard) {
            let late = deriving.operator.late(heard, out);
            if late > 0 {
                *self.tally.late.entry(name.clone()).or_default() += late;
            }
        }
    }

    /// The thing's time has reached that moment, with a reading or in silence: nothing older will come.
    pub fn passed(&mut self, thing: &str, until: Timestamp, out: &mut Vec<Follows>) {
        for deriving in self.rules.values_mut() {
            deriving.operator.passed(thing, until, out);
        }
    }

    /// The moment of the thing's time at which something follows even if it stays silent.
    pub fn waits(&self, thing: &str) -> Option<Timestamp> {
        let operators = self.rules.values().map(|deriving| &deriving.operator);
        operators.filter_map(|operator| operator.waits(thing)).min()
    }

    /// The thing is gone, and what was remembered of it.
    pub fn forget(&mut self, thing: &str) {
        for deriving in self.rules.values_mut() {
            deriving.operator.forget(thing);
        }
    }

    /// What went wrong since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

/// The rules that hear that reading. What a rule computed it does not hear itself.
fn hearing<'a>(
    rules: &'a mut BTreeMap<String, Deriving>,
    heard: &Heard,
) -> impl Iterator<Item = (&'a String, &'a mut Deriving)> {
    let (thing, by) = (heard.thing(), heard.rule.as_deref());
    rules
        .iter_mut()
        .filter(move |(name, deriving)| by != Some(name.as_str()) && deriving.rule.hears(thing))
}

/// Whether what came this far may go no further.
fn is_spent(heard: &Heard) -> bool {
    let hops = heard.cause.hops.split(',');
    hops.filter(|hop| hop.starts_with("process;")).count() >= HOPS_MAX
}

#[cfg(test)]
mod tests;
