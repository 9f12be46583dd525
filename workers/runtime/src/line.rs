//! What both loops share: from a delivered message to work, and from an answer to its end.
use crate::{
    Cause, Delivery, Failure, Inbound, Outbound, Verdict,
    arrival::{self, Arrival, Road},
    backoff,
    compose::{self, ComposeError, Writer, Written},
    consume::{Desk, End, Item, Pulled},
    metrics::{Metrics, Outcome},
    outage::Outage,
    outbox::{Follow, Outbox, Returned, Settled},
    pack,
    quarantine::Refused,
    redo,
    verdict::Why,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use telltale_nats::{Name, publish::PublishError};
use telltale_schemas::{Timestamp, id, kinds::Fault};

/// What holds for every message of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) worker: Name,
    pub(crate) site: Name,
    pub(crate) attempts_max: u32,
    pub(crate) retry_first: Duration,
}

/// A worker's hands, without its head.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rules: Rules,
    pub(crate) writer: Writer,
    pub(crate) metrics: Metrics,
    pub(crate) desk: Desk,
    pub(crate) outbox: Outbox,
    pub(crate) outage: Outage,
}

/// What came of handling one message.
#[derive(Debug)]
pub(crate) enum Answer<O> {
    Verdict(Verdict<O>),
    Panic(String),
    Timeout(Duration),
}

/// A message on its way through the worker's code.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) item: Item,
    pub(crate) cause: Cause,
    pub(crate) started: Timestamp,
}

impl Line {
    /// Takes a message in hand. What may be handled comes back; all else is seen to.
    pub(crate) async fn take_up(&mut self, pulled: Pulled) -> Vec<Item> {
        let arrival = Arc::new(Arrival::of(&pulled.message, pulled.through, &self.rules.site));
        if let Some(pause) = arrival.pause() {
            self.desk.put_off(&pulled, pause).await;
            return Vec::new();
        }
        if let Ok(lane) = &arrival.lane {
            self.metrics.received(*lane);
        }
        if arrival.attempt > 1 {
            self.metrics.redeliveries.inc();
        }
        let payload = pulled.message.payload.clone();
        let hops = arrival.hops(pulled.message.headers.as_ref());
        let parts = match (&arrival.lane, arrival.pack) {
            (Ok(_), true) => {
                pack::unpack(&payload, &hops).map_err(|error| ("undecodable", error.to_string()))
            }
            (Ok(_), false) => Ok(vec![(payload.clone(), hops.clone())]),
            (Err(why), _) => Err(("subject", why.clone())),
        };
        let ticket = |line: &mut Self, parts| line.desk.open(pulled, Arc::clone(&arrival), parts);
        let item = |ticket, body, hops, part| Item {
            ticket,
            arrival: Arc::clone(&arrival),
            body,
            hops,
            part,
        };
        match parts {
            Err((reason, why)) => {
                let whole = item(ticket(self, 1), payload, hops, None);
                let cause = self.base(&whole);
                self.reject(whole, cause, Timestamp::now(), reason, &[Fault::at("", why)])
                    .await;
                Vec::new()
            }
            Ok(parts) if parts.is_empty() => {
                let id = ticket(self, 1);
                self.desk.settle(id, End::Ack).await;
                Vec::new()
            }
            Ok(parts) => {
                let id = ticket(self, parts.len());
                let items = parts
                    .into_iter()
                    .enumerate()
                    .map(|(n, (body, hops))| item(id, body, hops, arrival.pack.then_some(n)))
                    .collect();
                self.within_attempts(items).await
            }
        }
    }

    /// What was delivered too often goes to the worker's own lane, where it is handled alone; from there to the
    /// quarantine. Deliveries count what a killed process had fetched and not begun, so guilt is not proven yet.
    async fn within_attempts(&mut self, items: Vec<Item>) -> Vec<Item> {
        let Some(first) = items.first() else { return items };
        if !first.arrival.is_suspect(self.rules.attempts_max) {
            return items;
        }
        for item in items {
            let cause = self.peek(&item);
            let is_nobodys = item.arrival.pack && cause.thing.plain() == arrival::NO_THING;
            if item.arrival.road == Road::Alone || is_nobodys {
                let fault = Fault::at("", format!("delivered {} times", item.arrival.attempt));
                self.reject(item, cause, Timestamp::now(), "attempts", &[fault])
                    .await;
                continue;
            }
            let Some(message) = self.desk.message(item.ticket) else {
                continue;
            };
            // The hop of a try that came to no end: it is to be seen that it was delivered so often.
            let hops = self.hops(&cause, Timestamp::now());
            let why = redo::Why::Suspect;
            let outgoing = redo::outgoing(&self.rules.worker, &item, &cause, message, why, hops);
            self.metrics.processed(Outcome::Redone);
            let follow = Follow {
                singles: vec![(outgoing, None)],
                ..Follow::default()
            };
            self.outbox.put(item, cause, End::Ack, follow);
        }
        Vec::new()
    }

    /// The message as the worker takes it; `None` if it is none and is seen to.
    pub(crate) async fn decode<I: Inbound>(&mut self, item: &Item) -> Option<Delivery<I>> {
        let headers = self.desk.message(item.ticket)?.headers.as_ref();
        let base = item.arrival.cause(headers, item);
        let raw = item.arrival.raw(headers, item.body.clone());
        let lane = *item.arrival.lane.as_ref().ok()?;
        match I::decode(lane, raw, base) {
            Ok((data, cause)) => Some(Delivery { data, cause }),
            Err(error) => {
                let (reason, fault) = error.refusal();
                let cause = self.peek(item);
                self.reject(item.clone(), cause, Timestamp::now(), reason, &[fault])
                    .await;
                None
            }
        }
    }

    fn base(&self, item: &Item) -> Cause {
        let headers = self
            .desk
            .message(item.ticket)
            .and_then(|message| message.headers.as_ref());
        item.arrival.cause(headers, item)
    }

    /// As much of the cause as can be read of a message whose data cannot.
    fn peek(&self, item: &Item) -> Cause {
        let mut cause = self.base(item);
        if matches!(item.arrival.lane, Ok(telltale_nats::Lane::Raw)) {
            return cause;
        }
        // Member by member: a type of a newer version, or one attribute that is wrong, costs none of the others. Without
        // its RAW sequence a message that is kept would count as missing.
        let envelope: serde_json::Map<String, Value> = serde_json::from_slice(&item.body).unwrap_or_default();
        let text = |name: &str| envelope.get(name).and_then(Value::as_str);
        let owned = |name: &str| text(name).map(str::to_owned);
        let time = |name: &str| text(name).and_then(|text| text.parse().ok());
        let thing = text("subject").and_then(|text| Name::new(text).ok());
        if let Some(thing) = thing
            && (item.arrival.pack || thing == cause.thing)
        {
            // What no header can hold would keep its own quarantine entry from being published.
            cause.id = owned("id").filter(|id| id::is_id(id)).unwrap_or(cause.id);
            cause.thing = thing;
            cause.time = time("time").unwrap_or(cause.time);
            cause.recordedtime = time("recordedtime");
            cause.rawseq = text("rawseq").and_then(|text| text.parse().ok());
            cause.protocol = owned("protocol");
            cause.publisher = owned("publisher");
            cause.correlationid = owned("correlationid");
            cause.traceparent = cause.traceparent.or_else(|| owned("traceparent"));
        }
        cause
    }

    /// Does what an answer says. The work comes back if it has to be held.
    pub(crate) async fn conclude<O: Outbound>(&mut self, work: Work, answer: Answer<O>) -> Option<Work> {
        match answer {
            Answer::Verdict(Ok(emit)) => {
                let drafts = emit.into_drafts();
                match self.follow(&work, drafts) {
                    Ok(None) => {
                        self.metrics.processed(Outcome::Filtered);
                        self.metrics.times.succeeded();
                        self.desk.settle(work.item.ticket, End::Ack).await;
                    }
                    Ok(Some(follow)) => {
                        self.metrics.processed(Outcome::Emitted);
                        self.outbox.put(work.item, work.cause, End::Ack, follow);
                    }
                    Err(error) => {
                        let error = anyhow::Error::from(error);
                        self.retry(work, "attempts", &format!("{error:#}"), None).await;
                    }
                }
                self.outage.succeeded();
            }
            Answer::Verdict(Err(Failure(Why::Outage { error }))) => {
                self.outage.begin(&format!("{error:#}"));
                return Some(work);
            }
            Answer::Verdict(Err(Failure(Why::Retry { error, after }))) => {
                self.retry(work, "attempts", &format!("{error:#}"), after).await;
                self.outage.succeeded();
            }
            Answer::Verdict(Err(Failure(Why::Reject {
                reason,
                faults,
                error,
                intake,
            }))) => {
                let faults = match (faults.is_empty(), error) {
                    (true, Some(error)) => vec![Fault::at("", format!("{error:#}"))],
                    (_, _) => faults,
                };
                let cause = work.cause.taken_in(intake);
                self.reject(work.item, cause, work.started, &reason, &faults)
                    .await;
                self.outage.succeeded();
            }
            Answer::Panic(text) => {
                self.retry(work, "panic", &format!("panicked: {text}"), None)
                    .await;
            }
            Answer::Timeout(limit) => {
                let text = format!("not done within {limit:?}");
                self.retry(work, "timeout", &text, None).await;
            }
        }
        None
    }

    /// Nothing follows from it.
    pub(crate) async fn filtered(&mut self, item: &Item) {
        self.metrics.processed(Outcome::Filtered);
        self.metrics.times.succeeded();
        self.desk.settle(item.ticket, End::Ack).await;
        self.outage.succeeded();
    }

    fn follow<O: Outbound>(
        &self,
        work: &Work,
        drafts: Vec<crate::Draft<O>>,
    ) -> Result<Option<Follow>, ComposeError> {
        if drafts.is_empty() {
            return Ok(None);
        }
        let hops = self.hops(&work.cause, work.started);
        let mut follow = Follow::default();
        for (n, draft) in drafts.into_iter().enumerate() {
            match self.writer.write(&work.cause, &hops, n, draft)? {
                Written::Single(outgoing, lane) => follow.singles.push((outgoing, Some(lane))),
                Written::Reading(reading) => follow.readings.push(reading),
            }
        }
        Ok(Some(follow))
    }

    fn hops(&self, cause: &Cause, started: Timestamp) -> String {
        let hop = compose::hop(self.writer.stage, cause.attempt, started, Timestamp::now());
        compose::hops(&cause.hops, &hop)
    }

    /// Counted: again after a pause, or to the quarantine. What waits for its next attempt leaves the road of those
    /// that were never tried, or enough of it would stop them.
    async fn retry(&mut self, work: Work, reason: &str, why: &str, after: Option<Duration>) {
        let attempt = work.cause.attempt;
        if attempt >= self.rules.attempts_max {
            self.reject(work.item, work.cause, work.started, reason, &[Fault::at("", why)])
                .await;
            return;
        }
        self.metrics.processed(Outcome::Failed);
        tracing::warn!(id = %work.cause.id, attempt, reason, "attempt {attempt} failed: {why}");
        let after = after.unwrap_or_else(|| backoff::jittered(self.rules.retry_first, attempt));
        let Some(message) = self.desk.message(work.item.ticket) else {
            return;
        };
        // A reading without a thing's name has no subject of its own.
        let is_nobodys = work.item.arrival.pack && work.cause.thing.plain() == arrival::NO_THING;
        if work.item.arrival.road == Road::Again || is_nobodys {
            self.desk.settle(work.item.ticket, End::Nak(after)).await;
            return;
        }
        let retry_at = Timestamp::now().plus_micros(i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
        let why = redo::Why::Failed(attempt, retry_at);
        let hops = self.hops(&work.cause, work.started);
        let outgoing = redo::outgoing(&self.rules.worker, &work.item, &work.cause, message, why, hops);
        let follow = Follow {
            singles: vec![(outgoing, None)],
            ..Follow::default()
        };
        self.outbox.put(work.item, work.cause, End::Ack, follow);
    }

    /// To the quarantine; the original is terminated once that is confirmed.
    async fn reject(&mut self, item: Item, cause: Cause, started: Timestamp, reason: &str, faults: &[Fault]) {
        let headers = match self.desk.message(item.ticket) {
            Some(message) => arrival::pairs(message.headers.as_ref()),
            None => return,
        };
        tracing::debug!(id = %cause.id, reason, "to the quarantine: `{reason}`");
        let written = Refused {
            arrival: &item.arrival,
            headers: &headers,
            body: &item.body,
            cause: &cause,
            reason,
            faults,
            hops: &self.hops(&cause, started),
        }
        .write(&self.writer);
        match written {
            Ok((entry, overflow)) => {
                let follow = Follow {
                    singles: vec![(entry, Some(telltale_nats::Lane::Quarantine))],
                    readings: Vec::new(),
                    instead: Some(Box::new(overflow)),
                };
                self.outbox.put(item, cause, End::Term(reason.to_owned()), follow);
            }
            Err(error) => {
                tracing::error!("a quarantine entry cannot be written: {error}");
                self.desk.settle(item.ticket, End::Nak(backoff::LONGEST)).await;
            }
        }
    }

    /// Ends what a returned group settles.
    pub(crate) async fn came_back(&mut self, returned: Returned) {
        let is_confirmed = !returned.confirmed.is_empty();
        for lane in returned.confirmed {
            self.metrics.published(lane);
        }
        for settled in returned.settled {
            match settled {
                Settled::Done(waiting) => {
                    match (&waiting.end, &waiting.instead) {
                        (End::Term(reason), Some(_)) => self.metrics.quarantined(reason),
                        // What was to be said instead was said.
                        (End::Term(reason), None) => self.metrics.unkept(reason),
                        (End::Ack, _) if !waiting.is_moved => self.metrics.times.succeeded(),
                        _ => {}
                    }
                    self.desk.settle(waiting.item.ticket, waiting.end).await;
                }
                Settled::Refused(waiting, error) => {
                    let started = Timestamp::now();
                    let why = error.to_string();
                    if error == PublishError::TooLarge {
                        let faults = [Fault::at(
                            "",
                            "what follows from it is larger than a message may be",
                        )];
                        self.reject(waiting.item, waiting.cause, started, "size", &faults)
                            .await;
                    } else if waiting.cause.attempt >= self.rules.attempts_max {
                        let faults = [Fault::at("", why)];
                        self.reject(waiting.item, waiting.cause, started, "attempts", &faults)
                            .await;
                    } else {
                        // The broker may refuse the road to the next attempt just as well.
                        self.metrics.processed(Outcome::Failed);
                        tracing::warn!(id = %waiting.cause.id, "refused by the broker: {why}");
                        let pause = backoff::jittered(self.rules.retry_first, waiting.cause.attempt);
                        self.desk.settle(waiting.item.ticket, End::Nak(pause)).await;
                    }
                }
            }
        }
        match returned.away {
            Some(error) => self.outage.begin(&format!("publish: {error}")),
            None if is_confirmed => self.outage.succeeded(),
            None => {}
        }
        self.show();
    }

    /// From time to time: what is in hand is kept alive, and shown.
    pub(crate) async fn beat(&mut self) {
        self.desk.keep_alive().await;
        self.show();
    }

    /// Shows how much is in hand, and since when.
    pub(crate) fn show(&self) {
        self.metrics.times.oldest(self.desk.oldest());
        self.metrics
            .in_flight
            .set(i64::try_from(self.desk.len()).unwrap_or(i64::MAX));
    }
}
