//! What changed, and no more: it spares the uplink what is known already.
use super::reading::{derivation, id_of, taking_part};
use crate::{
    heard::{Follows, Heard},
    rules::history::Plain,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telltale_schemas::{
    Record,
    rule::{OnChange, Use},
};

/// One rule's last words of every thing. Times are microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Changes {
    rule: String,
    take: Use,
    of: String,
    name: String,
    deadband: f64,
    at_most: Option<i64>,
    things: BTreeMap<String, Last>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Last {
    /// When the newest value was measured.
    newest: i64,
    /// When the one that was told last was.
    told: i64,
    /// The one that was told last.
    value: Plain,
}

impl Changes {
    /// `at_most` in microseconds.
    pub(super) fn new(rule: &str, take: Use, of: &OnChange, at_most: Option<i64>) -> Self {
        Self {
            rule: rule.to_owned(),
            take,
            of: of.of.clone(),
            name: format!("{}_changed", of.of),
            deadband: of.deadband.unwrap_or_default(),
            at_most,
            things: BTreeMap::new(),
        }
    }

    /// The next reading of its thing.
    pub(super) fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        let mut records = Vec::new();
        for (at, record) in taking_part(heard, &self.of, self.take) {
            let Some(value) = Plain::of(record) else {
                continue;
            };
            let micros = at.as_micros();
            let last = self.things.get_mut(heard.thing());
            if let Some(last) = last {
                if micros < last.newest {
                    continue;
                }
                last.newest = micros;
                let is_due = self.at_most.is_some_and(|most| micros - last.told >= most);
                if !is_due && !has_changed(&last.value, &value, self.deadband) {
                    continue;
                }
            }
            let last = Last {
                newest: micros,
                told: micros,
                value,
            };
            self.things.insert(heard.thing().to_owned(), last);
            records.push((
                at,
                Record {
                    n: self.name.clone(),
                    failed: Vec::new(),
                    sentinel: None,
                    ut: None,
                    s: None,
                    ..record.clone()
                },
            ));
        }
        out.extend(derivation(
            &heard.cause,
            &self.rule,
            id_of(heard, &self.rule),
            records,
        ));
    }

    /// The thing is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.things.remove(name);
    }
}

fn has_changed(last: &Plain, now: &Plain, deadband: f64) -> bool {
    match (last, now) {
        (Plain::Number(last), Plain::Number(now)) => (now - last).abs() > deadband,
        (last, now) => last != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::testing::{Told, heard, told};

    fn changes(deadband: f64, at_most: Option<i64>) -> Changes {
        let of = OnChange {
            of: "speed".into(),
            deadband: Some(deadband),
            at_most: None,
        };
        Changes::new("r", Use::Good, &of, at_most)
    }

    fn run(changes: &mut Changes, values: &[(f64, f64)]) -> Vec<Told> {
        let mut out = Vec::new();
        for (at, value) in values {
            changes.hear(&heard("car", *at, &[("speed", *value)]), &mut out);
        }
        told(&out)
    }

    #[test]
    fn a_change_of_at_most_the_deadband_is_none_and_small_ones_add_up() {
        let values = [
            (0.0, 10.0),
            (1.0, 10.5),
            (2.0, 10.25),
            (3.0, 10.75),
            (4.0, 10.25),
            (5.0, 10.0),
        ];
        let told = run(&mut changes(0.5, None), &values);
        let said: Vec<_> = told.iter().map(|told| (told.at, told.value)).collect();
        assert_eq!(said, [(0.0, 10.0), (3.0, 10.75), (5.0, 10.0)]);
        assert_eq!(told[0].id, "car:0.process.r");
        assert_eq!(told[0].name, "speed_changed");
    }

    #[test]
    fn what_does_not_change_is_repeated_after_a_while() {
        let values: Vec<(f64, f64)> = (0..8).map(|n| (f64::from(n), 1.0)).collect();
        let told = run(&mut changes(0.0, Some(3_000_000)), &values);
        let said: Vec<_> = told.iter().map(|told| told.at).collect();
        assert_eq!(said, [0.0, 3.0, 6.0]);
    }

    #[test]
    fn a_record_that_is_older_than_the_last_changes_nothing() {
        let mut changes = changes(0.0, None);
        assert_eq!(run(&mut changes, &[(2.0, 1.0), (1.0, 5.0), (3.0, 1.0)]).len(), 1);
    }
}
