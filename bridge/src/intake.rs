//! The one way in, whatever the protocol: who it is, what it may do, under which id it goes on, and its receipt.
use crate::{
    credential::Credential,
    downlink::{ANSWER_MAX, Answer, Downlinks},
    keyring::{Keyring, LoginError, Ticket, Why},
    media,
    metrics::{Metrics, Protocol, SessionGauge},
    outbox::{Outbox, Pending},
    pace::Pace,
    pack,
    presence::{Presence, Present},
    route::Route,
    uplink::{Busy, EVENT_MAX, PAYLOAD_MAX, Receipt, Refusal, Uplink},
};
use bytes::Bytes;
use serde_json::Value;
use std::{net::IpAddr, sync::Arc, time::Instant};
use telltale_nats::{Lane, Name, Subject, header, publish::Outgoing, rights::OWN_EVENTS, seal};
use telltale_runtime::identity::refusals::{self, Refusals, Refused};
use telltale_schemas::{
    Document, Envelope, Event, Kind, Registration, Timestamp, check, decode, id, kinds::Fault, strict,
};

/// What every adapter shares; cheap to clone. What is accepted is published once the last clone is gone.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Inner>);

/// What an intake is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) site: Name,
    pub(crate) key: seal::Key,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) outbox: Outbox,
    pub(crate) pace: Pace,
    pub(crate) presence: Presence,
    pub(crate) downlinks: Downlinks,
    pub(crate) metrics: Metrics,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    refusals: Refusals,
}

impl std::ops::Deref for Inner {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Intake {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            refusals: Refusals::default(),
        }))
    }

    /// The way down to devices.
    pub(crate) fn downlinks(&self) -> &Downlinks {
        &self.0.downlinks
    }

    /// Counts a connection for as long as the gauge lives.
    pub(crate) fn session(&self, protocol: Protocol) -> SessionGauge {
        self.0.metrics.session(protocol)
    }

    /// Counts what an adapter refused by itself.
    pub(crate) fn count_refused(&self, protocol: Protocol, reason: &'static str) {
        self.0.metrics.refused(protocol, reason);
    }

    /// How many messages of the site's own broker wait.
    pub(crate) fn waiting(&self, messages: usize) {
        self.0.metrics.waiting(messages);
    }

    /// Admits a device.
    pub async fn login(
        &self,
        protocol: Protocol,
        device: &str,
        secret: &[u8],
        from: IpAddr,
    ) -> Result<Ticket, LoginError> {
        let result = self.0.keyring.login(device, secret, from).await;
        if let Err(error) = &result {
            let reason = match error {
                LoginError::Wrong(why) => why.word(),
                LoginError::Slowed(_) => "slowed",
                LoginError::Busy => Busy::Away.word(),
            };
            self.count_refused(protocol, reason);
            // Whoever cannot be checked now was not refused: it comes again.
            if *error != LoginError::Busy {
                let is_ours = matches!(error, LoginError::Wrong(Why::Revoked | Why::Secret));
                let name = Name::new(device).ok().map(|_| device.to_owned());
                let (name, wanted) = if is_ours { (name, None) } else { (None, name) };
                self.0.refusals.note(Refused {
                    name,
                    protocol: protocol.word(),
                    reason,
                    address: from,
                    wanted,
                });
            }
        }
        result
    }

    /// Notes that somebody came without any credential.
    pub(crate) fn no_credential(&self, protocol: Protocol, from: IpAddr) {
        let reason = Why::Missing.word();
        self.count_refused(protocol, reason);
        self.0.refusals.note(Refused {
            name: None,
            protocol: protocol.word(),
            reason,
            address: from,
            wanted: None,
        });
    }

    /// Counts what is refused to a device, and notes it where it is beyond its rights.
    pub(crate) fn refused(&self, protocol: Protocol, ticket: &Ticket, refusal: &Refusal) {
        self.count_refused(protocol, refusal.word());
        if let Some(wanted) = refusal.wanted() {
            self.0.refusals.note(Refused {
                name: Some(ticket.credential().device.clone()),
                protocol: protocol.word(),
                reason: refusal.word(),
                address: ticket.from(),
                wanted: Some(wanted.to_owned()).filter(|wanted| !wanted.is_empty()),
            });
        }
    }

    /// A session of that device, for as long as what it returns lives.
    pub(crate) fn present(&self, ticket: &Ticket) -> Option<Present> {
        self.0
            .presence
            .enter(ticket.credential(), ticket.revocation().clone())
    }

    /// What the bridge itself has to tell now; at the `end`, all who were refused.
    pub(crate) fn notes(&self, now: Instant, end: bool) -> Vec<Outgoing> {
        let site = self.0.site.plain();
        let refused = self
            .0
            .refusals
            .due(now, end)
            .into_iter()
            .filter_map(|(device, event)| {
                let thing = Name::new(device.as_deref().unwrap_or(site)).ok()?;
                self.own(Lane::Event, &thing, refusals::EVENT, event)
            });
        let changed = self
            .0
            .presence
            .due(now)
            .into_iter()
            .filter_map(|(device, change)| {
                let registration = Registration {
                    change,
                    by: Some(device.clone()),
                    ..Registration::default()
                };
                self.own(Lane::Thing, &Name::new(device).ok()?, change.word(), registration)
            });
        refused.chain(changed).collect()
    }

    /// A message of the bridge's own about a thing.
    fn own<D: Document>(&self, lane: Lane, thing: &Name, name: &str, data: D) -> Option<Outgoing> {
        let id = id::of(thing.plain(), &fresh_key());
        let source = format!("/{}/bridge", self.0.site);
        let envelope = Envelope::new(&id, source, thing.plain(), Timestamp::now(), data);
        let named = Name::new(name).ok()?;
        Some(Outgoing {
            subject: Subject::named(lane, self.0.site.clone(), thing.clone(), named).to_string(),
            headers: vec![
                (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
                (header::MSG_ID, id),
            ],
            payload: serde_json::to_vec(&envelope).ok()?.into(),
            stream: lane.stream(),
        })
    }

    /// What can be said before the payload has arrived.
    pub fn judge(
        ticket: &Ticket,
        route: &Route,
        content_type: Option<&str>,
        key: Option<&str>,
        length: usize,
    ) -> Result<(), Refusal> {
        if ticket.is_revoked() {
            return Err(Refusal::Revoked);
        }
        let credential = ticket.credential();
        match route.thing() {
            Some(thing) => covered(credential, thing.plain())?,
            None if !credential.gateway => return Err(Refusal::NoGateway),
            None => {}
        }
        if let Route::Event(_, name) = route
            && OWN_EVENTS.contains(&name.plain())
        {
            return Err(Refusal::OwnEvent(name.plain().to_owned()));
        }
        let (is_decoded, limit) = match route {
            Route::Event(..) => (media::is_event(content_type), EVENT_MAX),
            Route::Outcome(..) => (media::is_event(content_type), ANSWER_MAX),
            Route::Readings(_) | Route::Pack => (media::is_decoded(content_type), PAYLOAD_MAX),
        };
        if length > limit {
            return Err(Refusal::TooLarge(limit));
        }
        if !is_decoded {
            return Err(Refusal::MediaType);
        }
        if key.is_some_and(|key| !id::is_key(key)) {
            return Err(Refusal::Key);
        }
        Ok(())
    }

    /// Takes an uplink: it is in line when this returns, and its receipt comes after the broker's confirmation.
    pub fn accept(&self, uplink: &Uplink) -> Pending {
        let protocol = uplink.protocol;
        let busy = |busy: Busy| {
            self.count_refused(protocol, busy.word());
            Receipt::Busy(busy).into()
        };
        if let Route::Outcome(thing, command) = &uplink.route {
            return self.answer(uplink, thing, command);
        }
        let prepared = Self::judge(
            &uplink.ticket,
            &uplink.route,
            uplink.content_type.as_deref(),
            uplink.key.as_deref(),
            uplink.payload.len(),
        )
        .and_then(|()| {
            if self.lets(uplink) {
                self.prepare(uplink).map(Some)
            } else {
                Ok(None)
            }
        });
        match prepared {
            Ok(None) => busy(Busy::Fast),
            Ok(Some((messages, ids))) => self.0.outbox.put(messages, ids, protocol).unwrap_or_else(busy),
            Err(refusal) => {
                self.refused(protocol, &uplink.ticket, &refusal);
                Receipt::Refused(refusal).into()
            }
        }
    }

    /// Takes a device's answer to a command.
    fn answer(&self, uplink: &Uplink, thing: &Name, command: &str) -> Pending {
        let protocol = uplink.protocol;
        let (content_type, key) = (uplink.content_type.as_deref(), uplink.key.as_deref());
        let answer = Self::judge(
            &uplink.ticket,
            &uplink.route,
            content_type,
            key,
            uplink.payload.len(),
        )
        .and_then(|()| Answer::parse(&uplink.payload));
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refused(protocol, &uplink.ticket, &refusal);
                return Receipt::Refused(refusal).into();
            }
        };
        let busy = if self.lets(uplink) {
            match self.0.downlinks.answer(thing, command, answer, protocol) {
                Some(taken) => return Pending::of_answer(taken, command.to_owned()),
                None => Busy::Crowded,
            }
        } else {
            Busy::Fast
        };
        self.count_refused(protocol, busy.word());
        Receipt::Busy(busy).into()
    }

    /// Whether the thing, or the device that brings a pack, may send so fast. Who brings what was kept for long brings
    /// it as fast as it can.
    fn lets(&self, uplink: &Uplink) -> bool {
        let credential = uplink.ticket.credential();
        let name = uplink
            .route
            .thing()
            .map_or(credential.device.as_str(), Name::plain);
        credential.backfill || self.0.pace.lets(name, Instant::now())
    }

    fn prepare(&self, uplink: &Uplink) -> Result<(Vec<Outgoing>, Vec<String>), Refusal> {
        let received = Timestamp::now();
        match &uplink.route {
            Route::Readings(thing) => {
                let key = key_of(uplink);
                let id = id::of(thing.plain(), &key);
                let content_type = uplink.content_type.as_deref();
                let message = self.raw(thing, &id, uplink, received, content_type, uplink.payload.clone());
                Ok((vec![message], vec![id]))
            }
            Route::Pack => self.split(uplink, received),
            // An answer takes another way.
            Route::Outcome(..) => Ok((Vec::new(), Vec::new())),
            Route::Event(thing, name) => {
                let key = uplink.key.clone().unwrap_or_else(fresh_key);
                let id = id::of(thing.plain(), &key);
                let message = self.event(thing, name, &id, uplink, received)?;
                Ok((vec![message], vec![id]))
            }
        }
    }

    /// One message on `raw`, exactly as the device sent it.
    fn raw(
        &self,
        thing: &Name,
        id: &str,
        uplink: &Uplink,
        received: Timestamp,
        content_type: Option<&str>,
        payload: Bytes,
    ) -> Outgoing {
        let credential = uplink.ticket.credential();
        let subject = Subject::of(Lane::Raw, self.0.site.clone(), thing.clone()).to_string();
        let mut headers = vec![
            (header::ID, id.to_owned()),
            (header::PUBLISHER, credential.device.clone()),
            (header::RECEIVED, received.to_string()),
            (header::PROTOCOL, uplink.protocol.word().to_owned()),
        ];
        if credential.backfill {
            headers.push((header::BACKFILL, "1".to_owned()));
        }
        if let Some(content_type) = content_type {
            headers.push((header::CONTENT_TYPE, content_type.to_owned()));
        }
        let borrowed: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let sealed = seal::seal(&self.0.key, &subject, &borrowed, &payload);
        headers.push((header::SEAL, sealed));
        Outgoing {
            subject,
            headers,
            payload,
            stream: Lane::Raw.stream(),
        }
    }

    /// One message for each thing of a pack; one bad record refuses all.
    fn split(&self, uplink: &Uplink, received: Timestamp) -> Result<(Vec<Outgoing>, Vec<String>), Refusal> {
        let parts = decode::split(uplink.content_type.as_deref(), &uplink.payload, received)?;
        let key = key_of(uplink);
        let (mut messages, mut ids) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for (thing, records) in parts {
            let name = Name::new(thing.as_str()).map_err(|_| Refusal::Invalid {
                reason: "name",
                faults: vec![Fault::at("", format!("`{thing}` cannot be a thing's name"))],
            })?;
            covered(uplink.ticket.credential(), &thing)?;
            let id = id::of(&thing, &key);
            let (media_type, payload) = pack::write(&thing, records)?;
            messages.push(self.raw(&name, &id, uplink, received, Some(media_type), payload.into()));
            ids.push(id);
        }
        Ok((messages, ids))
    }

    fn event(
        &self,
        thing: &Name,
        name: &Name,
        id: &str,
        uplink: &Uplink,
        received: Timestamp,
    ) -> Result<Outgoing, Refusal> {
        let limits = strict::Limits {
            bytes: EVENT_MAX,
            ..strict::DEVICE
        };
        let Value::Object(detail) = strict::parse(&uplink.payload, &limits)? else {
            return Err(Refusal::Invalid {
                reason: "shape",
                faults: vec![Fault::at("", "an event is a JSON object")],
            });
        };
        let data = Event {
            name: name.plain().to_owned(),
            detail,
        };
        let source = format!("/{}/bridge", self.0.site);
        let mut envelope = Envelope::new(id, source, thing.plain(), received, data);
        envelope.recordedtime = Some(received);
        envelope.protocol = Some(uplink.protocol.word().to_owned());
        envelope.publisher = Some(uplink.ticket.credential().device.clone());
        envelope.traceparent = Some(id::traceparent(id));
        let document = serde_json::to_value(&envelope).expect("an envelope is a JSON object");
        let faults = check::envelope(Kind::Event, &document);
        if !faults.is_empty() {
            return Err(Refusal::Invalid {
                reason: "schema",
                faults: own_pointers(faults),
            });
        }
        let subject =
            Subject::named(Lane::Event, self.0.site.clone(), thing.clone(), name.clone()).to_string();
        let headers = vec![
            (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
            (header::TRACEPARENT, id::traceparent(id)),
            (header::MSG_ID, id.to_owned()),
        ];
        let payload = serde_json::to_vec(&envelope).expect("an envelope is a JSON object");
        Ok(Outgoing {
            subject,
            headers,
            payload: payload.into(),
            stream: Lane::Event.stream(),
        })
    }
}

fn covered(credential: &Credential, thing: &str) -> Result<(), Refusal> {
    if credential.covers(thing) {
        Ok(())
    } else {
        Err(Refusal::Forbidden(thing.to_owned()))
    }
}

/// The device's own id, else the CloudEvent's, else one that nobody has had before.
fn key_of(uplink: &Uplink) -> String {
    let own = uplink.key.clone();
    own.or_else(|| cloudevent_key(uplink.content_type.as_deref(), &uplink.payload))
        .unwrap_or_else(fresh_key)
}

/// The id of the CloudEvent that it is, if it is one.
pub(crate) fn cloudevent_key(content_type: Option<&str>, payload: &[u8]) -> Option<String> {
    if media::may_be_cloudevent(content_type, payload)
        && let Ok(Value::Object(body)) = strict::parse(payload, &strict::DEVICE)
        && body.contains_key("specversion")
        && let Some(Value::String(key)) = body.get("id")
        && id::is_key(key)
    {
        return Some(key.clone());
    }
    None
}

pub(crate) fn fresh_key() -> String {
    ulid::Ulid::generate().to_string()
}

/// Pointers into the device's object instead of into our envelope.
fn own_pointers(mut faults: Vec<Fault>) -> Vec<Fault> {
    for fault in &mut faults {
        if let Some(rest) = fault.pointer.strip_prefix("/data/detail") {
            fault.pointer = rest.to_owned();
        }
    }
    faults
}

#[cfg(test)]
mod tests;
