//! The loop of a worker that answers in order (ADR 0023).
//!
//! One copy reads. It is given each message once, in the order of the stream, and its state is kept together with the
//! number of the last message in it. Whoever takes over, after a crash or a stop, is given that state and every message
//! since: the durable is set back to there. What followed from messages that had been acknowledged was published, and
//! is not published again.
mod lease;
mod place;
mod state;

use crate::{
    Failure, Fatal, Made, OrderedWorker,
    arrival::Road,
    compose::{self, Written},
    consume::{CHUNK, End, Inbox, Item, Pulled},
    daemon::Daemon,
    line::{Answer, Line, Work},
    metrics::Outcome,
    one::panic_text,
    outage::Permit,
    outbox::Follow,
    verdict::Why,
};
use anyhow::Context as _;
use futures::FutureExt as _;
use lease::Lease;
use place::{Gap, Place};
use state::Kept;
use std::{collections::VecDeque, panic::AssertUnwindSafe, time::Duration};
use telltale_nats::{Lane, manifest::STATE_BUCKET};
use telltale_schemas::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};

/// What is in hand is kept alive, the lease renewed, and silence noticed so often.
const BEAT: Duration = Duration::from_millis(250);
/// The state is kept so often, if anything came: what came since is computed again after a crash.
const KEEPS: Duration = Duration::from_secs(10);
/// Messages before the last acknowledged one from which all is computed anew where no state was kept.
const WARMS_UP: u64 = 200_000;

/// What the loop needs beside the worker and its line.
pub(crate) struct Ground<'d> {
    pub(crate) daemon: &'d Daemon,
    pub(crate) name: &'static str,
    pub(crate) reads: &'static [Lane],
    pub(crate) drain: Duration,
    /// Whether this copy reads, for people.
    pub(crate) active: prometheus::IntGauge,
}

struct Loop<'w, W: OrderedWorker> {
    worker: &'w mut W,
    line: Line,
    ground: Ground<'w>,
    place: Place,
    kept: Kept,
    /// Taken from the durable, not handled yet.
    queue: VecDeque<Item>,
    /// The last message of the stream that was handled.
    handled: u64,
    /// Whether what silence brought is on its way: nothing is handled until it is confirmed, or a crash would find
    /// later messages acknowledged, and take it for published.
    silent: bool,
    /// Whether the state is to be kept as soon as nothing is on its way.
    due: bool,
    kept_at: Instant,
    heard_at: Instant,
}

/// Stands by until this copy is the one that reads; reads until told to stop.
pub(crate) async fn run<W: OrderedWorker>(
    worker: &mut W,
    line: Line,
    ground: Ground<'_>,
) -> anyhow::Result<()> {
    let context = telltale_nats::client::context(ground.daemon.client().clone());
    let store = context.get_key_value(STATE_BUCKET).await.map_err(|error| {
        Fatal::Precondition(format!(
            "bucket `{STATE_BUCKET}`: {error}; run `telltale provision`"
        ))
    })?;
    let stop = ground.daemon.stop();
    let Some(mut lease) = Lease::acquire(store.clone(), ground.name, ground.daemon.instance(), stop).await
    else {
        return Ok(());
    };
    ground.active.set(1);
    tracing::info!("this copy reads");
    let (kept, state) = Kept::read(store, ground.name).await?;
    let place = Place::new(context, ground.name, ground.reads)?;
    let mut at = Loop {
        worker,
        line,
        ground,
        place,
        kept,
        queue: VecDeque::new(),
        handled: 0,
        silent: false,
        due: false,
        kept_at: Instant::now(),
        heard_at: Instant::now(),
    };
    let begin = at.take_up_state(state).await?;
    at.worker.refresh().await;
    let ended = at.read(begin, &mut lease).await;
    at.ground.active.set(0);
    if ended.is_ok() {
        lease.release().await;
    }
    ended
}

impl<W: OrderedWorker> Loop<'_, W> {
    /// Restores the state; the message to go on after.
    async fn take_up_state(&mut self, state: Option<Vec<u8>>) -> anyhow::Result<u64> {
        let durable = self.place.look().await?;
        if self.kept.mark().durable != durable.made && self.kept.mark().durable != 0 {
            tracing::warn!("the stream was made anew; going on at its beginning");
            self.kept.forget_place();
        }
        let told = self.kept.mark().told.max(durable.acknowledged);
        self.kept.note(told, durable.made).await?;
        if let Some(state) = state {
            match self.worker.restore(&state) {
                Ok(()) => return Ok(self.kept.mark().sequence),
                Err(error) => tracing::error!("what was kept is of no use, all is computed anew: {error:#}"),
            }
        }
        Ok(told.saturating_sub(WARMS_UP))
    }

    /// Reads from after that message; begins again wherever the order was broken.
    async fn read(&mut self, mut after: u64, lease: &mut Lease) -> anyhow::Result<()> {
        loop {
            self.place.rewind(after).await?;
            self.handled = after;
            let inbox =
                Inbox::bind(self.ground.daemon, self.ground.name, self.ground.reads, 2 * CHUNK).await?;
            if self.follow(inbox, lease).await?.is_none() {
                return Ok(());
            }
            self.queue.clear();
            after = self.handled;
            tracing::warn!(after, "messages were lost on their way; asking for them again");
        }
    }

    /// Handles what comes, until told to stop (`None`) or until something is missing.
    async fn follow(&mut self, mut inbox: Inbox, lease: &mut Lease) -> anyhow::Result<Option<Gap>> {
        let stop = self.ground.daemon.stop().clone();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.send();
            self.handle_queue().await?;
            self.send();
            let has_room = self.queue.is_empty() && !self.line.outbox.is_full() && !self.line.outage.is_on();
            inbox.ask(has_room && lease.is_trusted());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                returned = self.line.outbox.back(), if self.line.outbox.has_flying() => {
                    self.line.came_back(returned).await;
                }
                chunk = inbox.take(CHUNK), if self.queue.is_empty() => {
                    for pulled in chunk {
                        // What is on its way to this inbox comes to the next one again.
                        if let Some(gap) = self.take_up(pulled).await {
                            return Ok(Some(gap));
                        }
                    }
                }
                _ = beat.tick() => {
                    self.line.beat().await;
                    if let Err(lost) = lease.renew().await {
                        inbox.close(Instant::now() + self.ground.drain).await;
                        self.line.desk.give_back().await;
                        self.line.desk.flush().await;
                        return Err(lost.into());
                    }
                    self.look_around().await?;
                }
            }
            tokio::task::yield_now().await;
        }
        self.drain(inbox).await?;
        Ok(None)
    }

    async fn take_up(&mut self, pulled: Pulled) -> Option<Gap> {
        self.heard_at = Instant::now();
        if pulled.through.road == Road::Lane {
            match self.place.next(&pulled.message) {
                Ok(true) => {}
                // It was handled; only that was not heard.
                Ok(false) => {
                    self.line.desk.done_before(&pulled).await;
                    return None;
                }
                Err(gap) => return Some(gap),
            }
        }
        // What was delivered too often was not held against it: whoever begins again is given much again.
        let items = self.line.take_up(pulled).await;
        self.queue.extend(items);
        None
    }

    /// Handles what was taken, in order, as far as that is possible now.
    async fn handle_queue(&mut self) -> anyhow::Result<()> {
        let idle = !self.line.outbox.has_flying();
        if self.silent || self.due {
            if !idle || self.line.outbox.has_blocked() {
                return Ok(());
            }
            self.silent = false;
            if self.due {
                self.keep().await?;
            }
        }
        match self.line.outage.permit(idle) {
            Permit::One if self.line.outbox.has_blocked() => return Ok(()),
            Permit::None => return Ok(()),
            Permit::All | Permit::One => {}
        }
        while let Some(item) = self.queue.pop_front() {
            let place = item.arrival.sequence.filter(|_| item.arrival.road == Road::Lane);
            if let Some(item) = self.handle(item).await {
                self.queue.push_front(item);
                break;
            }
            self.handled = place.unwrap_or(self.handled);
            if self.line.outbox.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// One message; it comes back if it has to wait.
    async fn handle(&mut self, item: Item) -> Option<Item> {
        let delivery = self.line.decode::<W::Input>(&item).await?;
        let cause = delivery.cause.clone();
        let started = Timestamp::now();
        let begun = Instant::now();
        // Over its own road a message has no place in the stream: it counts as stored when the newest one was.
        let stored = match item.arrival.road {
            Road::Lane => self.place.stored(item.arrival.stored),
            Road::Alone | Road::Again => self.place.clock().unwrap_or(item.arrival.stored),
        };
        let handled = AssertUnwindSafe(self.worker.handle(delivery, stored))
            .catch_unwind()
            .await;
        let seconds = begun.elapsed().as_secs_f64();
        self.line.metrics.handle_seconds.observe(seconds);
        let failure = match handled {
            Ok(Ok(made)) => {
                self.publish(Some(item), started, made).await;
                return None;
            }
            Ok(Err(Failure(Why::Outage { error }))) => {
                self.line.outage.begin(&format!("{error:#}"));
                return Some(item);
            }
            // Trying later would be out of order: a message that cannot be handled now never can.
            Ok(Err(Failure(Why::Retry { error, .. }))) => Failure::reject_for(
                "failed",
                vec![telltale_schemas::kinds::Fault::at("", format!("{error:#}"))],
            ),
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::reject_for(
                "panic",
                vec![telltale_schemas::kinds::Fault::at("", panic_text(panic.as_ref()))],
            ),
        };
        let work = Work { item, cause, started };
        self.line
            .conclude::<W::Output>(work, Answer::Verdict(Err(failure)))
            .await;
        None
    }

    /// Publishes what follows from a message, or from silence; not what was published before a crash.
    async fn publish(&mut self, item: Option<Item>, started: Timestamp, made: Vec<Made<W::Output>>) {
        self.line.outage.succeeded();
        // Over its own road a message has no place among those.
        let told = self.kept.mark().told;
        let is_told = match &item {
            Some(item) => {
                let place = item.arrival.sequence.filter(|_| item.arrival.road == Road::Lane);
                place.is_some_and(|place| place <= told)
            }
            // What silence brought after a message is known to be told once the next one was acknowledged, not before.
            None => self.handled < told,
        };
        let mut follow = Follow::default();
        let mut first = None;
        for (n, made) in made.into_iter().enumerate() {
            if is_told {
                continue;
            }
            let stage = self.line.writer.stage;
            let hop = compose::hop(stage, made.cause.attempt, started, Timestamp::now());
            let hops = compose::hops(&made.cause.hops, &hop);
            match self.line.writer.write(&made.cause, &hops, n, made.draft) {
                Ok(Written::Single(outgoing, lane)) => follow.singles.push((outgoing, Some(lane))),
                Ok(Written::Reading(reading)) => follow.readings.push(reading),
                Err(error) => {
                    // No message is to blame, and none is to be held up by it.
                    self.line.metrics.processed(Outcome::Failed);
                    tracing::error!(cause = %made.cause.id, "what follows cannot be written: {:#}", anyhow::Error::from(error));
                }
            }
            first.get_or_insert(made.cause);
        }
        let is_empty = follow.singles.is_empty() && follow.readings.is_empty();
        match (item, first) {
            (Some(item), _) if is_empty => self.line.filtered(&item).await,
            (Some(item), Some(cause)) => {
                self.line.metrics.processed(Outcome::Emitted);
                self.line.outbox.put(item, (*cause).clone(), End::Ack, follow);
            }
            (None, Some(cause)) if !is_empty => {
                self.silent = true;
                let item = Item::of_nobody(&cause);
                self.line.outbox.put(item, (*cause).clone(), End::Ack, follow);
            }
            _ => {}
        }
    }

    fn send(&mut self) {
        let idle = !self.line.outbox.has_flying();
        match self.line.outage.permit(idle) {
            Permit::All => self.line.outbox.send(),
            Permit::One if !self.line.outbox.send_one() => self.line.outage.succeeded(),
            Permit::One | Permit::None => {}
        }
    }

    /// Between messages: what people have changed, what silence means, and whether to keep the state.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        if !self.queue.is_empty() || self.silent || self.line.outage.is_on() {
            return Ok(());
        }
        if self.worker.refresh().await {
            self.due = true;
        }
        if self.worker.waits()
            && self.heard_at.elapsed() >= BEAT
            && let Some(until) = self.place.silent_until().await
        {
            match self.worker.passed(until).await {
                Ok(made) if made.is_empty() => {}
                Ok(made) => self.publish(None, Timestamp::now(), made).await,
                Err(failure) => self.line.outage.begin(&format!("{failure:?}")),
            }
        }
        if self.kept_at.elapsed() >= KEEPS && self.handled > self.kept.mark().sequence {
            self.due = true;
        }
        Ok(())
    }

    /// Writes the state. Nothing is on its way.
    async fn keep(&mut self) -> anyhow::Result<()> {
        self.due = false;
        self.kept_at = Instant::now();
        let state = self.worker.keep().context("write the state")?;
        match self.kept.write(&state, self.handled, self.place.made()).await {
            Ok(()) => tracing::debug!(bytes = state.len(), sequence = self.handled, "the state is kept"),
            // The one before still holds.
            Err(error) => tracing::warn!("the state could not be kept: {error:#}"),
        }
        Ok(())
    }

    /// Finishes what is on its way, gives back the rest, and keeps the state.
    async fn drain(&mut self, inbox: Inbox) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.ground.drain;
        self.queue.clear();
        tracing::info!(in_hand = self.line.desk.len(), "draining");
        let line = &mut self.line;
        let finish = async {
            line.outbox.send();
            while line.outbox.has_flying() && !line.outage.is_on() {
                let returned = line.outbox.back().await;
                line.came_back(returned).await;
                line.outbox.send();
            }
        };
        let ((), finished) = tokio::join!(inbox.close(deadline), tokio::time::timeout_at(deadline, finish));
        if finished.is_ok() && !self.line.outage.is_on() && !self.line.outbox.has_blocked() {
            self.keep().await?;
        }
        self.line.desk.give_back().await;
        self.line.desk.flush().await;
        Ok(())
    }
}
