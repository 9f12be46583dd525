//! Follows the bucket `pending`, and looks after what nobody else ends.
use super::{
    Inner,
    entry::{self, Changed, Wish},
    told,
};
use anyhow::Context as _;
use futures::StreamExt as _;
use std::{sync::Arc, time::Duration};
use telltale_nats::async_nats::jetstream::{
    self,
    kv::{Operation, Store},
};
use telltale_nats::pending::BUCKET;
use telltale_schemas::{Timestamp, kinds::State, pending::Told};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why a command ends as unknown.
const UNANSWERED: &str = "the device did not answer in time: nobody knows whether it was carried out";
/// Pause before the watch is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often ends are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long, in microseconds, whoever decided an end is left alone to tell it.
const LEFT_ALONE: i64 = 2_000_000;

/// Follows the bucket until stopped; `report` learns whether it can be followed.
pub(super) async fn pending(
    inner: &Inner,
    context: &jetstream::Context,
    report: impl Fn(Result<(), String>),
    stop: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Err(error) = follow(inner, context, &report) => {
                warn!("cannot follow the bucket of waiting commands: {error:#}");
                report(Err(format!("the bucket `{BUCKET}` cannot be followed")));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn follow(
    inner: &Inner,
    context: &jetstream::Context,
    report: impl Fn(Result<(), String>),
) -> anyhow::Result<std::convert::Infallible> {
    let store = context.get_key_value(BUCKET).await?;
    let is_empty = store.stream.cached_info().state.messages == 0;
    let mut changes = store.watch_with_history(">").await?;
    inner.begin(store);
    if is_empty {
        inner.complete();
    }
    report(Ok(()));
    loop {
        let change = changes.next().await.context("the watch has ended")??;
        match change.operation {
            Operation::Put => {
                if let Some(pending) = entry::parse(&change.key, &change.value) {
                    inner.learn(&change.key, &Arc::new(pending), change.revision);
                }
            }
            Operation::Delete | Operation::Purge => inner.forget(&change.key, change.revision),
        }
        if change.delta == 0 {
            inner.complete();
        }
    }
}

impl Inner {
    /// What was known may be of another bucket, or have gone unseen.
    fn begin(&self, store: Store) {
        self.stores
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pending = Some(store);
        let mut things = self.things();
        things.is_complete = false;
        things.known.retain(|_, thing| {
            thing.lines.clear();
            !thing.is_idle()
        });
    }

    fn complete(&self) {
        let mut things = self.things();
        if !things.is_complete {
            things.is_complete = true;
            info!("following the bucket of waiting commands");
            for thing in things.known.values() {
                thing.changed.send_replace(());
            }
        }
    }
}

/// Until stopped: what was sent from here, or to a device that is here, and not answered in time ends as unknown; and an end that
/// whoever decided it did not tell is told.
pub(super) async fn look_after(inner: &Inner, stop: &CancellationToken) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        for key in inner.due(Timestamp::now()) {
            if inner.close(&key).await.is_err() {
                break;
            }
        }
    }
}

impl Inner {
    fn due(&self, now: Timestamp) -> Vec<String> {
        let things = self.things();
        let mut due = Vec::new();
        for (token, thing) in &things.known {
            let is_here = !thing.holds.is_empty() && things.sessions.is_of(token, &self.instance);
            for (key, line) in &thing.lines {
                let is_untold = line
                    .ended
                    .is_some_and(|since| since.plus_micros(LEFT_ALONE) <= now);
                if is_untold || (line.is_unanswered(now) && (line.is_ours || is_here)) {
                    due.push(key.clone());
                }
            }
        }
        due
    }

    /// The end has just been told: that takes a moment.
    fn left_alone(&self, key: &str, now: Timestamp) {
        let mut things = self.things();
        let thing = super::thing_of(key).and_then(|token| things.known.get_mut(token));
        if let Some(line) = thing.and_then(|thing| thing.lines.get_mut(key)) {
            line.ended = Some(now);
        }
    }

    /// Ends what was not answered, or tells the end that there is.
    async fn close(&self, key: &str) -> Result<(), entry::Away> {
        let now = Timestamp::now();
        let changed = self
            .change(key, |pending| {
                if pending.end.is_some() {
                    return Wish::Already;
                }
                if pending.state == State::Queued || now < pending.expires {
                    return Wish::Refuse;
                }
                let told = Told::of(State::Unknown).because(UNANSWERED);
                Wish::Write(Box::new(pending.to_ended(pending.ending(told::STAGE, told, now))))
            })
            .await?;
        match changed {
            Changed::Done(pending, revision) => self.tell_end(key, &pending, revision),
            Changed::Already(pending, revision) => {
                self.tell_end(key, &pending, revision);
                self.left_alone(key, now);
            }
            Changed::Refused | Changed::Gone => {}
        }
        Ok(())
    }
}
