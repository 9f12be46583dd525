//! One condition at one instant: what it causes, or which alarm it raises and clears.
use super::{
    alarm::{Alarms, Basis, Pending, RAISED_MAX, Raised},
    document::Condition,
    effect,
    expression::Trouble,
    scope::Instant,
    tally::Tally,
};
use crate::heard::Follows;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::Cause;
use telltale_schemas::{Timestamp, id, rule::Rule};

/// A reading that has been through this worker so often causes nothing more.
pub const HOPS_MAX: usize = 8;
/// Longest key of an alarm, in bytes.
const KEY_MAX: usize = 256;

/// Whether what came this far may go no further.
fn is_spent(cause: &Cause) -> bool {
    let own = cause.hops.split(',').filter(|hop| hop.starts_with("process;"));
    own.count() >= HOPS_MAX
}

/// Raises what has been true for long enough by that moment.
pub(super) fn elapse(
    conditions: &BTreeMap<String, Condition>,
    alarms: &mut Alarms,
    tally: &mut Tally,
    thing: &str,
    until: Timestamp,
    out: &mut Vec<Follows>,
) {
    for (rule, pending) in alarms.due(thing, until) {
        let Some(condition) = conditions.get(&rule) else {
            continue;
        };
        // Another thing may have raised the same alarm meanwhile.
        if !alarms.is_raised(&rule, &pending.key) {
            raise(condition, alarms, tally, thing, pending, out);
        }
    }
}

fn raise(
    condition: &Condition,
    alarms: &mut Alarms,
    tally: &mut Tally,
    thing: &str,
    pending: Pending,
    out: &mut Vec<Follows>,
) {
    let rule = &condition.rule;
    if !alarms.has_room(&rule.name) {
        tally.failed(
            &rule.name,
            &format!("{RAISED_MAX} alarms are raised; `{}` is not", pending.key),
        );
        return;
    }
    let Pending {
        key,
        since,
        due,
        basis,
    } = pending;
    let particulars = particulars(rule, &key, "raised", since);
    let name = format!("{}.raised", alarm_id(rule, &key, since));
    say(rule, &name, due, &basis, &particulars, tally, out);
    let raised = Raised {
        since,
        thing: thing.to_owned(),
        cause: basis.cause,
    };
    alarms.raise(&rule.name, key, raised);
}

/// `<rule>:<thing>:<µs>`, or with the alarm's own key in place of the thing.
pub(super) fn alarm_id(rule: &Rule, key: &str, since: Timestamp) -> String {
    let micros = since.as_micros();
    if rule.key.is_some() {
        format!("{}:{key}:{micros}", rule.name)
    } else {
        format!("{key}:{micros}")
    }
}

pub(super) fn particulars(rule: &Rule, key: &str, state: &str, since: Timestamp) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("alarm".to_owned(), key.into());
    members.insert("state".to_owned(), state.into());
    if let Some(severity) = rule.severity {
        members.insert("severity".to_owned(), severity.word().into());
    }
    members.insert("since".to_owned(), since.to_string().into());
    members
}

fn say(
    rule: &Rule,
    name: &str,
    at: Timestamp,
    basis: &Basis,
    particulars: &Map<String, Value>,
    tally: &mut Tally,
    out: &mut Vec<Follows>,
) {
    for (n, effect) in &basis.effects {
        if id::is_id(&effect::id(name, *n)) {
            out.push(effect::message(
                effect.clone(),
                *n,
                &rule.name,
                name,
                at,
                basis,
                particulars,
            ));
        } else {
            tally.failed(&rule.name, "its id would be too long");
        }
    }
}

/// One condition at one instant.
pub(super) struct Turn<'a> {
    pub(super) condition: &'a Condition,
    pub(super) at: Instant<'a>,
    pub(super) alarms: &'a mut Alarms,
    pub(super) tally: &'a mut Tally,
}

impl Turn<'_> {
    /// What follows of its own; `None` where nothing may.
    fn basis(&mut self, only_events: bool) -> Basis {
        let (effects, troubles) = effect::all(self.condition, &self.at, only_events);
        for trouble in troubles {
            self.tally.failed(&self.condition.rule.name, &trouble.to_string());
        }
        Basis {
            cause: Arc::clone(&self.at.heard.cause),
            at: self.at.at,
            stored: self.at.heard.stored,
            effects,
        }
    }

    /// A condition's answer; `None` where the reading lacks what it asks for.
    fn answer(&mut self, answer: Result<bool, Trouble>) -> Option<bool> {
        match answer {
            Ok(holds) => Some(holds),
            Err(Trouble::Absent(_)) => None,
            Err(Trouble::Failed(why)) => {
                self.tally.failed(&self.condition.rule.name, &why);
                None
            }
        }
    }

    fn is_spent(&mut self) -> bool {
        let spent = is_spent(&self.at.heard.cause);
        if spent {
            self.tally.stopped(&self.condition.rule.name);
        }
        spent
    }

    /// Acts on the reading if the condition is true.
    pub(super) fn act(&mut self, out: &mut Vec<Follows>) {
        let answer = self.condition.when.holds(&self.at);
        if self.answer(answer) != Some(true) || self.is_spent() {
            return;
        }
        let basis = self.basis(false);
        let rule = &self.condition.rule;
        let instant = Some(self.at.at).filter(|at| *at != basis.cause.time);
        let instant = instant.map(|at| format!("@{}", at.as_micros()));
        let name = format!(
            "{}.process.{}{}",
            basis.cause.id,
            rule.name,
            instant.unwrap_or_default()
        );
        say(rule, &name, self.at.at, &basis, &Map::new(), self.tally, out);
    }

    /// Raises or clears the alarm, or waits.
    pub(super) fn judge(&mut self, out: &mut Vec<Follows>) {
        let Some(key) = self.key() else { return };
        let (rule, thing) = (&self.condition.rule.name, self.at.heard.thing());
        let answer = self.condition.when.holds(&self.at);
        let holds = self.answer(answer);
        if self.alarms.is_raised(rule, &key) {
            self.alarms.drop_pending(thing, rule);
            if holds != Some(true) && self.is_over(holds) {
                self.clear(&key, out);
            }
            return;
        }
        match holds {
            Some(true) => self.wait_or_raise(key, out),
            Some(false) => drop(self.alarms.drop_pending(thing, rule)),
            None => {}
        }
    }

    fn key(&mut self) -> Option<String> {
        let rule = &self.condition.rule.name;
        let Some(key) = &self.condition.key else {
            return Some(format!("{rule}:{}", self.at.heard.thing()));
        };
        match key.json(&self.at) {
            Ok(Value::String(key)) if key.len() <= KEY_MAX && id::is_id(&key) => Some(key),
            Ok(other) => {
                let why = format!("`key` is {other}, and a text of 1 to {KEY_MAX} printable bytes is needed");
                self.tally.failed(rule, &why);
                None
            }
            Err(trouble) => {
                let _absent = self.answer(Err(trouble));
                None
            }
        }
    }

    fn is_over(&mut self, holds: Option<bool>) -> bool {
        match &self.condition.clear {
            None => holds == Some(false),
            Some(clear) => {
                let answer = clear.holds(&self.at);
                self.answer(answer) == Some(true)
            }
        }
    }

    fn wait_or_raise(&mut self, key: String, out: &mut Vec<Follows>) {
        if self.is_spent() {
            return;
        }
        let (rule, thing) = (&self.condition.rule.name, self.at.heard.thing());
        let begun = self.alarms.drop_pending(thing, rule);
        let since = begun
            .filter(|begun| begun.key == key)
            .map_or(self.at.at, |begun| begun.since);
        let due = since.plus_micros(self.condition.hold.unwrap_or_default());
        let pending = Pending {
            key,
            since,
            due,
            basis: self.basis(false),
        };
        if due <= self.at.at {
            raise(self.condition, self.alarms, self.tally, thing, pending, out);
        } else {
            let of_thing = self.alarms.pending.entry(thing.to_owned()).or_default();
            of_thing.insert(rule.clone(), pending);
        }
    }

    fn clear(&mut self, key: &str, out: &mut Vec<Follows>) {
        if self.is_spent() {
            return;
        }
        let basis = self.basis(true);
        let rule = &self.condition.rule;
        let Some(raised) = self.alarms.lower(&rule.name, key) else {
            return;
        };
        let particulars = particulars(rule, key, "cleared", raised.since);
        let name = format!("{}.cleared", alarm_id(rule, key, raised.since));
        say(rule, &name, self.at.at, &basis, &particulars, self.tally, out);
    }
}
