//! Commands to devices behind the broker: for which things, and on their way to the wire.
//!
//! Nobody tells us which devices are at the broker. So we hold the things that the credential names, and those that were heard of there within
//! an hour, at most 10 000: what never says a word gets no command unless it is named. That the broker has taken a command says nothing of its
//! device, so only the device's answer counts.
use super::codec::Codec;
use crate::{
    downlink::{Confirmation, Downlink, Hold, NotSent, Parcel},
    intake::Intake,
    keyring::Ticket,
    metrics::Protocol,
    mqtt::{codec::Down, packets::Packets},
    route,
};
use bytes::BytesMut;
use lru::LruCache;
use std::{
    collections::HashMap,
    num::{NonZeroU16, NonZeroUsize},
    time::Duration,
};
use telltale_nats::Name;
use telltale_runtime::identity::credential::ANY_THING;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::warn;

/// Things that are held because they were heard.
const HEARD_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("ten thousand is not zero");
/// For how long after its last word.
const HEARD_FOR: Duration = Duration::from_hours(1);
/// Commands on their way from the things to the wire.
const ERRANDS: usize = 16;
/// The first packet id of a command; below are those of subscriptions.
const FIRST: NonZeroU16 = NonZeroU16::new(2).expect("two is not zero");

/// When each thing was heard last; kept over connections.
#[derive(Debug)]
pub(super) struct Heard(LruCache<Name, Instant>);

impl Default for Heard {
    fn default() -> Self {
        Self(LruCache::new(HEARD_MAX))
    }
}

/// A command for the wire, and who waits until it is there.
#[derive(Debug)]
pub(super) struct Errand {
    thing: Name,
    parcel: Parcel,
    done: oneshot::Sender<Result<Confirmation, NotSent>>,
}

/// The way of one thing's commands to the broker.
struct Way {
    thing: Name,
    wire: mpsc::Sender<Errand>,
}

impl Downlink for Way {
    const PROTOCOL: Protocol = Protocol::MqttClient;

    async fn send(&mut self, parcel: &Parcel) -> Result<Confirmation, NotSent> {
        let (done, sent) = oneshot::channel();
        let errand = Errand {
            thing: self.thing.clone(),
            parcel: parcel.clone(),
            done,
        };
        self.wire.send(errand).await.map_err(|_| NotSent::Gone)?;
        sent.await.unwrap_or(Err(NotSent::Gone))
    }
}

/// The commands of one connection.
pub(super) struct Commands {
    intake: Intake,
    named: Vec<Hold>,
    held: HashMap<Name, Hold>,
    wire: mpsc::Sender<Errand>,
    errands: mpsc::Receiver<Errand>,
    /// By packet id, the commands that the broker has not taken yet.
    unconfirmed: Packets<String>,
    window: usize,
}

impl Commands {
    /// Of nothing yet.
    pub(super) fn new(intake: &Intake) -> Self {
        let (wire, errands) = mpsc::channel(ERRANDS);
        Self {
            intake: intake.clone(),
            named: Vec::new(),
            held: HashMap::new(),
            wire,
            errands,
            unconfirmed: Packets::from(FIRST),
            window: 0,
        }
    }

    /// Begins to deliver, at a broker that takes so many.
    pub(super) fn begin(&mut self, ticket: &Ticket, heard: &Heard, receive_max: u16) {
        self.window = receive_max.into();
        let things = ticket.credential().things.iter();
        let named = things.filter(|thing| *thing != ANY_THING);
        let named: Vec<Name> = named.filter_map(|thing| Name::new(&**thing).ok()).collect();
        self.named = named.iter().map(|thing| self.hold(thing)).collect();
        for (thing, _) in &heard.0 {
            if !named.contains(thing) {
                let hold = self.hold(thing);
                self.held.insert(thing.clone(), hold);
            }
        }
    }

    fn hold(&self, thing: &Name) -> Hold {
        let way = Way {
            thing: thing.clone(),
            wire: self.wire.clone(),
        };
        self.intake.downlinks().hold(thing, way)
    }

    /// A thing has spoken at the broker.
    pub(super) fn heard(&mut self, ticket: &Ticket, thing: &Name, heard: &mut Heard) {
        if ticket
            .credential()
            .things
            .iter()
            .any(|named| named == thing.plain())
        {
            return;
        }
        let now = Instant::now();
        if let Some((silent, _)) = heard.0.push(thing.clone(), now)
            && silent != *thing
        {
            self.held.remove(&silent);
        }
        while let Some((silent, last)) = heard.0.peek_lru()
            && now - *last > HEARD_FOR
        {
            self.held.remove(silent);
            heard.0.pop_lru();
        }
        if !self.held.contains_key(thing) {
            let hold = self.hold(thing);
            self.held.insert(thing.clone(), hold);
        }
    }

    /// The next command, once the broker takes one more. Cancelled without loss.
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
        let id = self.unconfirmed.enter(errand.parcel.id.clone());
        let (topic, answer) = route::topics(&errand.thing, &errand.parcel.name, &errand.parcel.id);
        let command = Down {
            id: Some(id),
            topic,
            answer,
            command: errand.parcel.id,
            expires: errand.parcel.expires,
            payload: errand.parcel.payload,
        };
        let sent = if codec.command(command, out) {
            Ok(Confirmation::Answer)
        } else {
            self.unconfirmed.remove(id);
            Err(NotSent::TooLarge)
        };
        // The thing is in other hands by now; what its device answers is taken all the same.
        let _told = errand.done.send(sent);
    }

    /// The broker has it, or does not take it. Nobody knows whether any device does.
    pub(super) fn confirmed(&mut self, id: NonZeroU16, code: u8) {
        if let Some(command) = self.unconfirmed.remove(id)
            && code >= 0x80
        {
            self.intake.count_refused(Protocol::MqttClient, "command");
            warn!(
                command,
                "the broker does not take the command `{command}`: MQTT reason 0x{code:02x}"
            );
        }
    }
}
