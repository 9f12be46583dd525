//! What is in the bucket `pending`, followed; and what of it is over.
use crate::{desk::Desk, micros};
use anyhow::Context as _;
use futures::StreamExt as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telltale_nats::async_nats::jetstream::kv::{Entry, Operation};
use telltale_runtime::Check;
use telltale_schemas::{
    Timestamp,
    kinds::State,
    pending::{Pending, Told},
};
use tokio::time::MissedTickBehavior;

/// Pause before the watch is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked for what is over.
const LOOK: Duration = Duration::from_secs(1);
/// How long whoever decided an end is left alone to tell it.
const LEFT_ALONE: Duration = Duration::from_secs(3);
/// Most ids that are remembered after their end; beyond it the oldest are forgotten.
const REMEMBERED_MAX: usize = 300_000;
/// Most that are forgotten in one look.
const FORGOTTEN_MAX: usize = 2_000;

/// For how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) grace: Duration,
    pub(crate) remember: Duration,
}

/// The bucket as far as it has been followed.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    waiting: BTreeMap<String, Waiting>,
    /// Keys of commands that have ended, by revision.
    ended: BTreeMap<u64, (String, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    state: State,
    expires: Timestamp,
    /// Since when its end is decided.
    ended: Option<Timestamp>,
}

/// What is to be done with an entry that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nobody took it.
    Expire,
    /// Nobody answered.
    GiveUp,
    /// Its end was not told.
    Tell,
}

impl Known {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn learn(&mut self, entry: &Entry, now: Timestamp) {
        match entry.operation {
            Operation::Put => match serde_json::from_slice::<Pending>(&entry.value) {
                Ok(pending) => {
                    let waiting = Waiting {
                        state: pending.state,
                        expires: pending.expires,
                        ended: pending.end.is_some().then_some(now),
                    };
                    self.waiting.insert(entry.key.clone(), waiting);
                }
                Err(error) => {
                    tracing::warn!(key = entry.key, "an entry of `pending` cannot be read: {error}");
                }
            },
            Operation::Delete => {
                self.waiting.remove(&entry.key);
                let at = Timestamp::from_offset(entry.created);
                self.ended.insert(entry.revision, (entry.key.clone(), at));
            }
            // What forgetting leaves for a moment.
            Operation::Purge => {
                self.waiting.remove(&entry.key);
            }
        }
    }

    /// What is over.
    fn due(&self, now: Timestamp, grace: Duration) -> Vec<(String, Due)> {
        let is_over = |waiting: &Waiting| match waiting.ended {
            Some(since) => (since.plus_micros(micros(LEFT_ALONE)) <= now).then_some(Due::Tell),
            None if waiting.state == State::Queued => (waiting.expires <= now).then_some(Due::Expire),
            None => (waiting.expires.plus_micros(micros(grace)) <= now).then_some(Due::GiveUp),
        };
        let all = self.waiting.iter();
        all.filter_map(|(key, waiting)| Some((key.clone(), is_over(waiting)?)))
            .collect()
    }

    /// What need not be remembered any more, the oldest first.
    fn old(&mut self, now: Timestamp, remember: Duration) -> Vec<(String, u64)> {
        let mut old = Vec::new();
        while old.len() < FORGOTTEN_MAX
            && let Some(first) = self.ended.first_entry()
        {
            let is_old = first.get().1.plus_micros(micros(remember)) <= now;
            if !is_old && self.ended.len() <= REMEMBERED_MAX {
                break;
            }
            if let Some((revision, (key, _))) = self.ended.pop_first() {
                old.push((key, revision));
            }
        }
        old
    }
}

/// Follows the bucket for ever.
pub(crate) async fn follow(desk: Arc<Desk>, known: Arc<Known>, check: Check) {
    loop {
        let Err(error) = follow_once(&desk, &known, &check).await;
        tracing::warn!("cannot follow the bucket `pending`: {error:#}");
        check.set_unready("the bucket `pending` cannot be followed");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow_once(desk: &Desk, known: &Known, check: &Check) -> anyhow::Result<std::convert::Infallible> {
    let mut changes = desk.store().watch_with_history(">").await?;
    *known.lists() = Lists::default();
    check.set_ready();
    loop {
        let change = changes.next().await.context("the watch has ended")??;
        known.lists().learn(&change, Timestamp::now());
    }
}

/// Ends what is over, tells what was not told, and forgets what need not be remembered, for ever.
pub(crate) async fn sweep(desk: Arc<Desk>, known: Arc<Known>, limits: Limits) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let now = Timestamp::now();
        let (due, old) = {
            let mut lists = known.lists();
            desk.metrics().show_waiting(lists.waiting.len());
            (lists.due(now, limits.grace), lists.old(now, limits.remember))
        };
        for (key, due) in due {
            if let Err(error) = settle(&desk, &key, due, limits.grace).await {
                tracing::warn!(key, "a command is not ended yet: {error:#}");
                break;
            }
            if let Some(waiting) = known.lists().waiting.get_mut(&key) {
                // The watch will tell; until then it is left alone.
                waiting.ended = Some(now);
            }
        }
        for (key, revision) in old {
            if let Err(error) = desk.forget(&key, revision).await {
                // Of several copies one does it.
                tracing::debug!(key, "it is remembered a little longer: {error:#}");
            }
        }
    }
}

async fn settle(desk: &Desk, key: &str, due: Due, grace: Duration) -> anyhow::Result<()> {
    let now = Timestamp::now();
    match due {
        Due::Tell => return desk.finish_for_others(key).await,
        Due::Expire => {
            let expired = |pending: &Pending| {
                let is_over = pending.state == State::Queued && pending.is_expired(now);
                is_over
                    .then(|| Told::of(State::Expired).because("its time ran out before its device took it"))
            };
            desk.end(key, expired).await?;
        }
        Due::GiveUp => {
            let unanswered = |pending: &Pending| {
                let is_over =
                    pending.state != State::Queued && pending.expires.plus_micros(micros(grace)) <= now;
                let why = "its device did not answer in time: nobody knows whether it was carried out";
                is_over.then(|| Told::of(State::Unknown).because(why))
            };
            desk.end(key, unanswered).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    #[test]
    fn what_waits_expires_and_what_was_sent_has_a_grace() {
        let mut lists = Lists::default();
        for (key, state, ended) in [
            ("queued", State::Queued, None),
            ("sent", State::Sent, None),
            ("ended", State::Sent, Some(at(50))),
        ] {
            let expires = at(60);
            lists.waiting.insert(
                key.to_owned(),
                Waiting {
                    state,
                    expires,
                    ended,
                },
            );
        }
        let due = |second| lists.due(at(second), Duration::from_secs(10));
        assert_eq!(due(52), []);
        let told = ("ended".to_owned(), Due::Tell);
        assert_eq!(due(53), vec![told.clone()]);
        let expired = ("queued".to_owned(), Due::Expire);
        assert_eq!(due(60), [told.clone(), expired.clone()]);
        assert_eq!(due(70), [told, expired, ("sent".to_owned(), Due::GiveUp)]);
    }

    #[test]
    fn ids_are_forgotten_after_a_while_the_oldest_first() {
        let mut lists = Lists::default();
        for revision in [7, 3, 5] {
            let ended = (format!("k{revision}"), at(i64::try_from(revision).unwrap()));
            lists.ended.insert(revision, ended);
        }
        assert_eq!(lists.old(at(62), Duration::from_mins(1)), []);
        let old = lists.old(at(65), Duration::from_mins(1));
        assert_eq!(old, [("k3".to_owned(), 3), ("k5".to_owned(), 5)]);
        assert_eq!(lists.ended.len(), 1);
    }
}
