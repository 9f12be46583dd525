//! One connection of a device that was let in.
//!
//! Every message's receipt, refusals too, goes through one queue, so that PUBACKs leave in the order of the
//! PUBLISHes ([MQTT-4.6.0-2]); PINGRESP and SUBACK never wait for it.
use super::{
    codec::{Codec, In, Message, Out, RECEIVE_MAX, Violation},
    commands::Commands,
    login::{Login, write},
    reason,
};
use crate::{
    intake::Intake,
    metrics::Protocol,
    outbox::Pending,
    route::{Route, RouteError},
    uplink::Uplink,
};
use bytes::BytesMut;
use std::{
    collections::{HashSet, VecDeque},
    future::{Future as _, poll_fn},
    num::NonZeroU16,
    pin::Pin,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Unsettled messages at which nothing more is read: MQTT 3.1.1 knows no Receive Maximum, and its clients are
/// not to be cut off for going beyond ours.
const UNREAD_FROM: usize = 1024;
/// How long a stopped bridge waits for the broker on behalf of a session.
const DRAIN: Duration = Duration::from_secs(8);
/// A buffer that grew beyond this is given back when it is empty.
const IDLE_BUFFER: usize = 1024;

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client said so, or is gone.
    Left,
    /// The client broke the rules; or is told to go: the reason.
    Told(u8),
    /// A message was refused, which MQTT 3.1.1 can only say by closing.
    Refused,
}

/// A message whose receipt is not there yet, or not yet its turn.
struct Waiting {
    /// None for QoS 0: nothing is said then.
    id: Option<NonZeroU16>,
    answer: Answer,
}

enum Answer {
    Receipt(Pending),
    /// Refused before the intake saw it.
    Known(u8, &'static str),
}

pub(super) struct Session<S> {
    stream: S,
    buffer: BytesMut,
    out: BytesMut,
    login: Login,
    intake: Intake,
    waiting: VecDeque<Waiting>,
    in_flight: HashSet<NonZeroU16>,
    commands: Commands,
    heard: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) fn new(stream: S, buffer: BytesMut, login: Login, intake: Intake) -> Self {
        Self {
            commands: Commands::new(login.receive_max),
            stream,
            buffer,
            out: BytesMut::new(),
            login,
            intake,
            waiting: VecDeque::new(),
            in_flight: HashSet::new(),
            heard: Instant::now(),
        }
    }

    /// Serves until it ends, and says why where the version can.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> std::io::Result<End> {
        let end = self.serve(stop).await?;
        match end {
            End::Left => {}
            End::Told(reason) => {
                self.login.codec.encode(Out::Disconnect(reason), &mut self.out);
            }
            End::Refused => {
                // Closing at once would make a full stream into a storm of reconnecting devices.
                let pause = Duration::from_millis(rand::random_range(1000..=5000));
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.login.place.taken_over() => {}
                    () = sleep(pause) => {}
                }
            }
        }
        write(&mut self.stream, &mut self.out).await?;
        Ok(end)
    }

    async fn serve(&mut self, stop: &CancellationToken) -> std::io::Result<End> {
        loop {
            if let Some(end) = self.decode() {
                return Ok(end);
            }
            write(&mut self.stream, &mut self.out).await?;
            if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER {
                self.buffer = BytesMut::new();
            }
            let has_room = self.waiting.len() < UNREAD_FROM;
            let silence = self.heard + self.login.patience;
            tokio::select! {
                biased;
                () = self.login.place.taken_over() => return Ok(End::Told(reason::TAKEN_OVER)),
                () = self.login.ticket.revoked() => return Ok(End::Told(reason::NOT_AUTHORIZED)),
                () = stop.cancelled() => return self.drain().await,
                end = settle(&mut self.waiting, &mut self.in_flight, &mut self.login.codec, &mut self.out) => {
                    if let Some(end) = end {
                        return Ok(end);
                    }
                }
                read = self.stream.read_buf(&mut self.buffer), if has_room => {
                    if read? == 0 {
                        return Ok(End::Left);
                    }
                    self.heard = Instant::now();
                }
                errand = self.commands.next() => {
                    self.commands.give(errand, &mut self.login.codec, &mut self.out);
                }
                // While nothing is read, a ping would go unseen.
                () = sleep_until(silence), if has_room => return Ok(End::Told(reason::KEEP_ALIVE_TIMEOUT)),
            }
        }
    }

    /// Takes what has arrived whole, as long as there is room for it.
    fn decode(&mut self) -> Option<End> {
        while self.waiting.len() < UNREAD_FROM {
            match self.login.codec.decode(&mut self.buffer) {
                Ok(Some(packet)) => {
                    if let Some(end) = self.take(packet) {
                        return Some(end);
                    }
                }
                Ok(None) => return None,
                Err(violation) => return Some(self.violated(violation)),
            }
        }
        None
    }

    fn violated(&self, Violation(reason): Violation) -> End {
        self.intake.count_refused(Protocol::Mqtt, "protocol");
        if self.login.codec.is_v5() {
            End::Told(reason)
        } else {
            End::Refused
        }
    }

    fn take(&mut self, packet: In) -> Option<End> {
        match packet {
            In::Publish(message) => return self.publish(*message),
            In::Subscribe(id, filters) => {
                let reasons = match filters {
                    Ok(filters) => {
                        let (ticket, intake) = (&self.login.ticket, &self.intake);
                        let taken = filters
                            .iter()
                            .map(|one| self.commands.subscribe(one, ticket, intake));
                        taken.collect()
                    }
                    Err((count, reason)) => vec![reason; count],
                };
                self.say(Out::SubAck(id, reasons));
            }
            In::Unsubscribe(id, filters) => {
                let ended = filters.iter().map(|filter| {
                    if self.commands.unsubscribe(filter) {
                        reason::SUCCESS
                    } else {
                        reason::NO_SUBSCRIPTION
                    }
                });
                let ended = ended.collect();
                self.say(Out::UnsubAck(id, ended));
            }
            In::PubAck(id, code) => self.commands.confirmed(id, code),
            In::Ping => self.say(Out::Pong),
            In::Disconnect => return Some(End::Left),
            In::Connect(_) => return Some(self.violated(Violation(reason::PROTOCOL_ERROR))),
        }
        None
    }

    fn say(&mut self, packet: Out) {
        self.login.codec.encode(packet, &mut self.out);
    }

    fn publish(&mut self, message: Message) -> Option<End> {
        let id = message.id;
        let is_v5 = self.login.codec.is_v5();
        if let Some(id) = id {
            if self.in_flight.contains(&id) {
                // It is on its way; a second copy would be a second reading.
                if is_v5 {
                    let answer = Answer::Known(reason::PACKET_ID_IN_USE, "the packet id is in use");
                    self.waiting.push_back(Waiting { id: Some(id), answer });
                }
                return None;
            }
            if is_v5 && self.in_flight.len() >= usize::from(RECEIVE_MAX) {
                return Some(self.violated(Violation(reason::RECEIVE_MAX_EXCEEDED)));
            }
            self.in_flight.insert(id);
        }
        let answer = match Route::parse(&message.topic) {
            Ok(route) => Answer::Receipt(self.intake.accept(&Uplink {
                ticket: self.login.ticket.clone(),
                protocol: Protocol::Mqtt,
                route,
                content_type: message.content_type,
                key: message.key,
                payload: message.payload,
            })),
            Err(error) => {
                self.intake.count_refused(Protocol::Mqtt, "name");
                let text = match error {
                    RouteError::Unknown => "no such topic",
                    RouteError::Name => "not a name",
                };
                Answer::Known(reason::TOPIC_NAME_INVALID, text)
            }
        };
        self.waiting.push_back(Waiting { id, answer });
        None
    }

    /// Nothing more is read; what the broker has not confirmed yet is still told.
    async fn drain(&mut self) -> std::io::Result<End> {
        let deadline = sleep(DRAIN);
        tokio::pin!(deadline);
        while !self.waiting.is_empty() {
            tokio::select! {
                () = &mut deadline => break,
                end = settle(&mut self.waiting, &mut self.in_flight, &mut self.login.codec, &mut self.out) => {
                    if let Some(end) = end {
                        return Ok(end);
                    }
                }
            }
            write(&mut self.stream, &mut self.out).await?;
        }
        Ok(End::Told(reason::SHUTTING_DOWN))
    }
}

/// Encodes all PUBACKs that are due at the front of the queue, one write for the lot. Pending as long as there is
/// none; cancelled without loss.
async fn settle(
    waiting: &mut VecDeque<Waiting>,
    in_flight: &mut HashSet<NonZeroU16>,
    codec: &mut Codec,
    out: &mut BytesMut,
) -> Option<End> {
    poll_fn(|context| {
        let mut settled = 0;
        while let Some(front) = waiting.front_mut() {
            let (reason, text) = match &mut front.answer {
                Answer::Known(reason, text) => (*reason, Some((*text).to_owned())),
                Answer::Receipt(pending) => match Pin::new(pending).poll(context) {
                    Poll::Ready(receipt) => reason::of(&receipt),
                    Poll::Pending => break,
                },
            };
            let id = front.id;
            waiting.pop_front();
            settled += 1;
            let Some(id) = id else { continue };
            if reason >= reason::UNSPECIFIED && !codec.is_v5() {
                return Poll::Ready(Some(End::Refused));
            }
            // The answer to a second copy frees nothing: the id may belong to a younger message by now.
            if reason != reason::PACKET_ID_IN_USE {
                in_flight.remove(&id);
            }
            codec.encode(Out::PubAck { id, reason, text }, out);
        }
        if settled == 0 {
            Poll::Pending
        } else {
            Poll::Ready(None)
        }
    })
    .await
}
