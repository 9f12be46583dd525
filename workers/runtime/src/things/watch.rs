//! Follows the bucket: every change is applied, and what was there before is read in the background.
use super::{BUCKET, Shared};
use async_nats::jetstream::{self, kv};
use futures::StreamExt as _;
use std::time::Duration;
use telltale_nats::Name;
use telltale_schemas::Timestamp;
use tokio::time::MissedTickBehavior;

/// Between two looks whether the bucket is still the same one.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Before the watch is begun again after an error.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Reads what is in the bucket until all of it is known, or there is no more room; what is asked for meanwhile is
/// asked for by itself. Begun after the watch: whatever changes while this reads, the watch brings too.
pub(super) async fn warm(store: kv::Store, shared: &Shared) {
    if Position::of(&store).messages == 0 {
        return;
    }
    let era = shared.cache().era();
    let mut entries = match store.watch_with_history(">").await {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(
                bucket = BUCKET,
                "things are read one by one as they speak: {error:#}"
            );
            return;
        }
    };
    while let Some(Ok(entry)) = entries.next().await {
        if let Ok(name) = Name::from_token(&entry.key) {
            let known = shared.read(name.plain(), &entry);
            if !shared.cache().offer(name.plain(), &known, era) {
                return;
            }
        }
        if entry.delta == 0 {
            return;
        }
    }
}

/// How far the watch has come, in which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// When the bucket was made: one that was made anew counts from 1 again.
    created: Timestamp,
    pub(super) revision: u64,
    /// How many it has.
    messages: u64,
}

impl Position {
    pub(super) fn of(store: &kv::Store) -> Self {
        let info = store.stream.cached_info();
        Self {
            created: Timestamp::from_offset(info.created),
            revision: info.state.last_sequence,
            messages: info.state.messages,
        }
    }

    /// Whether what was read up to here says nothing of that bucket.
    fn is_void_in(self, bucket: Self) -> bool {
        self.created != bucket.created || self.revision > bucket.revision
    }

    pub(super) async fn watch(self, store: &kv::Store) -> Result<kv::Watch, kv::WatchError> {
        store.watch_all_from_revision(self.revision + 1).await
    }

    /// Applies updates for ever; begins again where the watch or the bucket breaks off.
    pub(super) async fn follow(
        mut self,
        jetstream: &jetstream::Context,
        shared: &Shared,
        mut updates: kv::Watch,
    ) {
        loop {
            let why = self.apply(jetstream, shared, &mut updates).await;
            tracing::warn!(bucket = BUCKET, "the watch is begun again: {why:#}");
            updates = loop {
                tokio::time::sleep(WATCH_AGAIN).await;
                match self.resume(jetstream, shared).await {
                    Ok(updates) => break updates,
                    Err(error) => tracing::warn!(bucket = BUCKET, "no watch yet: {error:#}"),
                }
            };
        }
    }

    /// Returns why it could not go on.
    async fn apply(
        &mut self,
        jetstream: &jetstream::Context,
        shared: &Shared,
        updates: &mut kv::Watch,
    ) -> anyhow::Error {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                update = updates.next() => match update {
                    Some(Ok(update)) => self.update(shared, &update),
                    Some(Err(error)) => return error.into(),
                    None => return anyhow::anyhow!("it ended"),
                },
                _ = look.tick() => {
                    // No answer is no news: then the watch itself will break off.
                    if let Ok(store) = jetstream.get_key_value(BUCKET).await
                        && self.is_void_in(Self::of(&store))
                    {
                        return anyhow::anyhow!("the bucket was made anew");
                    }
                }
            }
        }
    }

    fn update(&mut self, shared: &Shared, update: &kv::Entry) {
        // A key that is no token of ours belongs to no thing, so nobody can have asked for it.
        if let Ok(name) = Name::from_token(&update.key) {
            let known = shared.read(name.plain(), update);
            shared.cache().update(name.plain(), &known);
        }
        self.revision = update.revision;
        shared.held.send_replace(self.revision);
    }

    async fn resume(&mut self, jetstream: &jetstream::Context, shared: &Shared) -> anyhow::Result<kv::Watch> {
        let store = jetstream.get_key_value(BUCKET).await?;
        let now = Self::of(&store);
        if self.is_void_in(now) {
            *self = now;
            shared.cache().reset();
            shared.held.send_replace(self.revision);
        }
        Ok(self.watch(&store).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_made_anew_or_restored_voids_what_is_known() {
        let at = |created: i64, revision| Position {
            created: Timestamp::from_micros(created).unwrap(),
            revision,
            messages: revision,
        };
        assert!(!at(1, 5).is_void_in(at(1, 5)) && !at(1, 5).is_void_in(at(1, 9)));
        assert!(at(1, 5).is_void_in(at(2, 9)), "made anew");
        assert!(at(1, 5).is_void_in(at(1, 4)), "restored from an older copy");
    }
}
