//! What must hold, numbered I1 to I11: pure functions over what was sent and what was found.
use crate::ledger::{Answer, Class, Sent};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

/// Names shown of a violation.
const SHOWN: usize = 5;

/// A quarantine entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub reason: String,
    /// Of the bytes that it keeps.
    pub sha256: String,
    /// Which delivery was refused. A device that sends one reading again, because it was not answered, has two taken
    /// in; where they are invalid, each is refused, once.
    pub taken: String,
}

/// What became of it all, at rest.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Rows by the reading's id; where a reading has several records, its rows of one ordinal.
    pub rows: HashMap<String, i64>,
    /// Quarantine entries by the id of what was refused.
    pub entries: Vec<(String, Entry)>,
    /// Ids of which the quarantine said that it was full.
    pub overflowed: HashSet<String>,
    /// Accepted messages of which the system itself says that it does not know what became of them.
    pub missing: i64,
    /// How often each id had an effect: at a subscriber that counts in place of one that notifies.
    pub effects: HashMap<String, u32>,
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's number.
    pub oracle: &'static str,
    pub what: String,
    pub count: usize,
    /// Some of the ids.
    pub ids: Vec<String>,
}

impl Violation {
    fn new(oracle: &'static str, what: impl Into<String>, count: usize) -> Self {
        Self {
            oracle,
            what: what.into(),
            count,
            ids: vec![],
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.oracle, self.count, self.what)?;
        if !self.ids.is_empty() {
            write!(f, ": {}", self.ids.join(", "))?;
        }
        Ok(())
    }
}

/// What is known of one id, over all its answers.
struct Known<'a> {
    class: Class,
    accepted: bool,
    /// Nobody was ever left without an answer, and every answer was a refusal.
    refused: bool,
    sha256: &'a str,
}

/// I1 (what was accepted is stored or quarantined), I2 (once), I3 (nothing else is), I5 (the balance says so too), I8
/// (what is quarantined is whole, with a reason) and I9 (what was refused is not there).
pub fn judge(sent: &[Sent], observed: &Observed) -> Vec<Violation> {
    let known = known(sent);
    let mut found = Found::default();
    let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for (id, entry) in &observed.entries {
        entries.entry(id).or_default().push(entry);
    }
    for (id, one) in &known {
        let rows = observed.rows.get(*id).copied().unwrap_or_default();
        let refused = entries.get(id).map_or(0, Vec::len);
        let unkept = observed.overflowed.contains(*id);
        match (one.class, rows, refused) {
            (_, 0, 0) if one.accepted && !unkept => found.note("I1", "accepted and lost", id),
            (Class::Good, 0, 1..) => found.note("I1", "good, and quarantined", id),
            (Class::Bad, 1.., _) => found.note("I3", "invalid, and stored", id),
            (Class::Good, 2.., _) => found.note("I2", "stored twice", id),
            (Class::Good, 1, 1) => found.note("I2", "stored and quarantined", id),
            _ => {}
        }
        let mut taken = HashSet::new();
        let mut refusals = entries.get(id).into_iter().flatten();
        if refusals.any(|entry| !taken.insert(&entry.taken)) {
            found.note("I2", "quarantined twice", id);
        }
        if one.refused && (rows > 0 || refused > 0) {
            found.note("I9", "refused, and there", id);
        }
    }
    let there = observed
        .rows
        .keys()
        .chain(observed.entries.iter().map(|(id, _)| id));
    for id in there.filter(|id| !known.contains_key(id.as_str())) {
        found.note("I3", "there and never sent", id);
    }
    for (id, entry) in &observed.entries {
        if known
            .get(id.as_str())
            .is_some_and(|one| one.sha256 != entry.sha256)
        {
            found.note("I8", "quarantined with other bytes than were sent", id);
        }
        if entry.reason.is_empty() {
            found.note("I8", "quarantined without a reason", id);
        }
    }
    for (id, _) in observed.effects.iter().filter(|(_, count)| **count > 1) {
        found.note("I2", "had its effect twice", id);
    }
    let mut violations = found.violations();
    if observed.missing != 0 {
        violations.push(Violation::new(
            "I5",
            "messages without a fate, at rest",
            usize::try_from(observed.missing).unwrap_or(usize::MAX),
        ));
    }
    violations
}

fn known(sent: &[Sent]) -> HashMap<&str, Known<'_>> {
    let mut known: HashMap<&str, Known<'_>> = HashMap::with_capacity(sent.len());
    for one in sent {
        let entry = known.entry(one.id.as_str()).or_insert(Known {
            class: one.class,
            accepted: false,
            refused: true,
            sha256: &one.sha256,
        });
        entry.accepted |= one.answer == Answer::Accepted;
        entry.refused &= one.answer == Answer::Refused;
    }
    known
}

/// Ids by what is wrong with them.
#[derive(Default)]
struct Found(BTreeMap<(&'static str, &'static str), Vec<String>>);

impl Found {
    fn note(&mut self, oracle: &'static str, what: &'static str, id: &str) {
        self.0.entry((oracle, what)).or_default().push(id.to_owned());
    }

    fn violations(self) -> Vec<Violation> {
        let each = self.0.into_iter().map(|((oracle, what), mut ids)| {
            ids.sort_unstable();
            Violation {
                oracle,
                what: what.to_owned(),
                count: ids.len(),
                ids: ids.into_iter().take(SHOWN).collect(),
            }
        });
        each.collect()
    }
}

/// I4: where order is promised, each thing's numbers only grow.
pub fn ordered<'a>(seen: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<Violation> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let mut found = Found::default();
    for (thing, number) in seen {
        if last.insert(thing, number).is_some_and(|before| before >= number) {
            found.note("I4", "came out of order", thing);
        }
    }
    found.violations()
}

/// I6: work goes on during faults that allow it, and soon after the last one nothing lags.
pub fn recovered(back_to_quiet: Duration, limit: Duration) -> Option<Violation> {
    (back_to_quiet > limit).then(|| {
        let what = format!(
            "s until nothing lagged, of {} s that are allowed",
            limit.as_secs()
        );
        let took = usize::try_from(back_to_quiet.as_secs()).unwrap_or(usize::MAX);
        Violation::new("I6", what, took)
    })
}

/// I7: what a process uses stays below its limit. `used` and `limit` by what is measured, in the same unit.
pub fn bounded(used: &BTreeMap<String, u64>, limit: &BTreeMap<String, u64>) -> Vec<Violation> {
    let over = used.iter().filter_map(|(what, used)| {
        let limit = limit.get(what).filter(|limit| used > limit)?;
        let what = format!("is {what}, of {limit} that are allowed");
        Some(Violation::new(
            "I7",
            what,
            usize::try_from(*used).unwrap_or(usize::MAX),
        ))
    });
    over.collect()
}

/// I10: each fault that was planned has happened.
pub fn occurred(counts: &BTreeMap<String, u64>) -> Vec<Violation> {
    let never = counts.iter().filter(|(_, count)| **count == 0);
    never
        .map(|(fault, _)| Violation::new("I10", format!("times `{fault}` happened"), 0))
        .collect()
}

/// I11: what was rolled up is what one gets by computing it anew.
pub fn recomputed(found: &BTreeMap<String, f64>, anew: &BTreeMap<String, f64>) -> Vec<Violation> {
    let mut differing = Found::default();
    let names: HashSet<&String> = found.keys().chain(anew.keys()).collect();
    for name in names {
        let same = match (found.get(name), anew.get(name)) {
            (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(other.abs()),
            _ => false,
        };
        if !same {
            differing.note("I11", "is not what one gets by computing it anew", name);
        }
    }
    differing.violations()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, class: Class, answer: Answer) -> Sent {
        Sent {
            id: id.to_owned(),
            class,
            sha256: "x".to_owned(),
            sent_us: 0,
            answered_us: None,
            answer,
        }
    }

    fn entry(id: &str, reason: &str, sha256: &str) -> (String, Entry) {
        let entry = Entry {
            reason: reason.to_owned(),
            sha256: sha256.to_owned(),
            taken: "1".to_owned(),
        };
        (id.to_owned(), entry)
    }

    fn right() -> (Vec<Sent>, Observed) {
        let sent = vec![
            sent("good", Class::Good, Answer::Unknown),
            sent("good", Class::Good, Answer::Accepted),
            sent("bad", Class::Bad, Answer::Accepted),
            sent("refused", Class::Good, Answer::Refused),
            sent("unknown", Class::Good, Answer::Unknown),
        ];
        let observed = Observed {
            rows: HashMap::from([("good".to_owned(), 1)]),
            entries: vec![entry("bad", "json", "x")],
            effects: HashMap::from([("good".to_owned(), 1)]),
            ..Observed::default()
        };
        (sent, observed)
    }

    fn wrong(change: impl FnOnce(&mut Observed)) -> Vec<&'static str> {
        let (sent, mut observed) = right();
        change(&mut observed);
        let violations = judge(&sent, &observed);
        violations.iter().map(|violation| violation.oracle).collect()
    }

    fn row(id: &str, count: i64) -> impl FnOnce(&mut Observed) {
        move |observed| {
            observed.rows.insert(id.to_owned(), count);
        }
    }

    #[test]
    fn what_is_as_it_must_be_violates_nothing() {
        assert_eq!(wrong(|_| {}), [""; 0]);
        assert_eq!(wrong(row("unknown", 1)), [""; 0]);
        let overflow = |observed: &mut Observed| {
            observed.entries.clear();
            observed.overflowed.insert("bad".to_owned());
        };
        assert_eq!(wrong(overflow), [""; 0]);
        let taken_twice = |observed: &mut Observed| {
            let mut again = observed.entries[0].clone();
            again.1.taken = "2".to_owned();
            observed.entries.push(again);
        };
        assert_eq!(wrong(taken_twice), [""; 0]);
    }

    #[test]
    fn each_oracle_sees_what_it_is_for() {
        assert_eq!(wrong(|o| o.rows.clear()), ["I1"]);
        assert_eq!(wrong(|o| o.entries.clear()), ["I1"]);
        assert_eq!(wrong(|o| o.entries.push(entry("bad", "json", "x"))), ["I2"]);
        assert_eq!(wrong(|o| o.entries.push(entry("good", "json", "x"))), ["I2"]);
        assert_eq!(wrong(row("good", 2)), ["I2"]);
        assert_eq!(wrong(row("unknown", 2)), ["I2"]);
        assert_eq!(wrong(row("bad", 1)), ["I3"]);
        assert_eq!(wrong(row("stranger", 1)), ["I3"]);
        assert_eq!(wrong(|o| o.missing = 3), ["I5"]);
        assert_eq!(wrong(|o| o.entries[0].1.sha256 = "y".to_owned()), ["I8"]);
        assert_eq!(wrong(|o| o.entries[0].1.reason.clear()), ["I8"]);
        assert_eq!(wrong(row("refused", 1)), ["I9"]);
        assert_eq!(wrong(|o| *o.effects.get_mut("good").unwrap() = 2), ["I2"]);
    }

    #[test]
    fn order_is_judged_for_each_thing_by_itself() {
        assert_eq!(ordered([("a", 1), ("b", 9), ("a", 2), ("b", 10)]), []);
        let found = ordered([("a", 2), ("b", 1), ("a", 2)]);
        assert_eq!(
            (found[0].oracle, found[0].ids.as_slice()),
            ("I4", &["a".to_owned()][..])
        );
    }

    #[test]
    fn limits_faults_and_sums_are_judged() {
        let limit = Duration::from_secs(150);
        assert_eq!(recovered(Duration::from_secs(150), limit), None);
        assert_eq!(
            recovered(Duration::from_secs(151), limit).map(|v| v.oracle),
            Some("I6")
        );
        let of = |value: u64| BTreeMap::from([("resident MB of store".to_owned(), value)]);
        assert_eq!(bounded(&of(9), &of(9)), []);
        assert_eq!(bounded(&of(10), &of(9))[0].oracle, "I7");
        assert_eq!(occurred(&of(1)), []);
        assert_eq!(occurred(&of(0))[0].oracle, "I10");
        let sum = |value: f64| BTreeMap::from([("hour".to_owned(), value)]);
        assert_eq!(recomputed(&sum(0.1 + 0.2), &sum(0.3)), []);
        assert_eq!(recomputed(&sum(1.0), &sum(2.0))[0].oracle, "I11");
        assert_eq!(recomputed(&sum(1.0), &BTreeMap::new())[0].oracle, "I11");
    }
}
