//! What went wrong in rules: counted, and for the log.
use std::collections::BTreeMap;

/// By rule, since it was asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often something could not be computed, and why it could not the last time.
    pub failed: BTreeMap<String, (u64, String)>,
    /// How often nothing followed because what caused it had been through here too often.
    pub stopped: BTreeMap<String, u64>,
}

impl Tally {
    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.stopped.is_empty()
    }

    pub(super) fn failed(&mut self, rule: &str, why: &str) {
        let (count, last) = self.failed.entry(rule.to_owned()).or_default();
        *count += 1;
        why.clone_into(last);
    }

    pub(super) fn stopped(&mut self, rule: &str) {
        *self.stopped.entry(rule.to_owned()).or_default() += 1;
    }
}
