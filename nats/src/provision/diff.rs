//! What is different between a configuration that the broker has and the one that we want. Only what we set is
//! compared: the broker fills in and adds.
use super::EPOCH;
use crate::topology::{Size, Span};
use async_nats::jetstream::{
    consumer::Config as Consumer,
    stream::{Config, State},
};
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;

/// One setting that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: &'static str,
    /// As it is.
    pub found: String,
    /// As it should be.
    pub wanted: String,
    /// What the change destroys, if anything.
    pub destroys: Option<String>,
    /// Whether the broker cannot change it in place, so that it is deleted and made again.
    pub recreates: bool,
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    /// Compares the texts: each of our spellings has one value.
    fn note(
        &mut self,
        field: &'static str,
        found: String,
        wanted: String,
        destroys: impl FnOnce() -> Option<String>,
    ) {
        if found != wanted {
            self.0.push(Difference {
                field,
                found,
                wanted,
                destroys: destroys(),
                recreates: false,
            });
        }
    }

    fn recreate(
        &mut self,
        field: &'static str,
        found: String,
        wanted: String,
        destroys: impl FnOnce() -> String,
    ) {
        let before = self.0.len();
        self.note(field, found, wanted, || Some(destroys()));
        for difference in self.0.iter_mut().skip(before) {
            difference.recreates = true;
        }
    }
}

/// Between a stream that is there and the one that is wanted.
pub(super) fn streams(
    found: &Config,
    state: &State,
    wanted: &Config,
    now: OffsetDateTime,
) -> Vec<Difference> {
    let mut all = Differences::default();
    let deleted = || format!("deletes it, with {} messages and all durables", state.messages);
    all.recreate(
        "retention",
        debug(&found.retention),
        debug(&wanted.retention),
        deleted,
    );
    all.recreate("storage", debug(&found.storage), debug(&wanted.storage), deleted);
    all.note("subjects", list(&found.subjects), list(&wanted.subjects), || {
        let gone = missing(&found.subjects, &wanted.subjects);
        (!gone.is_empty()).then(|| format!("nothing keeps {gone} any more"))
    });
    all.note(
        "max_bytes",
        bytes(found.max_bytes),
        bytes(wanted.max_bytes),
        || {
            let limit = u64::try_from(wanted.max_bytes).ok()?;
            (state.bytes > limit).then(|| format!("{} bytes are stored, the oldest are dropped", state.bytes))
        },
    );
    all.note("max_age", age(found.max_age), age(wanted.max_age), || {
        let oldest = (state.messages > 0).then(|| now - state.first_timestamp)?;
        let outlived = !wanted.max_age.is_zero() && oldest > wanted.max_age;
        outlived.then(|| format!("the oldest message is {}h old", oldest.whole_hours()))
    });
    let fewer = found.max_messages_per_subject < 0
        || wanted.max_messages_per_subject < found.max_messages_per_subject;
    all.note(
        "max_messages_per_subject",
        count(found.max_messages_per_subject),
        count(wanted.max_messages_per_subject),
        || {
            (fewer && wanted.max_messages_per_subject > 0 && state.messages > 0)
                .then(|| "drops what is over the cap".into())
        },
    );
    let settings = |config: &Config| {
        [
            ("discard", debug(&config.discard)),
            ("discard_new_per_subject", debug(&config.discard_new_per_subject)),
            ("max_message_size", count(config.max_message_size.into())),
            ("allow_atomic", debug(&config.allow_atomic_publish)),
            ("allow_direct", debug(&config.allow_direct)),
            ("allow_rollup", debug(&config.allow_rollup)),
            ("allow_message_ttl", debug(&config.allow_message_ttl)),
            ("allow_message_schedules", debug(&config.allow_message_schedules)),
            ("deny_delete", debug(&config.deny_delete)),
            ("replicas", debug(&config.num_replicas)),
            ("description", config.description.clone().unwrap_or_default()),
        ]
    };
    for ((field, found), (_, wanted)) in settings(found).into_iter().zip(settings(wanted)) {
        all.note(field, found, wanted, || None);
    }
    if !wanted.duplicate_window.is_zero() {
        all.note(
            "duplicate_window",
            age(found.duplicate_window),
            age(wanted.duplicate_window),
            || None,
        );
    }
    all.0
}

/// Between a durable that is there and the one that is wanted.
pub(super) fn durables(found: &Consumer, wanted: &Consumer) -> Vec<Difference> {
    let mut all = Differences::default();
    let forgets = || "deletes it: everything is delivered again".to_owned();
    all.recreate(
        "ack_policy",
        debug(&found.ack_policy),
        debug(&wanted.ack_policy),
        forgets,
    );
    all.recreate(
        "deliver_policy",
        debug(&found.deliver_policy),
        debug(&wanted.deliver_policy),
        forgets,
    );
    let (has, wants) = (filters(found), filters(wanted));
    all.note("filters", list(&has), list(&wants), || {
        let gone = missing(&has, &wants);
        (!gone.is_empty()).then(|| format!("what is unread of {gone} is never read"))
    });
    all.note("ack_wait", age(found.ack_wait), age(wanted.ack_wait), || None);
    all.note(
        "max_ack_pending",
        count(found.max_ack_pending),
        count(wanted.max_ack_pending),
        || None,
    );
    all.note(
        "max_deliver",
        count(found.max_deliver),
        count(wanted.max_deliver),
        || None,
    );
    all.note(EPOCH, epoch(&found.metadata), epoch(&wanted.metadata), || None);
    all.0
}

fn filters(config: &Consumer) -> Vec<String> {
    if config.filter_subject.is_empty() {
        config.filter_subjects.clone()
    } else {
        vec![config.filter_subject.clone()]
    }
}

fn epoch(metadata: &HashMap<String, String>) -> String {
    metadata.get(EPOCH).cloned().unwrap_or_else(|| "none".into())
}

fn missing(found: &[String], wanted: &[String]) -> String {
    let gone: Vec<_> = found
        .iter()
        .filter(|subject| !wanted.contains(subject))
        .cloned()
        .collect();
    gone.join(", ")
}

fn list(subjects: &[String]) -> String {
    let mut subjects = subjects.to_vec();
    subjects.sort_unstable();
    subjects.join(", ")
}

fn bytes(limit: i64) -> String {
    u64::try_from(limit).map_or_else(|_| "none".into(), |limit| Size::of(limit).to_string())
}

fn age(limit: Duration) -> String {
    if limit.is_zero() {
        "none".into()
    } else {
        Span::of(limit).to_string()
    }
}

fn count(limit: i64) -> String {
    // The broker answers -1 where nothing was set.
    if limit <= 0 {
        "none".into()
    } else {
        limit.to_string()
    }
}

fn debug<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}").to_lowercase()
}
