//! Takes commands: judges each by the description of its thing, and puts what is right into the bucket `pending`, where
//! the bridge that holds the thing finds it. Ends what nobody else ends: refused, expired, cancelled, never answered.
//!
//! A command's id is used once. Its entry in `pending`, and for [`Args::remember`] what its deletion leaves there, say
//! that the id was seen: the same id again is nothing new.
//!
//! | module | holds |
//! |---|---|
//! | [`judge`] | whether a command can be carried out at all |
//! | `desk` | the bucket: entries created, ended, finished, each by comparing revisions |
//! | `watch` | what is in the bucket, followed; and what of it is over |
//! | `cancel` | `api.<site>.actuate.cancel` |
mod cancel;
mod desk;
pub mod judge;
mod metrics;
mod watch;

use anyhow::Context as _;
use desk::{Desk, Found};
use metrics::Metrics;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telltale_nats::pending;
use telltale_runtime::{Cause, prelude::*, things};
use telltale_schemas::{
    Envelope,
    kinds::State,
    pending::{Pending, Told},
};
use tokio::task::JoinSet;

/// The operation that it answers.
pub const CANCEL: &str = "cancel";
/// The last part of `source` in what it says.
pub(crate) const STAGE: &str = "actuate";

/// What it is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long a command that does not say so is worth carrying out
    #[arg(
        long,
        env = "TELLTALE_ACTUATE_EXPIRES",
        value_name = "DURATION",
        value_parser = telltale_runtime::duration,
        default_value = "60s"
    )]
    expires: Duration,
    /// How long after its expiry a command that was sent may still be answered before it ends as unknown
    #[arg(
        long,
        env = "TELLTALE_ACTUATE_GRACE",
        value_name = "DURATION",
        value_parser = telltale_runtime::duration,
        default_value = "10s"
    )]
    grace: Duration,
    /// How long after its end a command's id is remembered, so that the same id again is nothing new
    #[arg(
        long,
        env = "TELLTALE_ACTUATE_REMEMBER",
        value_name = "DURATION",
        value_parser = telltale_runtime::duration,
        default_value = "24h"
    )]
    remember: Duration,
}

/// The worker.
#[derive(Debug)]
pub struct Actuate {
    desk: Arc<Desk>,
    expires: Duration,
    /// Commands whose entry could not be created, but may be there; no more than are in hand.
    doubtful: Mutex<BTreeSet<String>>,
    /// The watch, the sweep and the answerer; they end with it.
    _tasks: JoinSet<()>,
}

impl Worker for Actuate {
    const NAME: &'static str = STAGE;
    type Input = Command;
    type Output = Outcome;
    type Args = Args;
    const BUCKETS: &'static [&'static str] = &[things::BUCKET];
    const KEEPS: &'static [&'static str] = &[pending::BUCKET];
    const API: &'static [&'static str] = &[CANCEL];

    async fn start(args: Args, at: &Resources) -> anyhow::Result<Self> {
        let client = at.client()?;
        let metrics = Metrics::new(at.registry()).context("register metrics")?;
        let desk = Arc::new(Desk::open(client, at.site(), metrics).await?);
        let mut tasks = JoinSet::new();
        let known = Arc::new(watch::Known::default());
        let check = at.health().check("pending");
        tasks.spawn(watch::follow(desk.clone(), known.clone(), check));
        let limits = watch::Limits {
            grace: args.grace,
            remember: args.remember,
        };
        tasks.spawn(watch::sweep(desk.clone(), known, limits));
        let questions = cancel::listen(client, at.site()).await?;
        tasks.spawn(cancel::answer(client.clone(), questions, desk.clone()));
        Ok(Self {
            desk,
            expires: args.expires,
            doubtful: Mutex::default(),
            _tasks: tasks,
        })
    }

    async fn handle(&self, command: Delivery<Command>) -> Verdict<Outcome> {
        let now = Timestamp::now();
        let (sequence, attempt) = (command.cause.sequence.unwrap_or_default(), command.cause.attempt);
        let envelope = envelope(command.data, &command.cause);
        let expires = envelope
            .expirytime
            .unwrap_or_else(|| envelope.time.plus_micros(micros(self.expires)));
        let thing = &command.cause.thing;
        let td = self.desk.description(thing).await?;
        let judged = judge::judge(&envelope, td.as_ref(), expires, now);
        let idempotent = matches!(judged, Ok(judge::Right { idempotent: true }));
        let queued = Pending::queued(
            envelope,
            command.cause.site.plain(),
            sequence,
            expires,
            idempotent,
        );
        let refused = judged.err();
        let entry = match &refused {
            None => queued.clone(),
            Some(why) => queued.to_ended(queued.ending(STAGE, why.told(), now)),
        };
        let key = pending::key(thing, entry.id());
        let created = self.desk.create(&key, &entry).await;
        let is_again = self.is_again(&entry, attempt, created.is_err());
        match created? {
            Found::Created(revision) => {
                self.desk.metrics().took(refused.as_ref());
                if refused.is_some() {
                    self.desk.finish(&key, &entry, revision).await?;
                    return Ok(Emit::none());
                }
                Ok(told_queued(&queued, now))
            }
            // Made of this very message, but what follows from it may not have been told.
            Found::There(there, revision) if there.sequence == sequence || sequence == 0 => {
                if there.end.is_some() {
                    self.desk.finish(&key, &there, revision).await?;
                }
                Ok(if was_refused(&there) {
                    Emit::none()
                } else {
                    told_queued(&queued, now)
                })
            }
            Found::Gone if is_again && refused.is_none() => Ok(told_queued(&queued, now)),
            Found::There(..) | Found::Gone => {
                tracing::info!(id = entry.id(), "a command's id comes again; nothing is done");
                self.desk.metrics().duplicate();
                Ok(Emit::none())
            }
        }
    }
}

impl Actuate {
    /// Whether this very message was handled before: it is delivered again, or the broker was away when its entry was
    /// to be created, and may have created it all the same.
    fn is_again(&self, entry: &Pending, attempt: u32, failed: bool) -> bool {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let was_doubtful = if failed {
            !doubtful.insert(entry.id().to_owned())
        } else {
            doubtful.remove(entry.id())
        };
        attempt > 1 || was_doubtful
    }
}

/// Whether it was born with its end: only then its end has the command in it.
fn was_refused(there: &Pending) -> bool {
    let end = there.end.as_ref();
    end.is_some_and(|end| end.data.request.is_some())
}

fn told_queued(queued: &Pending, now: Timestamp) -> Emit<Outcome> {
    let outcome = queued.outcome(STAGE, now);
    Emit::draft(
        Draft::new(outcome.data)
            .keyed(outcome.id)
            .at(now)
            .expires(queued.expires),
    )
}

/// The command as it was published, but for its trace, which goes on.
fn envelope(data: Command, cause: &Cause) -> Envelope<Command> {
    let mut envelope = Envelope::new(&cause.id, &cause.source, cause.thing.plain(), cause.time, data);
    envelope.recordedtime = cause.recordedtime;
    envelope.relativetime = cause.relativetime;
    envelope.rawseq = cause.rawseq;
    envelope.protocol.clone_from(&cause.protocol);
    envelope.publisher.clone_from(&cause.publisher);
    envelope.causationid.clone_from(&cause.causationid);
    envelope.correlationid.clone_from(&cause.correlationid);
    envelope.traceparent.clone_from(&cause.traceparent);
    envelope.expirytime = cause.expirytime;
    envelope
}

pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl judge::Refused {
    /// How it is told.
    fn told(&self) -> Told {
        match self {
            Self::Expired => Told::with_request(State::Expired).because(self.to_string()),
            _ => Told::with_request(State::Failed).because(self.to_string()),
        }
    }
}
