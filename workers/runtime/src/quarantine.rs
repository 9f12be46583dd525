//! What is written about a message that a stage refuses: the original, whole, and why.
use crate::{
    Cause,
    arrival::{Arrival, NO_THING},
    compose::{self, Writer},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use telltale_nats::{Lane, Name, Subject, header, publish::Outgoing};
use telltale_schemas::{Envelope, Event, Quarantine, id, kinds::Fault};

/// Headers kept with the bytes, together.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Faults kept.
const FAULTS_MAX: usize = 50;
/// Bytes of one fault's text.
const FAULT_BYTES_MAX: usize = 500;
/// The name of the event that says that an entry was not kept.
const OVERFLOW: &str = "quarantine_overflow";

/// A message that is to be quarantined.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) arrival: &'a Arrival,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a Bytes,
    pub(crate) cause: &'a Cause,
    pub(crate) reason: &'a str,
    pub(crate) faults: &'a [Fault],
    pub(crate) hops: &'a str,
}

impl Refused<'_> {
    /// The entry, and the event for the case that the entry cannot be kept.
    pub(crate) fn write(&self, by: &Writer) -> Result<(Outgoing, Outgoing), serde_json::Error> {
        let digest = id::digest(self.body);
        let generation = self.arrival.generation;
        let id = id::refusal(&self.cause.id, by.stage, generation);
        let reason =
            Name::new(self.reason).unwrap_or_else(|_| Name::new("other").expect("a plain word is a name"));
        let entry = Quarantine {
            stage: by.stage.to_owned(),
            reason: reason.plain().to_owned(),
            errors: self.faults.iter().take(FAULTS_MAX).map(shortened).collect(),
            attempts: self.cause.attempt,
            generation,
            original: original(self.arrival, &self.cause.thing),
            headers: self.kept_headers(),
            payload: STANDARD.encode(self.body),
            sha256: digest.clone(),
            received: Some(self.cause.recordedtime.unwrap_or(self.arrival.stored)),
        };
        let kept = self.envelope(by, id.clone(), entry);
        let event = Event::new(OVERFLOW)
            .with("id", self.effect_of())
            .with("rawseq", self.cause.rawseq.map(|rawseq| rawseq.to_string()))
            .with("reason", reason.plain())
            .with("sha256", digest);
        let event = match &self.arrival.replayed {
            // Whoever keeps the entries opens that one again: nothing is lost by a replay.
            Some(replayed) => event.with("replayed", replayed.as_str()),
            None => event,
        };
        let unkept = self.envelope(by, format!("{id}_overflow"), event);
        let overflow = Name::new(OVERFLOW).expect("a plain word is a name");
        Ok((
            self.outgoing(by, Lane::Quarantine, reason, &kept)?,
            self.outgoing(by, Lane::Event, overflow, &unkept)?,
        ))
    }

    /// The id under which a device knows it: what the bridge said, else ours.
    fn effect_of(&self) -> String {
        self.headers
            .iter()
            .find(|(name, value)| name.eq_ignore_ascii_case(header::ID) && value.len() <= 256)
            .map_or_else(|| self.cause.id.clone(), |(_, id)| id.clone())
    }

    fn envelope<D: telltale_schemas::Document>(&self, by: &Writer, id: String, data: D) -> Envelope<D> {
        let thing = self.cause.thing.plain();
        let mut envelope = Envelope::new(id, by.source.clone(), thing, self.cause.time, data);
        envelope.recordedtime = self.cause.recordedtime;
        envelope.rawseq = self.cause.rawseq;
        envelope.protocol.clone_from(&self.cause.protocol);
        envelope.publisher.clone_from(&self.cause.publisher);
        envelope.causationid = Some(self.effect_of());
        envelope.correlationid.clone_from(&self.cause.correlationid);
        envelope.traceparent = Some(self.traceparent());
        envelope
    }

    fn traceparent(&self) -> String {
        let known = self.cause.traceparent.clone();
        known.unwrap_or_else(|| id::traceparent(&self.cause.id))
    }

    fn outgoing<D: serde::Serialize>(
        &self,
        by: &Writer,
        lane: Lane,
        name: Name,
        envelope: &Envelope<D>,
    ) -> Result<Outgoing, serde_json::Error> {
        let subject = Subject::named(lane, self.cause.site.clone(), self.cause.thing.clone(), name);
        Ok(Outgoing {
            subject: subject.to_string(),
            headers: compose::headers(
                &self.traceparent(),
                by.stage,
                self.hops,
                compose::message_id(&envelope.id, envelope.rawseq),
            ),
            payload: Bytes::from(serde_json::to_vec(envelope)?),
            stream: lane.stream(),
        })
    }

    fn kept_headers(&self) -> Vec<(String, String)> {
        let mut room = HEADER_BYTES_MAX;
        let fits = |(name, value): &&(String, String)| {
            let size = name.len() + value.len();
            let fits = size <= room;
            room -= if fits { size } else { 0 };
            fits
        };
        self.headers.iter().filter(fits).cloned().collect()
    }
}

fn shortened(fault: &Fault) -> Fault {
    let cut = |text: &str| text.chars().take(FAULT_BYTES_MAX).collect::<String>();
    Fault::at(cut(&fault.pointer), cut(&fault.message))
}

/// The subject under which the message can be handled by itself: one reading of a pack has none of its own yet.
pub(crate) fn original(arrival: &Arrival, thing: &Name) -> String {
    if arrival.pack && thing.plain() != NO_THING {
        Subject::of(Lane::Valid, arrival.site.clone(), thing.clone()).to_string()
    } else {
        arrival.subject.clone()
    }
}
