//! From what a worker answers to what is published: ids, envelopes, subjects, headers.
use crate::{Cause, Draft, Outbound};
use bytes::Bytes;
use telltale_nats::{Lane, Name, Subject, header, manifest::ANY, publish::Outgoing};
use telltale_schemas::{Envelope, Kind, RawSeq, Timestamp, envelope::SpecVersion, id};

/// Who writes.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    /// The worker's name.
    pub(crate) stage: &'static str,
    /// `/<site>/<stage>`.
    pub(crate) source: String,
    /// The events that it may raise.
    pub(crate) events: &'static [&'static str],
    /// The commands that it may give.
    pub(crate) commands: &'static [&'static str],
}

/// A message of a worker, written.
#[derive(Debug)]
pub(crate) enum Written {
    /// On its own subject.
    Single(Outgoing, Lane),
    /// To be packed with others of its site.
    Reading(Packable),
}

/// One reading on its way into a pack.
#[derive(Debug, Clone)]
pub(crate) struct Packable {
    pub(crate) site: Name,
    pub(crate) body: Vec<u8>,
    pub(crate) hops: String,
}

/// Why what a worker answered cannot be published. A mistake in the worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    #[error("{kind} `{name}` is not declared by `{stage}`")]
    Undeclared {
        kind: &'static str,
        name: String,
        stage: &'static str,
    },
    #[error("`{0}` cannot stand in a subject")]
    Name(String, #[source] telltale_nats::subject::NameError),
    #[error("`{}` is no id: 1 to 1024 characters, and no control character", .0.escape_debug())]
    Id(String),
    #[error("the message cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

/// The entry of this stage in `Telltale-Hops`.
pub(crate) fn hop(stage: &str, attempt: u32, started: Timestamp, ended: Timestamp) -> String {
    format!("{stage};{attempt};{};{}", started.as_micros(), ended.as_micros())
}

/// Hops so far, and one more.
pub(crate) fn hops(so_far: &str, hop: &str) -> String {
    if so_far.is_empty() {
        hop.to_owned()
    } else {
        format!("{so_far},{hop}")
    }
}

/// `<id>@<rawseq>`, or the id: what suppresses a stage's own republishing, and nothing else.
pub(crate) fn message_id(id: &str, rawseq: Option<RawSeq>) -> String {
    rawseq.map_or_else(|| id.to_owned(), |rawseq| format!("{id}@{rawseq}"))
}

impl Writer {
    /// The `n`th message (from 0) that follows from `cause`.
    pub(crate) fn write<O: Outbound>(
        &self,
        cause: &Cause,
        hops: &str,
        n: usize,
        draft: Draft<O>,
    ) -> Result<Written, ComposeError> {
        let message = draft.message;
        let lane = message.lane();
        let name = self.declared(lane, message.name())?;
        let thing = match draft.thing {
            Some(thing) => Name::new(thing.as_str()).map_err(|error| ComposeError::Name(thing, error))?,
            None => cause.thing.clone(),
        };
        let same = message.same_id();
        let id = self.id(draft.id, same, cause, n)?;
        let intake = draft.intake.unwrap_or_default();
        let traceparent = cause
            .traceparent
            .clone()
            .unwrap_or_else(|| id::traceparent(&cause.id));
        let envelope = Envelope {
            specversion: SpecVersion,
            // The message writes its own.
            kind: Kind::Reading,
            source: self.source.clone(),
            subject: thing.plain().to_owned(),
            time: draft.time.unwrap_or(cause.time),
            recordedtime: intake.recordedtime.or(cause.recordedtime),
            // Who gives a time of its own answers for it.
            relativetime: intake.relativetime || (draft.time.is_none() && cause.relativetime),
            rawseq: intake.rawseq.or(cause.rawseq),
            protocol: intake.protocol.or_else(|| cause.protocol.clone()),
            publisher: intake.publisher.or_else(|| cause.publisher.clone()),
            causationid: if same { None } else { Some(cause.id.clone()) },
            correlationid: if same {
                cause.correlationid.clone()
            } else {
                Some(cause.correlationid.as_ref().unwrap_or(&cause.id).clone())
            },
            traceparent: Some(traceparent.clone()),
            expirytime: draft.expirytime,
            data: (),
            id,
        };
        if lane == Lane::Valid {
            let body = message.write(envelope).map_err(ComposeError::Json)?;
            return Ok(Written::Reading(Packable {
                site: cause.site.clone(),
                body,
                hops: hops.to_owned(),
            }));
        }
        let subject = match name {
            Some(name) => Subject::named(lane, cause.site.clone(), thing, name),
            None => Subject::of(lane, cause.site.clone(), thing),
        };
        let headers = headers(
            &traceparent,
            self.stage,
            hops,
            message_id(&envelope.id, envelope.rawseq),
        );
        let payload = Bytes::from(message.write(envelope).map_err(ComposeError::Json)?);
        Ok(Written::Single(
            Outgoing {
                subject: subject.to_string(),
                headers,
                payload,
                stream: lane.stream(),
            },
            lane,
        ))
    }

    /// Its own, the cause's where it stays the same effect, or one that follows from the cause's.
    fn id(&self, own: Option<String>, same: bool, cause: &Cause, n: usize) -> Result<String, ComposeError> {
        let id = own.unwrap_or_else(|| {
            if same {
                cause.id.clone()
            } else {
                id::effect(&cause.id, self.stage, n)
            }
        });
        if id::is_id(&id) {
            Ok(id)
        } else {
            Err(ComposeError::Id(id))
        }
    }

    /// The last token of the subject, if the worker may use it.
    fn declared(&self, lane: Lane, name: Option<&str>) -> Result<Option<Name>, ComposeError> {
        let Some(name) = name.filter(|_| lane.has_name()) else {
            return Ok(None);
        };
        let (kind, declared) = match lane {
            Lane::Event => ("event", self.events),
            Lane::Command => ("command", self.commands),
            _ => ("", &[][..]),
        };
        if !kind.is_empty() && !declared.contains(&name) && !declared.contains(&ANY) {
            return Err(ComposeError::Undeclared {
                kind,
                name: name.to_owned(),
                stage: self.stage,
            });
        }
        let name = Name::new(name).map_err(|error| ComposeError::Name(name.to_owned(), error))?;
        Ok(Some(name))
    }
}

/// The headers of one envelope.
pub(crate) fn headers(
    traceparent: &str,
    stage: &str,
    hops: &str,
    message_id: String,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![(header::CONTENT_TYPE, header::CLOUDEVENT.to_owned())];
    if let Some(child) = id::child(traceparent, stage) {
        headers.push((header::TRACEPARENT, child));
    }
    headers.push((header::HOPS, hops.to_owned()));
    headers.push((header::MSG_ID, message_id));
    headers
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
