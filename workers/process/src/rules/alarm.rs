//! Alarms: raised once, cleared once, whatever is heard in between.
use super::effect::Effect;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::Cause;
use telltale_schemas::Timestamp;

/// Most alarms of one rule that are raised at once.
pub(super) const RAISED_MAX: usize = 10_000;

/// A condition that has been true, but not for long enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Of the alarm that it will be.
    pub(super) key: String,
    /// When it became true.
    pub(super) since: Timestamp,
    /// When it will have been true for long enough.
    pub(super) due: Timestamp,
    /// What follows then, by the last reading for which it was true.
    pub(super) basis: Basis,
}

/// What an alarm follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Basis {
    pub(super) cause: Arc<Cause>,
    /// When its records were measured.
    pub(super) at: Timestamp,
    /// When the broker stored it.
    pub(super) stored: Timestamp,
    pub(super) effects: Vec<(usize, Effect)>,
}

/// An alarm that is raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Raised {
    /// When its condition became true.
    pub(super) since: Timestamp,
    /// Of which thing's readings.
    pub(super) thing: String,
    /// What raised it.
    pub(super) cause: Arc<Cause>,
}

/// All alarms. By thing and rule what is pending, by rule and key what is raised.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Alarms {
    pub(super) pending: BTreeMap<String, BTreeMap<String, Pending>>,
    pub(super) raised: BTreeMap<String, BTreeMap<String, Raised>>,
}

impl Alarms {
    pub(super) fn is_raised(&self, rule: &str, key: &str) -> bool {
        self.raised
            .get(rule)
            .is_some_and(|of_rule| of_rule.contains_key(key))
    }

    /// Whether one more may be raised.
    pub(super) fn has_room(&self, rule: &str) -> bool {
        self.raised
            .get(rule)
            .is_none_or(|of_rule| of_rule.len() < RAISED_MAX)
    }

    pub(super) fn raise(&mut self, rule: &str, key: String, raised: Raised) {
        self.raised
            .entry(rule.to_owned())
            .or_default()
            .insert(key, raised);
    }

    pub(super) fn lower(&mut self, rule: &str, key: &str) -> Option<Raised> {
        let of_rule = self.raised.get_mut(rule)?;
        let lowered = of_rule.remove(key);
        if of_rule.is_empty() {
            self.raised.remove(rule);
        }
        lowered
    }

    pub(super) fn drop_pending(&mut self, thing: &str, rule: &str) -> Option<Pending> {
        let of_thing = self.pending.get_mut(thing)?;
        let dropped = of_thing.remove(rule);
        if of_thing.is_empty() {
            self.pending.remove(thing);
        }
        dropped
    }

    /// What has been true for long enough by that moment of the thing's time, the earliest first.
    pub(super) fn due(&mut self, thing: &str, until: Timestamp) -> Vec<(String, Pending)> {
        let Some(of_thing) = self.pending.get(thing) else {
            return Vec::new();
        };
        let due = of_thing.iter().filter(|(_, pending)| pending.due <= until);
        let mut due: Vec<(Timestamp, String)> =
            due.map(|(rule, pending)| (pending.due, rule.clone())).collect();
        due.sort();
        due.into_iter()
            .filter_map(|(_, rule)| Some((rule.clone(), self.drop_pending(thing, &rule)?)))
            .collect()
    }

    /// When the thing's next condition will have been true for long enough.
    pub(super) fn waits(&self, thing: &str) -> Option<Timestamp> {
        let of_thing = self.pending.get(thing)?;
        of_thing.values().map(|pending| pending.due).min()
    }

    /// Whether that thing has an alarm raised, or a condition that may raise one.
    pub(super) fn owes(&self, thing: &str) -> bool {
        let mut raised = self.raised.values().flat_map(BTreeMap::values);
        self.pending.contains_key(thing) || raised.any(|raised| raised.thing == thing)
    }

    /// Nothing of that rule is pending any more.
    pub(super) fn forget_pending(&mut self, rule: &str) {
        for of_thing in self.pending.values_mut() {
            of_thing.remove(rule);
        }
        self.pending.retain(|_, of_thing| !of_thing.is_empty());
    }
}
