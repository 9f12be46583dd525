//! The loop of a [`BatchWorker`]: collects while a batch is being handled.
use crate::{
    BatchWorker, Delivery, Failure, Verdict,
    consume::{CHUNK, End, Inbox, Item, Pulled},
    fault,
    line::{Answer, Line, Work},
    one::{Limits, panic_text, wait_until},
    outage::Permit,
    verdict::Why,
};
use futures::{FutureExt as _, future::BoxFuture};
use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use telltale_schemas::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether something in hand must be kept alive.
const BEAT: Duration = Duration::from_millis(250);

/// Deliveries that are handled together. Shared with the future that handles them, so that a panic loses nothing.
struct Batch<I> {
    items: Vec<Item>,
    deliveries: Arc<Vec<Delivery<I>>>,
}

enum Ended<O> {
    Verdicts(Vec<Verdict<O>>),
    /// The whole batch.
    Failed(Failure),
    Panic(String),
    Timeout,
}

type Handled<W> = (
    Batch<<W as BatchWorker>::Input>,
    Timestamp,
    Instant,
    Ended<<W as BatchWorker>::Output>,
);

struct Loop<'w, W: BatchWorker> {
    worker: &'w W,
    line: Line,
    collected: Vec<(Item, Delivery<W::Input>)>,
    /// Since when the oldest of them waits.
    since: Instant,
    /// Batches to handle before anything that is collected: halves, and what had to be held.
    ahead: VecDeque<Batch<W::Input>>,
    /// What may be guilty is judged alone, in turns with what is collected.
    apart: VecDeque<Batch<W::Input>>,
    was_apart: bool,
    running: Option<BoxFuture<'w, Handled<W>>>,
    limits: Limits,
}

/// Runs until told to stop, then drains.
pub(crate) async fn run<W: BatchWorker>(
    worker: &W,
    line: Line,
    mut inbox: Inbox,
    limits: Limits,
    stop: &CancellationToken,
) {
    let mut at = Loop {
        worker,
        line,
        collected: Vec::new(),
        since: Instant::now(),
        ahead: VecDeque::new(),
        apart: VecDeque::new(),
        was_apart: false,
        running: None,
        limits,
    };
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        at.begin().await;
        at.send();
        // What was asked for is taken up even then: only what is in hand is kept alive.
        let has_room = at.collected.len() < W::BATCH_MAX && !at.line.outbox.is_full();
        inbox.ask(has_room && !at.line.outage.is_on());
        let wake = at.wake();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            handled = next(&mut at.running) => at.handled(handled).await,
            returned = at.line.outbox.back(), if at.line.outbox.has_flying() => at.line.came_back(returned).await,
            chunk = inbox.take(CHUNK) => at.take_up(chunk).await,
            _ = beat.tick() => at.line.beat().await,
            () = wait_until(wake) => {}
        }
        tokio::task::yield_now().await;
    }
    at.drain(inbox).await;
}

/// The batch that is being handled; pending for ever without one.
async fn next<T>(running: &mut Option<BoxFuture<'_, T>>) -> T {
    match running {
        Some(future) => {
            let handled = future.await;
            *running = None;
            handled
        }
        None => std::future::pending().await,
    }
}

impl<W: BatchWorker> Loop<'_, W> {
    /// When there may be something to begin: at the end of an outage's pause, or of the time to collect.
    fn wake(&self) -> Option<Instant> {
        if let Some(until) = self.line.outage.until() {
            return Some(until);
        }
        (!self.collected.is_empty() && self.running.is_none()).then(|| self.since + W::LINGER)
    }

    async fn take_up(&mut self, chunk: Vec<Pulled>) {
        for pulled in chunk {
            for item in self.line.take_up(pulled).await {
                let Some(delivery) = self.line.decode::<W::Input>(&item).await else {
                    continue;
                };
                if item.arrival.road.is_own() {
                    self.apart.push_back(Batch::of(vec![(item, delivery)]));
                    continue;
                }
                if self.collected.is_empty() {
                    self.since = Instant::now();
                }
                self.collected.push((item, delivery));
            }
        }
        self.line.show();
    }

    async fn begin(&mut self) {
        let idle = self.running.is_none() && !self.line.outbox.has_flying();
        match self.line.outage.permit(idle) {
            Permit::One if self.line.outbox.has_blocked() => return,
            Permit::None => return,
            Permit::All | Permit::One => {}
        }
        if self.running.is_some() || self.line.outbox.is_full() {
            return;
        }
        let Some(batch) = self.next_batch() else { return };
        if fault::has_bug() {
            self.acknowledge_first(&batch).await;
        }
        let (worker, limit) = (self.worker, self.limits.handle);
        let (started, begun) = (Timestamp::now(), Instant::now());
        self.running = Some(
            async move {
                let deliveries = Arc::clone(&batch.deliveries);
                let span = tracing::info_span!("handle", batch = deliveries.len());
                let handled = AssertUnwindSafe(tracing::Instrument::instrument(
                    worker.handle_batch(&deliveries),
                    span,
                ))
                .catch_unwind();
                let ended = match tokio::time::timeout(limit, handled).await {
                    Ok(Ok(Ok(verdicts))) => Ended::Verdicts(verdicts),
                    Ok(Ok(Err(failure))) => Ended::Failed(failure),
                    Ok(Err(panic)) => Ended::Panic(panic_text(panic.as_ref())),
                    Err(_) => Ended::Timeout,
                };
                (batch, started, begun, ended)
            }
            .boxed(),
        );
    }

    /// The deliberate bug: what is lost with the process after this is lost.
    async fn acknowledge_first(&mut self, batch: &Batch<W::Input>) {
        for item in &batch.items {
            self.line.desk.settle(item.ticket, End::Ack).await;
        }
        self.line.desk.flush().await;
    }

    fn next_batch(&mut self) -> Option<Batch<W::Input>> {
        if let Some(batch) = self.ahead.pop_front() {
            return Some(batch);
        }
        let count = self.collected.len().min(W::BATCH_MAX);
        let is_due = count > 0 && (count == W::BATCH_MAX || self.since.elapsed() >= W::LINGER);
        self.was_apart = !self.apart.is_empty() && (!is_due || !self.was_apart);
        if self.was_apart {
            return self.apart.pop_front();
        }
        is_due.then(|| {
            let rest = self.collected.split_off(count);
            self.since = Instant::now();
            Batch::of(std::mem::replace(&mut self.collected, rest))
        })
    }

    async fn handled(&mut self, (batch, started, begun, ended): Handled<W>) {
        self.line
            .metrics
            .handle_seconds
            .observe(begun.elapsed().as_secs_f64());
        let count = batch.items.len();
        match ended {
            Ended::Verdicts(verdicts) if verdicts.len() == count => {
                let mut held = Vec::new();
                for ((item, place), verdict) in batch.items.iter().zip(0..).zip(verdicts) {
                    if verdict.as_ref().is_ok_and(|emit| emit.drafts().is_empty()) {
                        self.line.filtered(item).await;
                        continue;
                    }
                    let work = batch.work(item, place, started);
                    if self.line.conclude(work, Answer::Verdict(verdict)).await.is_some() {
                        held.push(place);
                    }
                }
                if !held.is_empty() {
                    self.hold(batch, &held).await;
                }
                self.line.desk.flush().await;
                self.line.show();
            }
            Ended::Verdicts(verdicts) => {
                let text = format!("{} verdicts for {count} messages", verdicts.len());
                self.halve(batch, started, |_| Answer::Panic(text.clone())).await;
            }
            Ended::Failed(Failure(Why::Outage { error })) => {
                self.line.outage.begin(&format!("{error:#}"));
                self.ahead.push_front(batch);
            }
            Ended::Failed(Failure(Why::Reject { reason, faults, .. })) => {
                self.halve(batch, started, |_| {
                    Answer::Verdict(Err(Failure::reject_for(reason.clone(), faults.clone())))
                })
                .await;
            }
            Ended::Failed(Failure(Why::Retry { error, after })) => {
                let text = format!("{error:#}");
                self.halve(batch, started, |_| {
                    let error = anyhow::anyhow!("{text}");
                    Answer::Verdict(Err(Failure(Why::Retry { error, after })))
                })
                .await;
            }
            Ended::Panic(text) => self.halve(batch, started, |_| Answer::Panic(text.clone())).await,
            Ended::Timeout => {
                let limit = self.limits.handle;
                self.each(batch, started, |_| Answer::Timeout(limit)).await;
            }
        }
    }

    /// One guilty message must not cost the others an attempt: they are tried again in halves, until it is alone.
    async fn halve(
        &mut self,
        batch: Batch<W::Input>,
        started: Timestamp,
        answer: impl Fn(usize) -> Answer<W::Output>,
    ) {
        let count = batch.items.len();
        if count == 1 {
            self.each(batch, started, answer).await;
            return;
        }
        let mut halves = [Vec::new(), Vec::new()];
        for (place, item) in batch.items.into_iter().enumerate() {
            if let Some(delivery) = self.line.decode::<W::Input>(&item).await {
                halves[usize::from(place >= count / 2)].push((item, delivery));
            }
        }
        for half in halves.into_iter().rev().filter(|half| !half.is_empty()) {
            self.ahead.push_front(Batch::of(half));
        }
    }

    async fn each(
        &mut self,
        batch: Batch<W::Input>,
        started: Timestamp,
        answer: impl Fn(usize) -> Answer<W::Output>,
    ) {
        for (place, item) in batch.items.iter().enumerate() {
            let work = batch.work(item, place, started);
            self.line.conclude(work, answer(place)).await;
        }
    }

    /// Those of a batch whose own verdict was an outage.
    async fn hold(&mut self, batch: Batch<W::Input>, places: &[usize]) {
        let mut held = Vec::new();
        for place in places {
            let item = batch.items[*place].clone();
            if let Some(delivery) = self.line.decode::<W::Input>(&item).await {
                held.push((item, delivery));
            }
        }
        if !held.is_empty() {
            self.ahead.push_front(Batch::of(held));
        }
    }

    fn send(&mut self) {
        let idle = self.running.is_none() && !self.line.outbox.has_flying();
        match self.line.outage.permit(idle) {
            Permit::All => self.line.outbox.send(),
            // Nothing is left to find out with: what comes next will show.
            Permit::One if !self.line.outbox.send_one() => self.line.outage.succeeded(),
            Permit::One | Permit::None => {}
        }
    }

    /// Finishes the batch that is begun, gives back the rest.
    async fn drain(mut self, inbox: Inbox) {
        let deadline = Instant::now() + self.limits.drain;
        self.collected.clear();
        self.ahead.clear();
        self.apart.clear();
        tracing::info!(in_hand = self.line.desk.len(), "draining");
        let finish = async {
            loop {
                self.line.outbox.send();
                if self.running.is_none() && !self.line.outbox.has_flying() {
                    break;
                }
                tokio::select! {
                    handled = next(&mut self.running) => self.handled(handled).await,
                    returned = self.line.outbox.back(), if self.line.outbox.has_flying() => {
                        self.line.came_back(returned).await;
                    }
                }
                if self.line.outage.is_on() && self.running.is_none() {
                    break;
                }
            }
        };
        let ((), finished) = tokio::join!(inbox.close(deadline), tokio::time::timeout_at(deadline, finish));
        if finished.is_err() {
            tracing::warn!("not all was finished in time; it is given back");
        }
        self.line.desk.give_back().await;
        self.line.desk.flush().await;
    }
}

impl<I> Batch<I> {
    fn of(parts: Vec<(Item, Delivery<I>)>) -> Self {
        let (items, deliveries) = parts.into_iter().unzip();
        Self {
            items,
            deliveries: Arc::new(deliveries),
        }
    }

    fn work(&self, item: &Item, place: usize, started: Timestamp) -> Work {
        Work {
            item: item.clone(),
            cause: self.deliveries[place].cause.clone(),
            started,
        }
    }
}
