//! Which described things there are, in the order of their ids, and when they expire: kept by watching the bucket.
//!
//! Descriptions themselves stay in the bucket: a hundred thousand of them are more than a gateway should hold.
use super::{Error, Found, Registry, away};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};
use telltale_nats::{Name, async_nats::jetstream::kv};
use telltale_runtime::{Check, things::BUCKET};
use telltale_schemas::{Timestamp, td, thing::Registered};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Before the watch is begun again after an error.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks whether the bucket is still the same one.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a write waits until the index has it; a list may lag behind afterwards.
const SETTLE: Duration = Duration::from_secs(2);

/// What is known of the described things.
#[derive(Debug, Default)]
pub(super) struct Index {
    state: RwLock<State>,
    /// The newest revision that is in it.
    position: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether it has all that was there when it was begun.
    is_complete: bool,
    /// By the ids of their descriptions.
    things: BTreeMap<String, Known>,
    expiring: BTreeSet<(Timestamp, String)>,
    /// Of the set of ids: the same for the same set, whoever counts.
    digest: u64,
}

#[derive(Debug)]
struct Known {
    name: Name,
    revision: u64,
    expires: Option<Timestamp>,
}

/// What the index reads of an entry; the rest is skipped.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    td: Option<&'a RawValue>,
    registration: Option<Registered>,
}

/// A piece of the list of described things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many there are in all.
    pub total: usize,
    /// Of the whole list: another one if a thing has come or gone.
    pub etag: String,
    /// The names of those on the page, in the order of their ids.
    pub names: Vec<Name>,
}

impl State {
    fn apply(&mut self, update: &kv::Entry) {
        // A key that is no token of ours belongs to no thing.
        let Ok(name) = Name::from_token(&update.key) else {
            return;
        };
        let id = td::thing_id(name.plain());
        let is_put = update.operation == kv::Operation::Put;
        let outline = is_put.then(|| serde_json::from_slice::<Outline<'_>>(&update.value).ok());
        let outline = outline.flatten().filter(|outline| outline.td.is_some());
        let Some(outline) = outline else {
            self.remove(&id);
            return;
        };
        self.remove(&id);
        let expires = outline.registration.and_then(|times| times.expires);
        if let Some(expires) = expires {
            self.expiring.insert((expires, id.clone()));
        }
        self.digest ^= digest(&id);
        let known = Known {
            name,
            revision: update.revision,
            expires,
        };
        self.things.insert(id, known);
    }

    fn remove(&mut self, id: &str) {
        if let Some(known) = self.things.remove(id) {
            self.digest ^= digest(id);
            if let Some(expires) = known.expires {
                self.expiring.remove(&(expires, id.to_owned()));
            }
        }
    }
}

fn digest(id: &str) -> u64 {
    let hash = Sha256::digest(id);
    hash.iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Index {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State), revision: u64) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.position.send_replace(revision);
    }

    /// Waits until that revision is in it, where it is followed at all.
    pub(super) async fn reached(&self, revision: u64) {
        self.settled(|_, position| position >= revision).await;
    }

    /// Waits until the thing that had that revision is gone from it.
    pub(super) async fn lost(&self, thing: &Name, revision: u64) {
        let id = td::thing_id(thing.plain());
        let is_lost = |state: &State| {
            state
                .things
                .get(&id)
                .is_none_or(|known| known.revision > revision)
        };
        self.settled(|state, _| is_lost(state)).await;
    }

    async fn settled(&self, is_so: impl Fn(&State, u64) -> bool) {
        let mut position = self.position.subscribe();
        let is_open = |position| {
            let state = self.state();
            state.is_complete && !is_so(&state, position)
        };
        let settle = async {
            loop {
                let now = *position.borrow_and_update();
                if !is_open(now) || position.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SETTLE, settle).await.is_err() {
            tracing::debug!("the list of things lags behind");
        }
    }
}

impl Registry {
    /// A piece of the list of described things; an error while the list is not complete.
    pub fn page(&self, offset: usize, limit: usize) -> Result<Page, Error> {
        let state = self.0.index.state();
        if !state.is_complete {
            return Err(away("the list of things is being read"));
        }
        let names = state.things.values().skip(offset).take(limit);
        Ok(Page {
            total: state.things.len(),
            etag: format!("{:x}-{:016x}", state.things.len(), state.digest),
            names: names.map(|known| known.name.clone()).collect(),
        })
    }

    /// Things whose time was up then, with the revisions that say so.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<(Name, u64)> {
        let state = self.0.index.state();
        let due = state.expiring.iter().take_while(|(expires, _)| *expires <= now);
        due.filter_map(|(_, id)| state.things.get(id))
            .map(|known| (known.name.clone(), known.revision))
            .collect()
    }

    /// Every described thing as it stands, in the order of writing; `None` where one could not be read on.
    pub(crate) async fn all(
        &self,
    ) -> Result<impl futures::Stream<Item = Result<Found, Error>> + Send + use<>, Error> {
        let count = self.page(0, 0)?.total;
        let store = self.store().await?;
        let entries = store.watch_with_history(">").await.map_err(away)?;
        // A bucket without entries delivers none, not even a last one.
        let entries = (count > 0).then_some(entries);
        Ok(futures::stream::unfold(entries, |entries| async move {
            let mut entries = entries?;
            loop {
                return match entries.next().await? {
                    Err(error) => Some((Err(away(error)), None)),
                    Ok(entry) => {
                        let is_last = entry.delta == 0;
                        let now = Timestamp::now();
                        let found = Found::read(&entry)
                            .filter(|found| found.entry.td.is_some() && !found.is_expired(now));
                        match found {
                            Some(found) => Some((Ok(found), (!is_last).then_some(entries))),
                            None if is_last => None,
                            None => continue,
                        }
                    }
                };
            }
        }))
    }

    /// Follows the bucket until stopped; ready while it does.
    pub async fn follow(&self, check: Check, stop: &CancellationToken) {
        loop {
            let why = tokio::select! {
                () = stop.cancelled() => return,
                why = self.follow_once(&check) => why,
            };
            tracing::warn!(bucket = BUCKET, "the watch is begun again: {why:#}");
            check.set_unready(why.to_string());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_AGAIN) => {}
            }
        }
    }

    /// Reads all that there is and follows it; returns why it could not go on. What was known before stays known
    /// until all is read again.
    async fn follow_once(&self, check: &Check) -> anyhow::Error {
        let store = match self.0.js.get_key_value(BUCKET).await {
            Ok(store) => store,
            Err(error) => return error.into(),
        };
        let (made, is_empty) = {
            let info = store.stream.cached_info();
            (info.created, info.state.messages == 0)
        };
        let mut entries = match store.watch_with_history(">").await {
            Ok(entries) => entries,
            Err(error) => return error.into(),
        };
        let mut fresh = Some(State::default());
        if is_empty {
            self.take_over(&mut fresh, 0, check);
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                entry = entries.next() => match entry {
                    Some(Ok(entry)) => match &mut fresh {
                        Some(state) => {
                            state.apply(&entry);
                            if entry.delta == 0 {
                                self.take_over(&mut fresh, entry.revision, check);
                            }
                        }
                        None => self.0.index.change(|state| state.apply(&entry), entry.revision),
                    },
                    Some(Err(error)) => return error.into(),
                    None => return anyhow::anyhow!("the watch ended"),
                },
                _ = look.tick() => {
                    // No answer is no news: then the watch itself will break off.
                    if let Ok(store) = self.0.js.get_key_value(BUCKET).await
                        && store.stream.cached_info().created != made
                    {
                        return anyhow::anyhow!("the bucket was made anew");
                    }
                }
            }
        }
    }

    fn take_over(&self, fresh: &mut Option<State>, revision: u64, check: &Check) {
        if let Some(mut fresh) = fresh.take() {
            fresh.is_complete = true;
            self.0.index.change(|state| *state = fresh, revision);
            check.set_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(key: &str, revision: u64, value: Option<&str>) -> kv::Entry {
        let now = Timestamp::now().to_offset();
        kv::Entry {
            bucket: BUCKET.to_owned(),
            key: key.to_owned(),
            value: value.unwrap_or_default().to_owned().into(),
            revision,
            delta: 0,
            created: now,
            operation: value.map_or(kv::Operation::Delete, |_| kv::Operation::Put),
            seen_current: true,
        }
    }

    const DESCRIBED: &str = r#"{"thing":"x","td":{"title":"t"},"policy":{}}"#;

    #[test]
    fn described_things_are_listed_by_id_and_the_tag_is_that_of_the_set() {
        let mut one = State::default();
        one.apply(&update("b", 1, Some(DESCRIBED)));
        one.apply(&update("urn=3Aa", 2, Some(DESCRIBED)));
        one.apply(&update("c", 3, Some(r#"{"thing":"c"}"#)));
        one.apply(&update("_x", 4, Some(DESCRIBED)));
        let ids: Vec<_> = one.things.keys().map(String::as_str).collect();
        assert_eq!(ids, ["urn:a", "urn:telltale:thing:b"]);
        let mut other = State::default();
        other.apply(&update("urn=3Aa", 1, Some(DESCRIBED)));
        assert_ne!(one.digest, other.digest);
        other.apply(&update("b", 2, Some(DESCRIBED)));
        other.apply(&update("b", 3, Some(DESCRIBED)));
        assert_eq!(one.digest, other.digest);
        one.apply(&update("b", 5, None));
        other.apply(&update("b", 6, Some("{")));
        assert_eq!((one.digest, one.things.len()), (other.digest, 1));
    }

    #[test]
    fn what_expires_is_known_until_it_is_registered_anew() {
        let expiring = |expires: &str| {
            format!(
                r#"{{"thing":"a","td":{{}},"registration":{{"created":"2026-01-01T00:00:00Z",
                "modified":"2026-01-01T00:00:00Z","expires":"{expires}"}}}}"#
            )
        };
        let mut state = State::default();
        state.apply(&update("a", 1, Some(&expiring("2026-01-01T00:01:00Z"))));
        state.apply(&update("a", 2, Some(&expiring("2026-01-01T00:02:00Z"))));
        assert_eq!(state.expiring.len(), 1);
        state.apply(&update("a", 3, Some(DESCRIBED)));
        assert!(state.expiring.is_empty());
    }
}
