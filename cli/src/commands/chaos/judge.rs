//! What must hold, by comparing what was accepted with what became of it.
use crate::context::Context;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};
use telltale_nats::{async_nats::Client, client, provision};

/// Names shown of a violation.
const SHOWN: usize = 5;

/// What a reading ought to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A row.
    Good,
    /// An entry in the quarantine: invalid.
    Bad,
    /// An entry in the quarantine: it cannot be handled. What was refused is what `validate` made of the bytes.
    Poison,
}

/// What was accepted.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) class: Class,
    /// Of its bytes.
    pub(super) sha256: String,
}

/// A quarantine entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) reason: String,
    pub(super) sha256: String,
}

/// What became of it all.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    /// Rows by the reading's id.
    pub(super) rows: HashMap<String, i64>,
    pub(super) entries: Vec<(String, Entry)>,
    /// Messages of RAW without a fate.
    pub(super) missing: i64,
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's number.
    pub oracle: &'static str,
    pub what: &'static str,
    pub count: usize,
    /// Some of the ids.
    pub ids: Vec<String>,
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

/// Reads what became of it all.
pub(super) async fn observe(context: &Context, nats: &Client) -> anyhow::Result<Observed> {
    let sql = context.sql().await?;
    let rows = sql
        .query(
            "select message_id, count(*) from readings group by message_id",
            &[],
        )
        .await?;
    let entries = sql
        .query("select message_id, reason, sha256 from quarantine", &[])
        .await?;
    Ok(Observed {
        rows: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        entries: entries
            .iter()
            .map(|row| {
                let entry = Entry {
                    reason: row.get(1),
                    sha256: row.get(2),
                };
                (row.get(0), entry)
            })
            .collect(),
        missing: missing(context, nats, &sql).await?,
    })
}

/// What RAW has taken that has no fate.
pub(super) async fn missing(
    context: &Context,
    nats: &Client,
    sql: &tokio_postgres::Client,
) -> anyhow::Result<i64> {
    let js = client::context(nats.clone());
    let epoch = i64::try_from(provision::epoch(&js).await?)?;
    let raw = js.get_stream("RAW").await?;
    let last = i64::try_from(raw.cached_info().state.last_sequence)?;
    let row = sql
        .query_one(
            "select telltale.cardinality(telltale.missing($1, $2, $3))",
            &[&context.site.plain(), &epoch, &last],
        )
        .await?;
    Ok(row.get(0))
}

/// Everything that does not hold.
pub(super) fn judge(sent: &[Sent], observed: &Observed) -> Vec<Violation> {
    let mut found: BTreeMap<(&'static str, &'static str), Vec<String>> = BTreeMap::new();
    let mut note = |oracle, what, id: &str| {
        found.entry((oracle, what)).or_default().push(id.to_owned());
    };
    let known: HashMap<&str, &Sent> = sent.iter().map(|one| (one.id.as_str(), one)).collect();
    let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for (id, entry) in &observed.entries {
        entries.entry(id).or_default().push(entry);
    }
    for one in sent {
        let rows = observed.rows.get(&one.id).copied().unwrap_or_default();
        let refused = entries.get(one.id.as_str()).map_or(0, Vec::len);
        match (one.class, rows, refused) {
            (_, 0, 0) => note("I1", "accepted and lost", &one.id),
            (Class::Good, 0, _) => note("I1", "good, and quarantined", &one.id),
            (Class::Bad | Class::Poison, 1.., _) => note("I3", "invalid, and stored", &one.id),
            (Class::Good, 2.., _) | (_, _, 2..) => note("I2", "stored or quarantined twice", &one.id),
            (Class::Good, 1, 1) => note("I2", "stored and quarantined", &one.id),
            _ => {}
        }
    }
    let ids = observed
        .rows
        .keys()
        .chain(observed.entries.iter().map(|(id, _)| id));
    for id in ids.filter(|id| !known.contains_key(id.as_str())) {
        note("I3", "there and never sent", id);
    }
    for (id, entry) in &observed.entries {
        let is_other = |one: &&Sent| one.class == Class::Bad && one.sha256 != entry.sha256;
        if known.get(id.as_str()).is_some_and(is_other) {
            note("I8", "quarantined with other bytes than were sent", id);
        }
        if entry.reason.is_empty() {
            note("I8", "quarantined without a reason", id);
        }
    }
    let mut violations: Vec<Violation> = found
        .into_iter()
        .map(|((oracle, what), ids)| Violation {
            oracle,
            what,
            count: ids.len(),
            ids: ids.into_iter().take(SHOWN).collect(),
        })
        .collect();
    if observed.missing > 0 {
        violations.push(Violation {
            oracle: "I5",
            what: "messages without a fate, at rest",
            count: usize::try_from(observed.missing).unwrap_or(usize::MAX),
            ids: Vec::new(),
        });
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, class: Class) -> Sent {
        Sent {
            id: id.to_owned(),
            class,
            sha256: "x".to_owned(),
        }
    }

    fn entry(id: &str, sha256: &str) -> (String, Entry) {
        let entry = Entry {
            reason: "json".to_owned(),
            sha256: sha256.to_owned(),
        };
        (id.to_owned(), entry)
    }

    #[test]
    fn what_is_as_it_must_be_violates_nothing_and_each_wrong_is_seen() {
        let all = [sent("g", Class::Good), sent("b", Class::Bad)];
        let right = Observed {
            rows: HashMap::from([("g".to_owned(), 1)]),
            entries: vec![entry("b", "x")],
            missing: 0,
        };
        assert_eq!(judge(&all, &right), []);
        let oracles = |observed: Observed| -> Vec<&'static str> {
            judge(&all, &observed).iter().map(|one| one.oracle).collect()
        };
        let wrong = |change: &dyn Fn(&mut Observed)| {
            let mut observed = right.clone();
            change(&mut observed);
            oracles(observed)
        };
        assert_eq!(wrong(&|o| o.rows.clear()), ["I1"]);
        assert_eq!(wrong(&|o| o.entries.clear()), ["I1"]);
        assert_eq!(wrong(&|o| o.entries.push(entry("b", "x"))), ["I2"]);
        assert_eq!(wrong(&|o| *o.rows.get_mut("g").unwrap() = 2), ["I2"]);
        assert_eq!(
            wrong(&|o| {
                o.rows.insert("s".to_owned(), 1);
            }),
            ["I3"]
        );
        assert_eq!(wrong(&|o| o.missing = 3), ["I5"]);
        assert_eq!(wrong(&|o| o.entries[0].1.sha256 = "y".to_owned()), ["I8"]);
    }
}
