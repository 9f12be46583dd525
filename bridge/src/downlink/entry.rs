//! Changes of an entry of `pending`: each a comparison with the revision that was seen, so that of two who change it one
//! wins, and the other looks again.
use super::Inner;
use std::sync::Arc;
use telltale_nats::async_nats::jetstream::kv::{Operation, Store, UpdateErrorKind};
use telltale_schemas::pending::Pending;
use tracing::warn;

/// How often a change is begun anew because others were faster.
const TRIES_MAX: usize = 8;

/// What came of a change.
#[derive(Debug)]
pub(super) enum Changed {
    /// The entry is so now, at that revision.
    Done(Arc<Pending>, u64),
    /// It was so before, at that revision.
    Already(Arc<Pending>, u64),
    /// As the entry is, it cannot be changed like that.
    Refused,
    /// There is no such entry: its command has ended, or there was none.
    Gone,
}

/// What to make of an entry.
#[derive(Debug)]
pub(super) enum Wish {
    Write(Box<Pending>),
    Already,
    Refuse,
}

/// The broker does not answer, or others were faster too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away;

impl Inner {
    pub(super) fn store(&self) -> Result<Store, Away> {
        self.stores().pending.clone().ok_or(Away)
    }

    /// Changes the entry under that key, from what is known of it, or else from what the bucket says.
    pub(super) async fn change(&self, key: &str, wish: impl Fn(&Pending) -> Wish) -> Result<Changed, Away> {
        let store = self.store()?;
        let mut seen = self.body(key);
        for _ in 0..TRIES_MAX {
            let is_fresh = seen.is_none();
            let (pending, revision) = match seen.take() {
                Some(known) => known,
                None => match self.read(&store, key).await? {
                    Some(read) => read,
                    None => return Ok(Changed::Gone),
                },
            };
            let wanted = match wish(&pending) {
                Wish::Write(wanted) => Arc::new(*wanted),
                // What we know may be old: only the bucket says no.
                Wish::Already | Wish::Refuse if !is_fresh => continue,
                Wish::Already => return Ok(Changed::Already(pending, revision)),
                Wish::Refuse => return Ok(Changed::Refused),
            };
            let bytes = serde_json::to_vec(&*wanted).map_err(|_| Away)?;
            match store.update(key, bytes.into(), revision).await {
                Ok(revision) => {
                    self.learn(key, &wanted, revision);
                    return Ok(Changed::Done(wanted, revision));
                }
                // Somebody was faster, or it was we ourselves and the confirmation was lost.
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => {
                    warn!(key, "an entry of `pending` cannot be changed: {error:#}");
                    return Err(Away);
                }
            }
        }
        Err(Away)
    }

    /// What the bucket holds now.
    async fn read(&self, store: &Store, key: &str) -> Result<Option<(Arc<Pending>, u64)>, Away> {
        let entry = store.entry(key).await.map_err(|error| {
            warn!(key, "an entry of `pending` cannot be read: {error:#}");
            Away
        })?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            self.forget(key, u64::MAX);
            return Ok(None);
        };
        let pending = parse(key, &entry.value).map(Arc::new);
        if let Some(pending) = &pending {
            self.learn(key, pending, entry.revision);
        }
        Ok(pending.map(|pending| (pending, entry.revision)))
    }

    /// Takes an entry away whose end was told. What fails is tried again by whoever finds the end in it.
    pub(super) async fn take_away(&self, key: &str, revision: u64) {
        let Ok(store) = self.store() else { return };
        match store.delete_expect_revision(key, Some(revision)).await {
            Ok(()) => self.forget(key, revision),
            Err(error) => tracing::debug!(key, "an entry of `pending` is taken away later: {error:#}"),
        }
    }
}

/// An entry's value, if it is one.
pub(super) fn parse(key: &str, value: &[u8]) -> Option<Pending> {
    serde_json::from_slice(value)
        .inspect_err(|error| warn!(key, "an entry of `pending` cannot be read: {error}"))
        .ok()
}
