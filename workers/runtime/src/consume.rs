//! What is in hand: taken from the durables, kept alive, and acknowledged. Nothing else acknowledges.
use crate::{
    Cause,
    arrival::{Arrival, Through},
    bind::Source,
    daemon::Daemon,
    fault::{self, Point},
    pull::{EXPIRES, Valve},
};
use async_nats::{
    Client,
    connection::State,
    jetstream::{self, AckKind},
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream, stream::SelectAll};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use telltale_nats::Lane;
use telltale_schemas::Timestamp;
use tokio::{sync::watch, time::Instant};

/// Most messages taken up in one go. Around this number throughput does not change; far below it does.
pub(crate) const CHUNK: usize = 500;
/// After such a silence, not even broken by word that our requests have expired, it is asked whether the broker is away.
const CLOSES: Duration = Duration::from_secs(2);
/// What a draining copy gives back comes again after this time, when that copy's own requests have ended.
const GIVEN_BACK: Duration = EXPIRES.saturating_add(Duration::from_millis(200));

/// A message as it came out of a durable.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) message: jetstream::Message,
    pub(crate) through: Through,
    pub(crate) ack_wait: Duration,
}

/// All durables of a worker, merged.
pub(crate) struct Inbox {
    sources: SelectAll<BoxStream<'static, Pulled>>,
    valve: watch::Sender<Valve>,
    client: Client,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("valve", &self.valve)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// Binds all durables of the worker that reads those lanes.
    pub(crate) async fn bind(
        daemon: &Daemon,
        name: &'static str,
        lanes: &[Lane],
        prefetch: usize,
    ) -> anyhow::Result<Self> {
        let valve = daemon.valve().clone();
        let streams: BTreeSet<&'static str> = lanes.iter().map(|lane| lane.stream()).collect();
        let mut sources = SelectAll::new();
        for source in Source::bind_all(daemon, name, streams, prefetch).await? {
            sources.push(
                futures::stream::unfold(Box::new(source), |mut source| async move {
                    let pulled = source.next().await?;
                    Some((pulled, source))
                })
                .boxed(),
            );
        }
        Ok(Self {
            sources,
            valve,
            client: daemon.client().clone(),
        })
    }

    /// What is at hand, at least one and at most `max`. May be dropped and called again without loss.
    pub(crate) async fn take(&mut self, max: usize) -> Vec<Pulled> {
        // tokio would cut the chunk at 128 otherwise.
        tokio::task::unconstrained(async {
            let mut chunk: Vec<_> = self.sources.next().await.into_iter().collect();
            while chunk.len() < max
                && let Some(Some(pulled)) = self.sources.next().now_or_never()
            {
                chunk.push(pulled);
            }
            chunk
        })
        .await
    }

    /// Whether more is asked for. What was asked for before still comes.
    pub(crate) fn ask(&self, open: bool) {
        self.valve.send_if_modified(|valve| {
            let changed = valve.open != open;
            valve.open = open;
            changed
        });
    }

    /// Asks for no more and gives back what still comes, so that another copy has it at once: until nothing is owed any
    /// more, the broker is away, or `deadline`.
    pub(crate) async fn close(mut self, deadline: Instant) {
        self.valve.send_modify(|valve| {
            valve.open = false;
            valve.closed = true;
        });
        let mut returned = 0_usize;
        loop {
            let patience = deadline.min(Instant::now() + CLOSES);
            match tokio::time::timeout_at(patience, self.sources.next()).await {
                Ok(Some(pulled)) => {
                    nak(&pulled.message, GIVEN_BACK).await;
                    returned += 1;
                }
                // A broker whose disk is slow is silent for seconds, and then sends what it owes.
                Err(_) if self.client.connection_state() == State::Connected && Instant::now() < deadline => {
                }
                Ok(None) | Err(_) => break,
            }
        }
        tracing::debug!(returned, "gave back {returned} messages that were not begun");
    }
}

/// Names a message in hand.
pub(crate) type TicketId = u64;

/// How the work on a message, or on one reading of a pack, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Done with.
    Ack,
    /// Done with, and never to come again; why, in a word.
    Term(String),
    /// To come again after that time.
    Nak(Duration),
}

struct Ticket {
    message: jetstream::Message,
    arrival: Arc<Arrival>,
    /// Parts whose end is not known yet.
    open: usize,
    end: End,
    /// When the broker last heard that we have it.
    told: Instant,
    ack_wait: Duration,
}

/// One message to work on: a whole one, or one reading of a pack.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) ticket: TicketId,
    pub(crate) arrival: Arc<Arrival>,
    pub(crate) body: Bytes,
    pub(crate) hops: String,
    /// Which of a pack's readings: until its envelope is read, a pack's place is no name for one of them.
    pub(crate) part: Option<usize>,
}

impl Item {
    /// For what follows from no message that is in hand: it ends, and nothing is acknowledged.
    pub(crate) fn of_nobody(cause: &Cause) -> Self {
        Self {
            ticket: TicketId::MAX,
            arrival: Arc::new(Arrival::of_nobody(cause)),
            body: Bytes::new(),
            hops: cause.hops.clone(),
            part: None,
        }
    }
}

/// Everything in hand that is not acknowledged yet.
pub(crate) struct Desk {
    client: Client,
    tickets: HashMap<TicketId, Ticket>,
    next: TicketId,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("tickets", &self.tickets.len())
            .finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            tickets: HashMap::new(),
            next: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// When the broker stored the oldest of it.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.tickets.values().map(|ticket| ticket.arrival.stored).min()
    }

    /// Takes a message in hand, in that many parts.
    pub(crate) fn open(&mut self, pulled: Pulled, arrival: Arc<Arrival>, parts: usize) -> TicketId {
        let id = self.next;
        self.next += 1;
        self.tickets.insert(
            id,
            Ticket {
                message: pulled.message,
                arrival,
                open: parts,
                end: End::Ack,
                told: Instant::now(),
                ack_wait: pulled.ack_wait,
            },
        );
        id
    }

    /// Gives a message back that was not taken in hand: it is to come again after that time.
    pub(crate) async fn put_off(&self, pulled: &Pulled, after: Duration) {
        nak(&pulled.message, after).await;
    }

    /// Says again that a message was done with, where that was not heard.
    pub(crate) async fn done_before(&self, pulled: &Pulled) {
        if let Err(error) = pulled.message.ack().await {
            tracing::debug!("acknowledge: {error}");
        }
    }

    /// The message behind a ticket.
    pub(crate) fn message(&self, ticket: TicketId) -> Option<&jetstream::Message> {
        self.tickets.get(&ticket).map(|ticket| &ticket.message)
    }

    /// One part has ended; with the last one the broker is told. A pack comes again if one of its parts must.
    pub(crate) async fn settle(&mut self, id: TicketId, end: End) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.end = worse(std::mem::replace(&mut ticket.end, End::Ack), end);
        ticket.open = ticket.open.saturating_sub(1);
        if ticket.open > 0 {
            return;
        }
        let Some(ticket) = self.tickets.remove(&id) else {
            return;
        };
        if let End::Nak(after) = ticket.end {
            nak(&ticket.message, after).await;
            return;
        }
        fault::point(Point::BeforeAck);
        match ticket.end {
            End::Term(reason) if !ticket.arrival.pack => self.term(&ticket.message, &reason).await,
            _ => {
                if let Err(error) = ticket.message.ack().await {
                    tracing::debug!("acknowledge: {error}");
                }
            }
        }
        if fault::is_armed(Point::AfterAck) {
            // It is passed when the acknowledgement is on its way, not when it waits in our memory.
            self.flush().await;
            fault::point(Point::AfterAck);
        }
    }

    /// Tells the broker of all that is in hand for long that it is being worked on.
    pub(crate) async fn keep_alive(&mut self) {
        let now = Instant::now();
        for ticket in self.tickets.values_mut() {
            if now.duration_since(ticket.told) * 2 < ticket.ack_wait {
                continue;
            }
            ticket.told = now;
            if let Err(error) = ticket.message.ack_with(AckKind::Progress).await {
                tracing::debug!("keep alive: {error}");
            }
        }
    }

    /// Gives everything back.
    pub(crate) async fn give_back(&mut self) {
        for (_, ticket) in self.tickets.drain() {
            nak(&ticket.message, Duration::ZERO).await;
        }
    }

    /// Sees to it that what was said has reached the broker.
    pub(crate) async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::debug!("flush: {error}");
        }
    }

    async fn term(&self, message: &jetstream::Message, reason: &str) {
        let Some(reply) = message.reply.clone() else {
            return;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "an acknowledgement is a core message; lost, the message comes again"
        )]
        let said = self.client.publish(reply, format!("+TERM {reason}").into()).await;
        if let Err(error) = said {
            tracing::debug!("terminate: {error}");
        }
    }
}

fn worse(one: End, other: End) -> End {
    match (one, other) {
        (End::Nak(a), End::Nak(b)) => End::Nak(a.max(b)),
        (End::Nak(a), _) | (_, End::Nak(a)) => End::Nak(a),
        (End::Term(reason), _) | (_, End::Term(reason)) => End::Term(reason),
        (End::Ack, End::Ack) => End::Ack,
    }
}

async fn nak(message: &jetstream::Message, after: Duration) {
    let after = (!after.is_zero()).then_some(after);
    if let Err(error) = message.ack_with(AckKind::Nak(after)).await {
        tracing::debug!("give back: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_comes_again_if_one_of_its_readings_must() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(worse(End::Ack, End::Ack), End::Ack);
        assert_eq!(worse(End::Term("json".into()), End::Nak(short)), End::Nak(short));
        assert_eq!(worse(End::Nak(short), End::Nak(long)), End::Nak(long));
        assert_eq!(
            worse(End::Ack, End::Term("json".into())),
            End::Term("json".into())
        );
    }
}
