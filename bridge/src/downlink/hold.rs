//! A thing whose device is there: delivers what waits for it, one after the other, and waits for the device's word.
use super::{
    Confirmation, Downlink, Inner, NotSent, Parcel,
    entry::{Away, Changed, Wish},
    index::{InFlight, Next, next},
    told,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use telltale_nats::Name;
use telltale_schemas::{
    Timestamp,
    kinds::State,
    pending::{Pending, Sent, Told},
};
use tokio::sync::{oneshot, watch as signal};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

/// Before what an idempotent command was not confirmed in time is sent again, the first time; twice as long each time.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Before what the broker did not do is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what was marked as sent, and was not, is set back.
const UNDO_MAX: u32 = 60;
/// How long a device that comes for each command by itself is taken to be there after it has come.
const LINGER: Duration = Duration::from_secs(30);

/// A device that is there; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "it acts when it is dropped")] DropGuard);

/// Begins to deliver.
pub(super) fn start<D: Downlink>(inner: Arc<Inner>, thing: &Name, way: D) -> Hold {
    let (id, changed) = inner.enter(thing.token());
    let gone = CancellationToken::new();
    let held = Held {
        inner,
        token: thing.token().to_owned(),
        id,
        changed,
        gone: gone.clone(),
        way,
        flight: None,
    };
    tokio::spawn(held.run());
    Hold(gone.drop_guard())
}

/// A thing in the hands of a session.
struct Held<D> {
    inner: Arc<Inner>,
    token: String,
    id: u64,
    changed: signal::Receiver<()>,
    gone: CancellationToken,
    way: D,
    flight: Option<Flight>,
}

/// What is under way in this session.
struct Flight {
    what: InFlight,
    confirmed: Option<oneshot::Receiver<Result<(), String>>>,
}

/// What a hold is to do.
enum Step {
    /// It is this bridge's, and this hold's.
    Do(Next),
    /// The thing is nobody's: take it.
    Claim,
    /// Another has it, or not all is known yet.
    Idle,
}

impl Inner {
    /// A younger hold of the thing.
    fn enter(&self, token: &str) -> (u64, signal::Receiver<()>) {
        let mut things = self.things();
        things.holds += 1;
        let id = things.holds;
        things.sessions.last.insert(token.to_owned(), id);
        let thing = things.known.entry(token.to_owned()).or_default();
        thing.holds.push(id);
        thing.changed.send_replace(());
        (id, thing.changed.subscribe())
    }

    fn leave(&self, token: &str, id: u64) {
        let mut things = self.things();
        let Some(thing) = things.known.get_mut(token) else {
            return;
        };
        thing.holds.retain(|held| *held != id);
        if thing.holds.is_empty() {
            for line in thing.lines.values_mut() {
                line.body = None;
            }
        }
        thing.changed.send_replace(());
        if thing.is_idle() {
            things.known.remove(token);
        }
    }

    fn step(&self, token: &str, id: u64, flight: Option<&InFlight>, gap: i64) -> Step {
        let things = self.things();
        let Some(thing) = things.known.get(token) else {
            return Step::Idle;
        };
        if thing.holds.last() != Some(&id) {
            return Step::Idle;
        }
        match things.sessions.owner(token) {
            None => Step::Claim,
            Some(owner) if owner != self.instance || !things.is_complete => Step::Idle,
            Some(_) => Step::Do(next(&thing.lines, flight, gap, Timestamp::now())),
        }
    }
}

impl<D: Downlink> Held<D> {
    async fn run(mut self) {
        // Who comes for each command is not written down each time.
        if !D::ASKS
            || !self
                .inner
                .things()
                .sessions
                .is_of(&self.token, &self.inner.instance)
        {
            self.claim().await;
        }
        while !self.gone.is_cancelled() {
            self.changed.mark_unchanged();
            let flight = self.flight.as_ref().map(|flight| &flight.what);
            let gap = if D::ASKS { micros(AGAIN) } else { 0 };
            match self.inner.step(&self.token, self.id, flight, gap) {
                Step::Claim => self.claim().await,
                Step::Do(Next::Deliver(key)) => {
                    // A command that is being sent is sent to the end: it is marked already.
                    if self.deliver(&key).await.is_err() {
                        self.pause().await;
                    }
                }
                Step::Do(Next::Wait(until)) => self.wait(until).await,
                Step::Idle => self.wait(None).await,
            }
        }
        self.inner.leave(&self.token, self.id);
        if D::ASKS {
            tokio::time::sleep(LINGER).await;
        }
        self.inner.release(&self.token, self.id).await;
    }

    /// Takes the thing, from whoever has it.
    async fn claim(&mut self) {
        while !self.gone.is_cancelled() {
            match self.inner.claim(&self.token, self.id, D::PROTOCOL).await {
                Ok(()) => return,
                Err(error) => debug!(token = self.token, "the session is not written: {error:#}"),
            }
            self.pause().await;
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }

    /// Until something has changed, the time has come, or the device has confirmed.
    async fn wait(&mut self, until: Option<Timestamp>) {
        let until = until.map(|at| at.as_micros() - Timestamp::now().as_micros());
        let pause = until.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
        let woken = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let confirmed = async {
            match self.flight.as_mut().and_then(|flight| flight.confirmed.as_mut()) {
                Some(confirmed) => confirmed.await,
                None => std::future::pending().await,
            }
        };
        let confirmed = tokio::select! {
            () = self.gone.cancelled() => return,
            _ = self.changed.changed() => return,
            () = woken => return,
            confirmed = confirmed => confirmed,
        };
        let Some(flight) = &mut self.flight else { return };
        flight.confirmed = None;
        let key = flight.what.key.clone();
        let told = match confirmed {
            Ok(Ok(())) => self.confirm(&key).await,
            Ok(Err(why)) => self.refuse(&key, &why).await,
            // The session has ended; whoever holds it says so too.
            Err(_) => Ok(()),
        };
        if told.is_err() {
            // It is there to be answered; without a confirmation it is sent again, or ends as unknown.
            self.pause().await;
        }
    }

    async fn deliver(&mut self, key: &str) -> Result<(), Away> {
        let now = Timestamp::now();
        let instance = &self.inner.instance;
        let changed = self.inner.change(key, |pending| {
            let is_free =
                pending.state == State::Queued || (pending.state == State::Sent && pending.idempotent);
            if !is_free || !pending.is_due(now) {
                return Wish::Refuse;
            }
            Wish::Write(Box::new(pending.to_sent(instance, now)))
        });
        let pending = match changed.await {
            Ok(Changed::Done(pending, _)) => pending,
            Ok(_) => return Ok(()),
            // It may be marked all the same, and was not sent.
            Err(Away) => return self.undo_in_time(key, now).await,
        };
        // Writing took its time: what has expired meanwhile is not delivered.
        if pending.is_expired(Timestamp::now()) {
            return self.undo(key, now).await;
        }
        let Some(parcel) = parcel(&pending) else {
            return self.refuse(key, "its name cannot be told to a device").await;
        };
        match self.way.send(&parcel).await {
            Ok(confirmation) => {
                self.inner.tell_state(&pending);
                self.flight = flight(key, &pending, confirmation);
                Ok(())
            }
            Err(NotSent::TooLarge) => self.refuse(key, "the device takes no message of that size").await,
            Err(NotSent::Gone) => {
                self.undo_in_time(key, now).await?;
                // Whoever holds this knows it in a moment.
                self.pause().await;
                Ok(())
            }
        }
    }

    /// The bytes never went out, so it waits as before. An idempotent one that went out earlier stays sent: it goes out again.
    async fn undo(&self, key: &str, at: Timestamp) -> Result<(), Away> {
        let undone = self.inner.change(key, |pending| {
            let is_ours =
                |sent: &Sent| sent.bridge == self.inner.instance && sent.at == at && sent.attempt == 1;
            if pending.state != State::Sent
                || pending.end.is_some()
                || !pending.sent.as_ref().is_some_and(is_ours)
            {
                return Wish::Refuse;
            }
            Wish::Write(Box::new(Pending {
                state: State::Queued,
                sent: None,
                ..pending.clone()
            }))
        });
        undone.await.map(drop)
    }

    /// The same, tried until the broker has done it, but not for ever: then it ends as unknown.
    async fn undo_in_time(&self, key: &str, at: Timestamp) -> Result<(), Away> {
        for _ in 0..UNDO_MAX {
            if self.undo(key, at).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Away)
    }

    /// The device has it.
    async fn confirm(&self, key: &str) -> Result<(), Away> {
        let changed = self.inner.change(key, |pending| match pending.state {
            State::Sent if pending.end.is_none() => Wish::Write(Box::new(pending.to_acknowledged())),
            _ => Wish::Refuse,
        });
        if let Changed::Done(pending, _) = changed.await? {
            self.inner.tell_state(&pending);
        }
        Ok(())
    }

    /// The device does not take it, and never will.
    async fn refuse(&self, key: &str, why: &str) -> Result<(), Away> {
        let changed = self.inner.change(key, |pending| {
            if pending.end.is_some() {
                return Wish::Refuse;
            }
            let told = Told::of(State::Failed).because(why);
            let end = pending.ending(told::STAGE, told, Timestamp::now());
            Wish::Write(Box::new(pending.to_ended(end)))
        });
        if let Changed::Done(pending, revision) = changed.await? {
            self.inner.tell_end(key, &pending, revision);
        }
        Ok(())
    }
}

fn parcel(pending: &Pending) -> Option<Parcel> {
    let command = &pending.command;
    let mut payload = json!({ "id": command.id, "name": command.data.name, "expires": pending.expires });
    if !command.data.input.is_null() {
        payload["input"] = command.data.input.clone();
    }
    Some(Parcel {
        id: command.id.clone(),
        name: Name::new(command.data.name.as_str()).ok()?,
        expires: pending.expires,
        payload: payload.to_string().into(),
    })
}

/// What the next command has to wait for.
fn flight(key: &str, pending: &Pending, confirmation: Confirmation) -> Option<Flight> {
    let confirmed = match confirmation {
        Confirmation::Never => return None,
        Confirmation::Answer => None,
        Confirmation::Protocol(confirmed) => Some(confirmed),
    };
    let attempt = pending.sent.as_ref().map_or(1, |sent| sent.attempt);
    let pause = (AGAIN * (1 << attempt.saturating_sub(1).min(8))).min(AGAIN_MAX);
    Some(Flight {
        what: InFlight {
            key: key.to_owned(),
            again: Timestamp::now().plus_micros(micros(pause)),
        },
        confirmed,
    })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
