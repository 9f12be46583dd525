//! The commands of a session: what it has subscribed to, and what its device has not confirmed yet.
use super::{
    codec::{Codec, Down, Filter, Out},
    packets::Packets,
    reason,
};
use crate::{
    downlink::{Confirmation, Downlink, Hold, NotSent, Parcel},
    intake::Intake,
    keyring::Ticket,
    metrics::Protocol,
    route::{self, RouteError},
    uplink::Refusal,
};
use bytes::BytesMut;
use std::{collections::HashMap, num::NonZeroU16};
use telltale_nats::Name;
use tokio::sync::{mpsc, oneshot};

/// Things whose commands one session may ask for.
const THINGS_MAX: usize = 10_000;
/// Commands that may be unconfirmed at MQTT 3.1.1, which does not say how many it takes.
const WINDOW: u16 = 256;
/// Commands on their way from the things to the wire.
const ERRANDS: usize = 16;

/// The commands of one session.
pub(super) struct Commands {
    /// By the filter, as the device wrote it: the thing and who delivers its commands.
    held: HashMap<String, (Name, Hold)>,
    sender: mpsc::Sender<Errand>,
    errands: mpsc::Receiver<Errand>,
    unconfirmed: Packets<oneshot::Sender<Result<(), String>>>,
    window: usize,
}

/// A command for the wire, and who waits until it is there.
pub(super) struct Errand {
    topics: (String, String),
    parcel: Parcel,
    confirms: bool,
    done: oneshot::Sender<Result<Confirmation, NotSent>>,
}

/// The way of one thing's commands to the session.
struct Way {
    thing: Name,
    confirms: bool,
    session: mpsc::Sender<Errand>,
}

impl Downlink for Way {
    const PROTOCOL: Protocol = Protocol::Mqtt;

    async fn send(&mut self, parcel: &Parcel) -> Result<Confirmation, NotSent> {
        let (done, sent) = oneshot::channel();
        let errand = Errand {
            topics: route::topics(&self.thing, &parcel.name, &parcel.id),
            parcel: parcel.clone(),
            confirms: self.confirms,
            done,
        };
        self.session.send(errand).await.map_err(|_| NotSent::Gone)?;
        sent.await.unwrap_or(Err(NotSent::Gone))
    }
}

impl Commands {
    /// Of a device that takes so many unconfirmed messages.
    pub(super) fn new(receive_max: Option<NonZeroU16>) -> Self {
        let (sender, errands) = mpsc::channel(ERRANDS);
        Self {
            held: HashMap::new(),
            sender,
            errands,
            unconfirmed: Packets::from(NonZeroU16::MIN),
            window: receive_max.map_or(WINDOW, NonZeroU16::get).into(),
        }
    }

    /// Takes a subscription; what SUBACK says of it.
    pub(super) fn subscribe(&mut self, filter: &Filter, ticket: &Ticket, intake: &Intake) -> u8 {
        let thing = match route::commands(&filter.topic) {
            Ok(thing) => thing,
            Err(error) => {
                intake.count_refused(Protocol::Mqtt, "name");
                return match error {
                    RouteError::Unknown if filter.topic.starts_with("$share/") => {
                        reason::NO_SHARED_SUBSCRIPTION
                    }
                    RouteError::Unknown | RouteError::Name => reason::TOPIC_FILTER_INVALID,
                };
            }
        };
        if !ticket.credential().covers(thing.plain()) {
            let refusal = Refusal::Forbidden(thing.plain().to_owned());
            intake.refused(Protocol::Mqtt, ticket, &refusal);
            return reason::NOT_AUTHORIZED;
        }
        if self.held.len() >= THINGS_MAX && !self.held.contains_key(&filter.topic) {
            intake.count_refused(Protocol::Mqtt, "subscriptions");
            return reason::QUOTA_EXCEEDED;
        }
        let way = Way {
            thing: thing.clone(),
            confirms: filter.qos > 0,
            session: self.sender.clone(),
        };
        let hold = intake.downlinks().hold(&thing, way);
        self.held.insert(filter.topic.clone(), (thing, hold));
        filter.qos.min(1)
    }

    /// Ends a subscription; whether there was one.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> bool {
        self.held.remove(filter).is_some()
    }

    /// The next command for the wire, once the device may be given one more. Cancelled without loss.
    pub(super) async fn next(&mut self) -> Errand {
        if self.unconfirmed.len() < self.window
            && let Some(errand) = self.errands.recv().await
        {
            return errand;
        }
        std::future::pending().await
    }

    /// Writes a command.
    pub(super) fn give(&mut self, errand: Errand, codec: &mut Codec, out: &mut BytesMut) {
        let (id, confirmed) = if errand.confirms {
            let (confirm, confirmed) = oneshot::channel();
            (
                Some(self.unconfirmed.enter(confirm)),
                Confirmation::Protocol(confirmed),
            )
        } else {
            (None, Confirmation::Never)
        };
        let (topic, answer) = errand.topics;
        let down = Down {
            id,
            topic,
            answer,
            command: errand.parcel.id,
            expires: errand.parcel.expires,
            payload: errand.parcel.payload,
        };
        let sent = if codec.encode(Out::Publish(Box::new(down)), out) {
            Ok(confirmed)
        } else {
            if let Some(id) = id {
                self.unconfirmed.remove(id);
            }
            Err(NotSent::TooLarge)
        };
        // The thing is in other hands by now; what its device answers is taken all the same.
        let _told = errand.done.send(sent);
    }

    /// The device has confirmed, or refused.
    pub(super) fn confirmed(&mut self, id: NonZeroU16, code: u8) {
        if let Some(confirm) = self.unconfirmed.remove(id) {
            let result = if code < reason::UNSPECIFIED {
                Ok(())
            } else {
                Err(format!("the device refused it with MQTT reason 0x{code:02x}"))
            };
            // Nobody may wait any more: it was answered, or has ended.
            let _told = confirm.send(result);
        }
    }
}
