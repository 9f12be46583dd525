//! Messages that the broker is not told yet that we have, in its order. PUBACK goes out for the first of them, never past one
//! that waits ([MQTT-4.6.0-2]); what finds NATS away, full or too fast is offered again until it is taken.
use crate::{
    intake::Intake,
    outbox::Pending,
    uplink::{Receipt, Refusal, Uplink},
};
use std::{
    collections::VecDeque,
    future::{Future as _, poll_fn},
    num::NonZeroU16,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use telltale_nats::Name;
use tokio::time::Instant;

/// Before what could not be taken is offered again; up to twice as long.
const AGAIN: Duration = Duration::from_millis(500);

/// One message.
#[derive(Debug)]
struct Waiting {
    /// None where nobody is to be told: QoS 0, or of a session that is no more.
    packet: Option<NonZeroU16>,
    /// None where it was refused before it could be one.
    uplink: Option<Box<Uplink>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be offered to the intake.
    Held,
    /// On its way to NATS.
    Offered(Pending),
    /// To be acknowledged.
    Done,
}

/// What has become of some of them.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// To be acknowledged, in this order.
    pub(super) packets: Vec<NonZeroU16>,
    /// Things that spoke.
    pub(super) heard: Vec<Name>,
    /// Of whom nothing is taken that is wrong, and why.
    pub(super) refused: Vec<(String, Refusal)>,
    /// Whether the credential is no longer valid; then nothing is acknowledged for that reason.
    pub(super) is_revoked: bool,
}

/// The messages of one session.
#[derive(Debug, Default)]
pub(super) struct Window {
    waiting: VecDeque<Waiting>,
    /// Until then nothing is offered.
    pause: Option<Instant>,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn holds(&self, packet: NonZeroU16) -> bool {
        self.packets().any(|held| held == packet)
    }

    pub(super) fn packets(&self) -> impl Iterator<Item = NonZeroU16> {
        self.waiting.iter().filter_map(|one| one.packet)
    }

    /// A new session: what the broker knows it will deliver again, what it has forgotten is still ours to bring home.
    pub(super) fn connected(&mut self, knows_us: bool) {
        if knows_us {
            self.waiting.retain(|one| one.packet.is_none());
        }
        for one in &mut self.waiting {
            one.packet = None;
        }
    }

    pub(super) fn push(&mut self, packet: Option<NonZeroU16>, uplink: Uplink) {
        self.waiting.push_back(Waiting {
            packet,
            uplink: Some(Box::new(uplink)),
            state: State::Held,
        });
    }

    /// Only to be acknowledged, in its turn.
    pub(super) fn push_done(&mut self, packet: NonZeroU16) {
        self.waiting.push_back(Waiting {
            packet: Some(packet),
            uplink: None,
            state: State::Done,
        });
    }

    /// Whether anything is on its way to NATS.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.iter().any(|one| !matches!(one.state, State::Held))
    }

    /// Offers what is held, unless there is a pause.
    pub(super) fn offer(&mut self, intake: &Intake) {
        if self.pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.pause = None;
        for one in &mut self.waiting {
            if matches!(one.state, State::Held)
                && let Some(uplink) = &one.uplink
            {
                one.state = State::Offered(intake.accept(uplink));
            }
        }
    }

    /// Until when nothing is offered.
    pub(super) fn pause(&self) -> Option<Instant> {
        self.pause
    }

    /// Pending as long as nothing has become of anything; cancelled without loss.
    pub(super) async fn settled(&mut self) -> Settled {
        poll_fn(|context| self.poll_settled(context)).await
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<Settled> {
        let mut settled = Settled::default();
        let mut is_news = false;
        for one in &mut self.waiting {
            let State::Offered(pending) = &mut one.state else {
                continue;
            };
            let Poll::Ready(receipt) = Pin::new(pending).poll(context) else {
                continue;
            };
            is_news = true;
            one.state = State::Done;
            let Some(uplink) = &one.uplink else { continue };
            let thing = uplink.route.thing();
            match receipt {
                Receipt::Accepted(_) | Receipt::Late => settled.heard.extend(thing.cloned()),
                Receipt::Refused(Refusal::Revoked) => {
                    settled.is_revoked = true;
                    one.state = State::Held;
                }
                Receipt::Refused(refusal) => {
                    let device = &uplink.ticket.credential().device;
                    let name = thing.map_or(device.as_str(), Name::plain);
                    settled.refused.push((name.to_owned(), refusal));
                }
                Receipt::Busy(_) => {
                    one.state = State::Held;
                    let pause = AGAIN.mul_f64(1.0 + rand::random::<f64>());
                    self.pause.get_or_insert_with(|| Instant::now() + pause);
                }
            }
        }
        while let Some(first) = self.waiting.pop_front_if(|one| matches!(one.state, State::Done)) {
            is_news = true;
            settled.packets.extend(first.packet);
        }
        if is_news {
            Poll::Ready(settled)
        } else {
            Poll::Pending
        }
    }
}
