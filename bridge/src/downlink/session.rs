//! Which bridge has a device: the bucket `sessions`.
//!
//! A bridge that begins to hold a thing writes its name under the thing's token; the younger takes over, and the older sees
//! that and delivers nothing more. Each bridge renews one lease of its own, not one for each device: ten thousand devices
//! would be a thousand writes to disk a second. The sessions of a bridge whose lease has lapsed are taken away by any other.
//!
//! That is for who wants to know, and so that two bridges do not disturb each other; that a command goes out once is
//! held by its entry's revision alone.
use super::Inner;
use crate::metrics::Protocol;
use anyhow::Context as _;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};
use telltale_nats::async_nats::jetstream::{
    self,
    kv::{Entry, Operation, Store},
};
use telltale_schemas::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The bucket.
const BUCKET: &str = "sessions";
/// What the key of a bridge's lease begins with. A thing's token has no dot.
const LEASE: &str = "bridge.";
/// How long a lease holds, in microseconds.
const LEASED: i64 = 30_000_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// Pause before the watch is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Under a thing's token: who has its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// The instance of a bridge.
    bridge: String,
    /// How the device is connected.
    protocol: String,
    since: Timestamp,
}

/// Under `bridge.<instance>`: until when its sessions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    until: Timestamp,
}

/// What the bucket says.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// By the thing's token: whose it is, and the revision. No name: it was given up.
    owners: HashMap<String, (Option<String>, u64)>,
    /// By the key.
    leases: HashMap<String, (Timestamp, u64)>,
    /// By the thing's token: the last hold of it here, which is the one to give it up.
    pub(super) last: HashMap<String, u64>,
}

impl Sessions {
    /// Whether that bridge has the thing.
    pub(super) fn is_of(&self, token: &str, instance: &str) -> bool {
        self.owner(token) == Some(instance)
    }

    /// Who has the thing.
    pub(super) fn owner(&self, token: &str) -> Option<&str> {
        self.owners.get(token)?.0.as_deref()
    }

    /// Takes note; whether it was news.
    fn tell(&mut self, token: &str, owner: Option<String>, revision: u64) -> bool {
        if self
            .owners
            .get(token)
            .is_some_and(|(_, known)| *known >= revision)
        {
            return false;
        }
        self.owners.insert(token.to_owned(), (owner, revision));
        true
    }

    /// What an entry says; the thing's token where that is news of a thing.
    fn heed<'a>(&mut self, entry: &'a Entry) -> Option<&'a str> {
        let is_put = entry.operation == Operation::Put;
        if entry.key.starts_with(LEASE) {
            match serde_json::from_slice::<Lease>(&entry.value)
                .ok()
                .filter(|_| is_put)
            {
                Some(lease) => self
                    .leases
                    .insert(entry.key.clone(), (lease.until, entry.revision)),
                None => self.leases.remove(&entry.key),
            };
            return None;
        }
        let session = serde_json::from_slice::<Session>(&entry.value)
            .ok()
            .filter(|_| is_put);
        let is_news = self.tell(&entry.key, session.map(|session| session.bridge), entry.revision);
        is_news.then_some(&entry.key)
    }

    /// Keys and revisions of what bridges left behind that are no more.
    fn lapsed(&self, now: Timestamp) -> Vec<(String, u64)> {
        let is_over = |until: &Timestamp| until.plus_micros(LEASED) < now;
        let mut gone = Vec::new();
        for (key, (_, revision)) in self.leases.iter().filter(|(_, (until, _))| is_over(until)) {
            let bridge = key.strip_prefix(LEASE);
            let own = self
                .owners
                .iter()
                .filter(|(_, (owner, _))| owner.as_deref() == bridge);
            gone.extend(own.map(|(token, (_, revision))| (token.clone(), *revision)));
            // Its lease last: as long as it is there, what it left can be found.
            gone.push((key.clone(), *revision));
        }
        gone
    }
}

impl Inner {
    /// Writes that this bridge has the thing, for that hold.
    pub(super) async fn claim(&self, token: &str, hold: u64, protocol: Protocol) -> anyhow::Result<()> {
        let session = Session {
            bridge: self.instance.clone(),
            protocol: protocol.word().to_owned(),
            since: Timestamp::now(),
        };
        let store = self
            .stores()
            .sessions
            .clone()
            .context("the bucket `sessions` is not there yet")?;
        let revision = store.put(token, serde_json::to_vec(&session)?.into()).await?;
        let mut things = self.things();
        things.sessions.last.insert(token.to_owned(), hold);
        things.sessions.tell(token, Some(self.instance.clone()), revision);
        Ok(())
    }

    /// Writes that it has it no more, unless a younger hold or another bridge has it by now.
    pub(super) async fn release(&self, token: &str, hold: u64) {
        let revision = {
            let mut things = self.things();
            let sessions = &mut things.sessions;
            if sessions.last.get(token) != Some(&hold) {
                return;
            }
            sessions.last.remove(token);
            let own = sessions.owners.get(token);
            own.filter(|(owner, _)| owner.as_deref() == Some(&self.instance))
                .map(|(_, revision)| *revision)
        };
        let store = self.stores().sessions.clone();
        if let (Some(revision), Some(store)) = (revision, store)
            && let Err(error) = store.delete_expect_revision(token, Some(revision)).await
        {
            debug!(token, "a session is not given up: {error:#}");
        }
    }

    fn heed(&self, entry: &Entry) {
        let mut things = self.things();
        if let Some(token) = things.sessions.heed(entry)
            && let Some(thing) = things.known.get(token)
        {
            thing.changed.send_replace(());
        }
    }
}

/// Follows the bucket and renews the lease, until stopped.
pub(super) async fn run(inner: &Inner, context: &jetstream::Context, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Err(error) = follow(inner, context) => warn!("cannot follow the bucket of sessions: {error:#}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn follow(inner: &Inner, context: &jetstream::Context) -> anyhow::Result<std::convert::Infallible> {
    let store = context.get_key_value(BUCKET).await?;
    let mut changes = store.watch_with_history(">").await?;
    let mut fresh = Sessions::default();
    let mut left = store.stream.cached_info().state.messages;
    while left > 0 {
        let entry = changes.next().await.context("the watch has ended")??;
        left = entry.delta;
        fresh.heed(&entry);
    }
    renew(inner, &store).await?;
    inner
        .stores
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .sessions = Some(store.clone());
    {
        let mut things = inner.things();
        fresh.last = std::mem::take(&mut things.sessions.last);
        things.sessions = fresh;
        for thing in things.known.values() {
            thing.changed.send_replace(());
        }
    }
    let mut due = tokio::time::interval_at(tokio::time::Instant::now() + RENEW, RENEW);
    loop {
        tokio::select! {
            change = changes.next() => inner.heed(&change.context("the watch has ended")??),
            _ = due.tick() => {
                if let Err(error) = renew(inner, &store).await {
                    warn!("the lease on sessions is not renewed: {error:#}");
                }
                let lapsed = inner.things().sessions.lapsed(Timestamp::now());
                for (key, revision) in lapsed {
                    // Another bridge may be tidying up as well.
                    store.delete_expect_revision(&key, Some(revision)).await.ok();
                }
            }
        }
    }
}

async fn renew(inner: &Inner, store: &Store) -> anyhow::Result<()> {
    let lease = Lease {
        until: Timestamp::now().plus_micros(LEASED),
    };
    let key = format!("{LEASE}{}", inner.instance);
    store.put(key, serde_json::to_vec(&lease)?.into()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    #[test]
    fn the_younger_session_is_the_owner_and_old_news_is_none() {
        let mut sessions = Sessions::default();
        assert!(sessions.tell("lamp", Some("one".into()), 3));
        assert!(sessions.is_of("lamp", "one"));
        assert!(!sessions.tell("lamp", Some("two".into()), 2));
        assert!(sessions.is_of("lamp", "one"));
        assert!(sessions.tell("lamp", Some("two".into()), 4));
        assert!(sessions.is_of("lamp", "two"));
        assert!(sessions.tell("lamp", None, 5));
        assert_eq!(sessions.owner("lamp"), None);
    }

    #[test]
    fn what_a_bridge_left_behind_is_found_once_its_lease_is_over() {
        let mut sessions = Sessions::default();
        sessions.tell("lamp", Some("dead".into()), 1);
        sessions.tell("door", Some("alive".into()), 2);
        sessions.leases.insert("bridge.dead".into(), (at(30), 3));
        sessions.leases.insert("bridge.alive".into(), (at(90), 4));
        assert!(sessions.lapsed(at(60)).is_empty(), "clocks differ a little");
        let gone = sessions.lapsed(at(61));
        assert_eq!(gone, [("lamp".to_owned(), 1), ("bridge.dead".to_owned(), 3)]);
    }
}
