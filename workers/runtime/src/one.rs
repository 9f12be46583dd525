//! The loop of a [`Worker`]: many messages in hand, one for each thing in the worker's code.
use crate::{
    Delivery, Verdict, Worker,
    arrival::Road,
    consume::{CHUNK, Inbox, Item},
    fault,
    line::{Answer, Line, Work},
    outage::Permit,
    turns::{Queue, Turns},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{panic::AssertUnwindSafe, time::Duration};
use telltale_schemas::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// `handle` futures at once.
const HANDLERS_MAX: usize = 32;
/// Of these for what failed before: a message that hangs must not take the place of those that were never tried.
const AGAIN_MAX: usize = 8;
/// Messages that wait for their turn; no more are asked for beyond it.
const WAITING_MAX: usize = CHUNK;
/// How often it is looked whether something in hand must be kept alive.
const BEAT: Duration = Duration::from_millis(250);

/// Limits of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) handle: Duration,
    pub(crate) drain: Duration,
}

type Waiting<I> = (Item, Delivery<I>);
type Handled<O> = (String, Work, Instant, Answer<O>);

struct Loop<'w, W: Worker> {
    worker: &'w W,
    line: Line,
    turns: Turns<String, Waiting<W::Input>>,
    running: FuturesUnordered<BoxFuture<'w, Handled<W::Output>>>,
    /// How many of these failed before.
    running_again: usize,
    limits: Limits,
}

/// Runs until told to stop, then drains.
pub(crate) async fn run<W: Worker>(
    worker: &W,
    line: Line,
    mut inbox: Inbox,
    limits: Limits,
    stop: &CancellationToken,
) {
    let mut at = Loop {
        worker,
        line,
        turns: Turns::new(),
        running: FuturesUnordered::new(),
        running_again: 0,
        limits,
    };
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        at.begin().await;
        at.send();
        // What was asked for is taken up even then: only what is in hand is kept alive.
        let has_room = at.turns.len() < WAITING_MAX && !at.line.outbox.is_full();
        inbox.ask(has_room && !at.line.outage.is_on());
        let until = at.line.outage.until();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            returned = at.line.outbox.back(), if at.line.outbox.has_flying() => at.line.came_back(returned).await,
            Some(handled) = at.running.next(), if !at.running.is_empty() => at.ended(handled).await,
            chunk = inbox.take(CHUNK) => at.take_up(chunk).await,
            _ = beat.tick() => at.line.beat().await,
            () = wait_until(until) => {}
        }
        // The connection's own task has to run too.
        tokio::task::yield_now().await;
    }
    at.drain(inbox).await;
}

/// Returns at once when that moment has passed; the caller then sees what it may do. Never, without one.
pub(crate) async fn wait_until(moment: Option<Instant>) {
    match moment {
        // Between the end of the pause and the answer to the attempt there is nothing to do here.
        Some(moment) if moment > Instant::now() => tokio::time::sleep_until(moment).await,
        _ => std::future::pending().await,
    }
}

impl<W: Worker> Loop<'_, W> {
    async fn take_up(&mut self, chunk: Vec<crate::consume::Pulled>) {
        for pulled in chunk {
            for item in self.line.take_up(pulled).await {
                if let Some(delivery) = self.line.decode::<W::Input>(&item).await {
                    let (thing, queue) = (delivery.thing().to_owned(), queue(&item));
                    self.turns.push(thing, queue, (item, delivery));
                }
            }
        }
        self.line.show();
    }

    /// Begins what may begin.
    async fn begin(&mut self) {
        loop {
            let idle = self.running.is_empty() && !self.line.outbox.has_flying();
            match self.line.outage.permit(idle) {
                Permit::All => {}
                Permit::One if !self.line.outbox.has_blocked() => {}
                Permit::One | Permit::None => return,
            }
            if self.running.len() >= HANDLERS_MAX || self.line.outbox.is_full() {
                return;
            }
            let Some((thing, (item, delivery))) = self.next() else {
                return;
            };
            if let Some(handled) = self.handle(thing, item, delivery) {
                self.handled(handled).await;
            }
        }
    }

    /// Neither queue can stop the other.
    fn next(&mut self) -> Option<(String, Waiting<W::Input>)> {
        let order: &[Queue] = match self.running_again {
            0 => &[Queue::Again, Queue::First],
            1..AGAIN_MAX => &[Queue::First, Queue::Again],
            _ => &[Queue::First],
        };
        order.iter().find_map(|queue| self.turns.next(*queue))
    }

    /// Calls the worker. What it can answer without waiting costs no task and no timer.
    fn handle(
        &mut self,
        thing: String,
        item: Item,
        delivery: Delivery<W::Input>,
    ) -> Option<Handled<W::Output>> {
        let work = Work {
            item,
            cause: delivery.cause.clone(),
            started: Timestamp::now(),
        };
        let begun = Instant::now();
        let span = tracing::info_span!(
            "handle",
            thing = %thing,
            subject = %work.item.arrival.subject,
            id = %work.cause.id,
            attempt = work.cause.attempt,
            traceparent = work.cause.traceparent.as_deref(),
        );
        let worker = self.worker;
        let handle = async move {
            fault::handler(delivery.thing()).await?;
            worker.handle(delivery).await
        };
        let mut future = AssertUnwindSafe(tracing::Instrument::instrument(handle, span))
            .catch_unwind()
            .boxed();
        if let Some(result) = future.as_mut().now_or_never() {
            return Some((thing, work, begun, answer(result)));
        }
        let limit = self.limits.handle;
        if queue(&work.item) == Queue::Again {
            self.running_again += 1;
        }
        self.running.push(
            async move {
                let answer = match tokio::time::timeout(limit, future).await {
                    Ok(result) => answer(result),
                    Err(_) => Answer::Timeout(limit),
                };
                (thing, work, begun, answer)
            }
            .boxed(),
        );
        None
    }

    /// One of those that took their time.
    async fn ended(&mut self, handled: Handled<W::Output>) {
        if queue(&handled.1.item) == Queue::Again {
            self.running_again -= 1;
        }
        self.handled(handled).await;
    }

    async fn handled(&mut self, (thing, work, begun, answer): Handled<W::Output>) {
        self.line
            .metrics
            .handle_seconds
            .observe(begun.elapsed().as_secs_f64());
        match self.line.conclude(work, answer).await {
            None => self.turns.done(&thing),
            // The same bytes give the same delivery.
            Some(held) => match self.line.decode::<W::Input>(&held.item).await {
                Some(delivery) => {
                    let queue = queue(&held.item);
                    self.turns.again(thing, queue, (held.item, delivery));
                }
                None => self.turns.done(&thing),
            },
        }
    }

    fn send(&mut self) {
        let idle = self.running.is_empty() && !self.line.outbox.has_flying();
        match self.line.outage.permit(idle) {
            Permit::All => self.line.outbox.send(),
            // Nothing is left to find out with: what comes next will show.
            Permit::One if !self.line.outbox.send_one() => self.line.outage.succeeded(),
            Permit::One | Permit::None => {}
        }
    }

    /// Finishes what is begun, gives back the rest.
    async fn drain(mut self, inbox: Inbox) {
        let deadline = Instant::now() + self.limits.drain;
        self.turns.clear();
        tracing::info!(in_hand = self.line.desk.len(), "draining");
        let finish = async {
            loop {
                self.line.outbox.send();
                if self.running.is_empty() && !self.line.outbox.has_flying() {
                    break;
                }
                tokio::select! {
                    returned = self.line.outbox.back(), if self.line.outbox.has_flying() => {
                        self.line.came_back(returned).await;
                    }
                    Some((_, work, _, answer)) = self.running.next(), if !self.running.is_empty() => {
                        self.line.conclude(work, answer).await;
                    }
                }
                if self.line.outage.is_on() && self.running.is_empty() {
                    break;
                }
            }
        };
        let (closed, finished) =
            tokio::join!(inbox.close(deadline), tokio::time::timeout_at(deadline, finish));
        let () = closed;
        if finished.is_err() {
            tracing::warn!("not all was finished in time; it is given back");
        }
        self.line.desk.give_back().await;
        self.line.desk.flush().await;
    }
}

fn queue(item: &Item) -> Queue {
    if item.arrival.road == Road::Again {
        Queue::Again
    } else {
        Queue::First
    }
}

/// What a caught future answered.
pub(crate) fn answer<O>(result: Result<Verdict<O>, Box<dyn std::any::Any + Send>>) -> Answer<O> {
    match result {
        Ok(verdict) => Answer::Verdict(verdict),
        Err(panic) => Answer::Panic(panic_text(panic.as_ref())),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    text.chars().take(200).collect()
}
