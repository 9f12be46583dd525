//! The way down: commands from the bucket `pending` to devices, and what becomes of them back to the stream.
//!
//! An adapter brings a [`Downlink`], its way to one thing, and holds it with [`Downlinks::hold`] for as long as the device is there.
//! The order, the entry's changes, the outcomes, sending again and giving up are here, once for all protocols.
//!
//! | module | holds |
//! |---|---|
//! | `index` | which command of a thing is next; nothing else decides that |
//! | `hold` | one thing that is there: delivers, waits for the device's word |
//! | `entry` | changes of an entry, by comparison with its revision |
//! | `answer` | what devices answer |
//! | `told` | outcomes, published in order |
//! | `watch` | follows the bucket, and looks after what nobody answered |
//! | `session` | which bridge has a device |
//!
//! A command is marked as sent **before** the bytes go out. So what a crash leaves may have been sent and never marked as anything
//! worse than "nobody knows"; and of two bridges only one can send it.
mod answer;
mod entry;
mod hold;
mod index;
mod session;
mod told;
mod watch;

pub(crate) use answer::{ANSWER_MAX, Answer, Answering, Taken};
pub(crate) use hold::Hold;

use crate::metrics::{Metrics, Protocol};
use bytes::Bytes;
use index::{Line, Lines};
use session::Sessions;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};
use telltale_nats::{Name, async_nats::jetstream::kv::Store, publish::Publisher};
use telltale_schemas::{Timestamp, pending::Pending};
use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio_util::sync::CancellationToken;

/// The way to one thing, in the words of a protocol.
pub trait Downlink: Send + Sync + 'static {
    /// How it is called in metrics and sessions.
    const PROTOCOL: Protocol;
    /// Whether the device comes for each command by itself: what it was given and never answered is then given again only after a while.
    const ASKS: bool = false;

    /// Gives the device a command. When this returns, the bytes are out, or it is certain that the device will never see them.
    fn send(&mut self, parcel: &Parcel) -> impl Future<Output = Result<Confirmation, NotSent>> + Send;
}

/// A command as a device gets it.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The command's id.
    pub id: String,
    /// The property or action.
    pub name: Name,
    /// After this it is of no use.
    pub expires: Timestamp,
    /// `{"id","name","input","expires"}`.
    pub payload: Bytes,
}

/// How the device will say that it has it.
#[derive(Debug)]
pub enum Confirmation {
    /// Not at all: it asked for messages that nobody confirms. The next command may follow at once.
    Never,
    /// By its answer alone.
    Answer,
    /// By the protocol: resolves with `Err` where the device does not take it, and is dropped where the device is gone.
    Protocol(oneshot::Receiver<Result<(), String>>),
}

/// Why a command did not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// The device is gone.
    Gone,
    /// The device takes no message of that size.
    TooLarge,
}

/// What adapters share of the way down; cheap to clone.
#[derive(Debug, Clone)]
pub struct Downlinks(Arc<Inner>);

/// What has to run.
#[derive(Debug)]
pub(crate) struct Work {
    words: mpsc::Receiver<told::Word>,
    answers: Vec<mpsc::Receiver<answer::Job>>,
}

#[derive(Debug)]
struct Inner {
    site: Name,
    /// The name of this process, new at each start.
    instance: String,
    things: Mutex<Things>,
    stores: RwLock<Stores>,
    mouth: told::Mouth,
    answers: Vec<mpsc::Sender<answer::Job>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Stores {
    pending: Option<Store>,
    sessions: Option<Store>,
}

/// What is known of all things; by their tokens.
#[derive(Debug, Default)]
struct Things {
    known: HashMap<String, Thing>,
    sessions: Sessions,
    /// Whether all that waits is known: before, what comes first is not.
    is_complete: bool,
    holds: u64,
}

#[derive(Debug, Default)]
struct Thing {
    lines: Lines,
    /// Who holds it here; the last is the one that counts.
    holds: Vec<u64>,
    /// Told whenever anything of this changes.
    changed: signal::Sender<()>,
}

impl Thing {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.holds.is_empty()
    }
}

impl Downlinks {
    pub(crate) fn new(site: Name, instance: String, metrics: Metrics) -> (Self, Work) {
        let (mouth, words) = told::Mouth::new();
        let (answers, receivers) = answer::lanes();
        let inner = Inner {
            site,
            instance,
            things: Mutex::default(),
            stores: RwLock::default(),
            mouth,
            answers,
            metrics,
        };
        let work = Work {
            words,
            answers: receivers,
        };
        (Self(Arc::new(inner)), work)
    }

    /// Delivers what waits for a thing, for as long as what it returns lives. A younger hold takes over.
    pub(crate) fn hold<D: Downlink>(&self, thing: &Name, way: D) -> Hold {
        hold::start(self.0.clone(), thing, way)
    }

    /// Does all that goes on behind: follows the buckets, renews the lease, takes answers, tells outcomes. Until stopped.
    pub(crate) async fn run(
        &self,
        work: Work,
        context: &telltale_nats::async_nats::jetstream::Context,
        publisher: &Publisher,
        report: impl Fn(Result<(), String>),
        stop: &CancellationToken,
    ) {
        let lanes = work
            .answers
            .into_iter()
            .map(|lane| answer::take(&self.0, lane, stop));
        // What is answered until the end is still told.
        let quiet = CancellationToken::new();
        let acting = async {
            tokio::join!(
                watch::pending(&self.0, context, report, stop),
                session::run(&self.0, context, stop),
                watch::look_after(&self.0, stop),
                futures::future::join_all(lanes),
            );
            quiet.cancel();
        };
        tokio::join!(acting, self.0.clone().speak(work.words, publisher, &quiet));
    }
}

impl Inner {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stores(&self) -> RwLockReadGuard<'_, Stores> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what an entry is now. What is older than what is known says nothing.
    fn learn(&self, key: &str, pending: &Arc<Pending>, revision: u64) {
        let Some(token) = thing_of(key) else { return };
        let mut things = self.things();
        let thing = things.known.entry(token.to_owned()).or_default();
        if thing.lines.get(key).is_some_and(|line| line.revision >= revision) {
            return;
        }
        let keep = !thing.holds.is_empty();
        let line = Line::of(pending, revision, &self.instance, Timestamp::now(), keep);
        thing.lines.insert(key.to_owned(), line);
        thing.changed.send_replace(());
    }

    /// The entry is gone, as of that revision.
    fn forget(&self, key: &str, revision: u64) {
        let Some(token) = thing_of(key) else { return };
        let mut things = self.things();
        let Some(thing) = things.known.get_mut(token) else {
            return;
        };
        if thing.lines.get(key).is_some_and(|line| line.revision <= revision) {
            thing.lines.remove(key);
            thing.changed.send_replace(());
        }
        if thing.is_idle() {
            things.known.remove(token);
        }
    }

    /// What is known of an entry, where all of it is.
    fn body(&self, key: &str) -> Option<(Arc<Pending>, u64)> {
        let things = self.things();
        let line = things.known.get(thing_of(key)?)?.lines.get(key)?;
        Some((line.body.clone()?, line.revision))
    }
}

/// The thing's token in a key of `pending`.
fn thing_of(key: &str) -> Option<&str> {
    key.split_once('.').map(|(thing, _)| thing)
}
