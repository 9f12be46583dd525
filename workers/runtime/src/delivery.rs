//! One delivered message, as a worker sees it.
use crate::verdict::Intake;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use telltale_nats::Name;
use telltale_schemas::{Envelope, RawSeq, Timestamp};

/// One delivered message. Derefs to its data, so `reading.value("x")` reads as it should.
#[derive(Debug)]
pub struct Delivery<I> {
    /// The data.
    pub data: I,
    /// Everything about it but the data.
    pub cause: Cause,
}

impl<I> Deref for Delivery<I> {
    type Target = I;
    fn deref(&self) -> &I {
        &self.data
    }
}

/// What is known of a message beside its data: attributes of its envelope, and of this delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The envelope's id; for a raw message `<thing>:<rawseq>` until `validate` knows better.
    pub id: String,
    /// Site in the subject.
    pub site: Name,
    /// Thing in the subject, or in the envelope where it came in a pack.
    pub thing: Name,
    /// The envelope's time; for a raw message the stream's.
    pub time: Timestamp,
    /// The envelope's.
    pub recordedtime: Option<Timestamp>,
    /// The envelope's.
    pub relativetime: bool,
    /// The envelope's; for a raw message its own.
    pub rawseq: Option<RawSeq>,
    /// The envelope's.
    pub protocol: Option<String>,
    /// The envelope's.
    pub publisher: Option<String>,
    /// The envelope's.
    pub correlationid: Option<String>,
    /// The envelope's id of the cause.
    pub causationid: Option<String>,
    /// Trace context of this hop, from the header, else from the envelope.
    pub traceparent: Option<String>,
    /// The envelope's.
    pub expirytime: Option<Timestamp>,
    /// The envelope's source.
    pub source: String,
    /// `Telltale-Hops` as it arrived.
    pub hops: String,
    /// Where the message stands in the stream of its lane; none of it where it came over `redo`.
    pub sequence: Option<u64>,
    /// From 1.
    pub attempt: u32,
    /// Whether it came over `redo`.
    pub redo: bool,
}

impl Cause {
    /// With what the worker found out about where it came from.
    pub(crate) fn taken_in(mut self, intake: Option<Box<Intake>>) -> Self {
        if let Some(intake) = intake {
            self.recordedtime = intake.recordedtime.or(self.recordedtime);
            self.protocol = intake.protocol.or(self.protocol);
            self.publisher = intake.publisher.or(self.publisher);
        }
        self
    }
}

impl<I> Delivery<I> {
    /// The thing's name.
    pub fn thing(&self) -> &str {
        self.cause.thing.plain()
    }
    /// The site's name.
    pub fn site(&self) -> &str {
        self.cause.site.plain()
    }
    /// The message's id.
    pub fn id(&self) -> &str {
        &self.cause.id
    }

    /// A delivery as a test needs it: site `site`, attempt 1, everything else from the envelope.
    pub fn of(envelope: Envelope<I>) -> Self {
        let Envelope {
            id,
            source,
            subject,
            time,
            recordedtime,
            relativetime,
            rawseq,
            protocol,
            publisher,
            ..
        } = envelope;
        Self {
            data: envelope.data,
            cause: Cause {
                id,
                site: Name::new("site").expect("a plain name"),
                thing: Name::new(subject).expect("an envelope's subject is a name"),
                time,
                recordedtime,
                relativetime,
                rawseq,
                protocol,
                publisher,
                correlationid: envelope.correlationid,
                causationid: envelope.causationid,
                traceparent: envelope.traceparent,
                expirytime: envelope.expirytime,
                source,
                hops: String::new(),
                sequence: None,
                attempt: 1,
                redo: false,
            },
        }
    }
}

/// A message on `raw`, as it was published; the input of `validate` alone.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The payload as the device sent it.
    pub payload: Bytes,
    /// Headers in order; names are compared without case.
    pub headers: Vec<(String, String)>,
    /// The subject it was published to.
    pub subject: String,
    /// When the stream stored it.
    pub stored: Timestamp,
}

impl Raw {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}
