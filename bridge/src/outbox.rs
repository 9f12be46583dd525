//! The way out: what is at hand is published as one group, so that many devices share one sync to disk, and
//! each is told only after the broker has confirmed.
use crate::{
    downlink::{Answering, Taken},
    metrics::{Metrics, Protocol},
    uplink::{Busy, Receipt},
};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use telltale_nats::publish::{Outgoing, PublishError, Publisher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::warn;

/// Uplinks that may wait for the broker.
const WAITING_MAX: usize = 8192;
/// Bytes that may wait for the broker.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most uplinks of one group; the broker takes at most 1 000 messages as one batch.
const GROUP_MAX: usize = 500;
/// A device that has waited so long behind an outage has better be told.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// One uplink on its way: all of its messages, and who waits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) messages: Vec<Outgoing>,
    protocol: Protocol,
    since: Instant,
    answer: oneshot::Sender<Result<(), Busy>>,
    _bytes: OwnedSemaphorePermit,
}

impl Job {
    /// Tells the waiting adapter, if it still waits, and counts.
    pub(crate) fn settle(self, result: Result<(), Busy>, metrics: &Metrics) {
        match result {
            Ok(()) => metrics.accepted(self.protocol),
            Err(busy) => metrics.refused(self.protocol, busy.word()),
        }
        // A device that has gone meanwhile is told nothing; its message is stored all the same.
        let _told = self.answer.send(result);
    }
}

/// Where adapters put uplinks.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    jobs: mpsc::Sender<Job>,
    bytes: Arc<Semaphore>,
}

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(WAITING_MAX);
        (
            Self {
                jobs,
                bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            },
            receiver,
        )
    }

    /// Puts it in line. In the order of the calls, and without waiting: what finds no room is told so.
    pub(crate) fn put(
        &self,
        messages: Vec<Outgoing>,
        ids: Vec<String>,
        protocol: Protocol,
    ) -> Result<Pending, Busy> {
        let size: usize = messages
            .iter()
            .map(|message| message.payload.len() + message.subject.len())
            .sum();
        let size = u32::try_from(size).map_err(|_| Busy::Crowded)?;
        let bytes = self
            .bytes
            .clone()
            .try_acquire_many_owned(size)
            .map_err(|_| Busy::Crowded)?;
        let (answer, receiver) = oneshot::channel();
        let job = Job {
            messages,
            protocol,
            since: Instant::now(),
            answer,
            _bytes: bytes,
        };
        self.jobs.try_send(job).map_err(|_| Busy::Crowded)?;
        Ok(Pending(State::Waiting {
            answer: receiver,
            ids,
        }))
    }
}

/// A receipt that is not there yet. The uplink is on its way whether or not anybody waits.
#[derive(Debug)]
pub struct Pending(State);

#[derive(Debug)]
enum State {
    Known(Option<Receipt>),
    Waiting {
        answer: oneshot::Receiver<Result<(), Busy>>,
        ids: Vec<String>,
    },
    Answer {
        taken: Answering,
        id: String,
    },
}

impl Pending {
    /// Of an answer to the command of that id.
    pub(crate) fn of_answer(taken: Answering, id: String) -> Self {
        Self(State::Answer { taken, id })
    }
}

impl From<Receipt> for Pending {
    fn from(receipt: Receipt) -> Self {
        Self(State::Known(Some(receipt)))
    }
}

impl Future for Pending {
    type Output = Receipt;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Receipt> {
        match &mut self.0 {
            State::Known(receipt) => Poll::Ready(receipt.take().expect("polled again after it was ready")),
            State::Waiting { answer, ids } => Pin::new(answer).poll(context).map(|answer| match answer {
                Ok(Ok(())) => Receipt::Accepted(std::mem::take(ids)),
                Ok(Err(busy)) => Receipt::Busy(busy),
                // The outbox has ended with the process.
                Err(_) => Receipt::Busy(Busy::Away),
            }),
            State::Answer { taken, id } => Pin::new(taken).poll(context).map(|taken| match taken {
                Ok(Ok(Taken::Taken)) => Receipt::Accepted(vec![std::mem::take(id)]),
                Ok(Ok(Taken::Late)) => Receipt::Late,
                Ok(Err(_)) | Err(_) => Receipt::Busy(Busy::Away),
            }),
        }
    }
}

/// Publishes until every sender is gone and all is settled.
pub(crate) async fn run(
    mut jobs: mpsc::Receiver<Job>,
    publisher: Publisher,
    is_connected: impl Fn() -> bool,
    metrics: Metrics,
) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while jobs.recv_many(&mut group, GROUP_MAX).await > 0 {
        let reachable = is_connected();
        let (fresh, late): (Vec<Job>, Vec<Job>) = group
            .drain(..)
            .partition(|job| reachable && job.since.elapsed() < WAIT_MAX);
        for job in late {
            job.settle(Err(Busy::Away), &metrics);
        }
        publish(fresh, &publisher, &metrics).await;
    }
}

async fn publish(mut group: Vec<Job>, publisher: &Publisher, metrics: &Metrics) {
    if group.is_empty() {
        return;
    }
    let counts: Vec<usize> = group.iter().map(|job| job.messages.len()).collect();
    let messages = group
        .iter_mut()
        .flat_map(|job| std::mem::take(&mut job.messages))
        .collect();
    let mut results = publisher.publish(messages).await.into_iter();
    for (job, count) in group.into_iter().zip(counts) {
        let mut settled = Ok(());
        for result in results.by_ref().take(count) {
            settled = settled.and(result.map(drop).map_err(|error| busy(&error)));
        }
        job.settle(settled, metrics);
    }
}

/// Size and shape were judged before: whatever the broker has against a message is its own trouble.
fn busy(error: &PublishError) -> Busy {
    match error {
        PublishError::Full | PublishError::CapForSubject => Busy::Full,
        PublishError::Busy => Busy::Crowded,
        PublishError::Away(_) => Busy::Away,
        other => {
            warn!("the broker refuses an uplink: {other}");
            Busy::Away
        }
    }
}
