//! Message type to lane: a worker never sees a subject.
use crate::{Cause, delivery::Raw};
use telltale_nats::{Lane, Name};
use telltale_schemas::{
    Command, Derivation, Document, Envelope, Event, Observation, Outcome, Quarantine, Reading, Registration,
    kinds::Fault,
};

/// One kind of message on one lane. Closed: the eight kinds.
pub trait OnLane: Document {
    /// Where it travels.
    const LANE: Lane;
    /// Whether the message goes on under its cause's own id (a reading stays itself up to its row).
    const SAME_ID: bool = false;
    /// The last token of its subject, for lanes that have one.
    fn name(&self) -> Option<&str> {
        None
    }
}

impl OnLane for Reading {
    const LANE: Lane = Lane::Valid;
    const SAME_ID: bool = true;
}
impl OnLane for Observation {
    const LANE: Lane = Lane::Annotated;
    const SAME_ID: bool = true;
}
impl OnLane for Derivation {
    const LANE: Lane = Lane::Derived;
}
impl OnLane for Event {
    const LANE: Lane = Lane::Event;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Command {
    const LANE: Lane = Lane::Command;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Outcome {
    const LANE: Lane = Lane::Outcome;
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}
impl OnLane for Registration {
    const LANE: Lane = Lane::Thing;
    fn name(&self) -> Option<&str> {
        Some(self.change.word())
    }
}
impl OnLane for Quarantine {
    const LANE: Lane = Lane::Quarantine;
    fn name(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// Why bytes on a lane are not a message of it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the lane's document.
    #[error("not a valid {lane} document")]
    Malformed {
        /// The lane.
        lane: Lane,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The worker does not read this lane.
    #[error("nothing is read from `{0}` here")]
    Lane(Lane),
    /// The envelope contradicts its subject.
    #[error("{0}")]
    Contradiction(String),
    /// The lane's document in another version than the worker reads.
    #[error(
        "`{found}` is not `{known}`, the one version that this worker reads: replay it to a worker of that version"
    )]
    Version {
        /// Its CloudEvents type.
        found: String,
        /// The worker's.
        known: &'static str,
    },
}

impl DecodeError {
    /// Reason and fault, as the quarantine keeps them.
    pub(crate) fn refusal(&self) -> (&'static str, Fault) {
        let text = match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        };
        match self {
            Self::Malformed { .. } | Self::Contradiction(_) => ("undecodable", Fault::at("", text)),
            Self::Lane(_) => ("subject", Fault::at("", text)),
            Self::Version { .. } => ("version", Fault::at("/type", text)),
        }
    }

    /// Why these bytes are no `M`.
    fn of<M: OnLane>(lane: Lane, payload: &[u8], source: serde_json::Error) -> Self {
        /// As much as every version says.
        #[derive(serde::Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            kind: String,
        }
        let known = M::KIND.event_type();
        match serde_json::from_slice::<Typed>(payload) {
            Ok(Typed { kind }) if kind != known && unversioned(&kind) == unversioned(known) => {
                Self::Version { found: kind, known }
            }
            _ => Self::Malformed { lane, source },
        }
    }
}

/// A CloudEvents type of ours without its version.
fn unversioned(event_type: &str) -> Option<&str> {
    let (kind, version) = event_type.rsplit_once(".v")?;
    version.bytes().all(|b| b.is_ascii_digit()).then_some(kind)
}

/// What a worker reads: a kind, [`Raw`], or an enum over several kinds made with [`lanes!`](crate::lanes).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a worker's `Input`",
    note = "use a message type of telltale-schemas, or an enum made with `lanes! {{ .. }}`"
)]
pub trait Inbound: Sized + Send + Sync + 'static {
    /// The lanes it is read from.
    const LANES: &'static [Lane];
    /// One envelope's JSON, or a raw message, becomes data and cause. `base` has what the subject and the
    /// delivery say; the implementation overwrites what the envelope says.
    fn decode(lane: Lane, raw: Raw, base: Cause) -> Result<(Self, Cause), DecodeError>;
}

/// What a worker may write: a kind, an enum made with [`lanes!`](crate::lanes), or [`Nothing`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a worker's `Output`",
    note = "use a message type, an enum made with `lanes! {{ .. }}`, or `Nothing`"
)]
pub trait Outbound: Send + Sync + 'static {
    /// The lanes it may be written to.
    const LANES: &'static [Lane];
    /// This one's lane.
    fn lane(&self) -> Lane;
    /// Whether it keeps its cause's id.
    fn same_id(&self) -> bool;
    /// The last token of its subject.
    fn name(&self) -> Option<&str>;
    /// The whole envelope as JSON, given all but kind and data.
    fn write(&self, envelope: telltale_schemas::Envelope<()>) -> Result<Vec<u8>, serde_json::Error>;
}

impl Inbound for Raw {
    const LANES: &'static [Lane] = &[Lane::Raw];
    fn decode(lane: Lane, raw: Self, base: Cause) -> Result<(Self, Cause), DecodeError> {
        match lane {
            Lane::Raw => Ok((raw, base)),
            other => Err(DecodeError::Lane(other)),
        }
    }
}

impl<M: OnLane> Inbound for M {
    const LANES: &'static [Lane] = &[M::LANE];
    fn decode(lane: Lane, raw: Raw, base: Cause) -> Result<(Self, Cause), DecodeError> {
        if lane != M::LANE {
            return Err(DecodeError::Lane(lane));
        }
        let envelope: Envelope<M> = serde_json::from_slice(&raw.payload)
            .map_err(|source| DecodeError::of::<M>(lane, &raw.payload, source))?;
        check(&envelope, &raw.subject, &base)?;
        let thing = Name::new(envelope.subject)
            .map_err(|error| DecodeError::Contradiction(format!("subject: {error}")))?;
        let cause = Cause {
            id: envelope.id,
            thing,
            time: envelope.time,
            recordedtime: envelope.recordedtime,
            relativetime: envelope.relativetime,
            rawseq: envelope.rawseq,
            protocol: envelope.protocol,
            publisher: envelope.publisher,
            correlationid: envelope.correlationid,
            causationid: envelope.causationid,
            traceparent: base.traceparent.or(envelope.traceparent),
            expirytime: envelope.expirytime,
            source: envelope.source,
            site: base.site,
            hops: base.hops,
            sequence: base.sequence,
            attempt: base.attempt,
            redo: base.redo,
        };
        Ok((envelope.data, cause))
    }
}

/// What the envelope says must agree with the subject that it came under.
fn check<M: OnLane>(envelope: &Envelope<M>, subject: &str, base: &Cause) -> Result<(), DecodeError> {
    let contradiction = |text: String| Err(DecodeError::Contradiction(text));
    if envelope.kind != M::KIND {
        return contradiction(format!(
            "type `{}` does not belong on `{}`",
            envelope.kind.event_type(),
            M::LANE
        ));
    }
    if telltale_nats::subject::parse_pack(subject).is_none() && envelope.subject != base.thing.plain() {
        return contradiction(format!(
            "the envelope is about `{}`, its subject about `{}`",
            envelope.subject, base.thing
        ));
    }
    if let Some(name) = envelope.data.name() {
        let token = Name::new(name).map_err(|error| DecodeError::Contradiction(format!("name: {error}")))?;
        if subject.rsplit('.').next() != Some(token.token()) {
            return contradiction(format!("`{name}` came under `{subject}`"));
        }
    }
    Ok(())
}

impl<M: OnLane> Outbound for M {
    const LANES: &'static [Lane] = &[M::LANE];
    fn lane(&self) -> Lane {
        M::LANE
    }
    fn same_id(&self) -> bool {
        M::SAME_ID
    }
    fn name(&self) -> Option<&str> {
        OnLane::name(self)
    }
    fn write(&self, envelope: Envelope<()>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Envelope {
            specversion: envelope.specversion,
            id: envelope.id,
            kind: M::KIND,
            source: envelope.source,
            subject: envelope.subject,
            time: envelope.time,
            recordedtime: envelope.recordedtime,
            relativetime: envelope.relativetime,
            rawseq: envelope.rawseq,
            protocol: envelope.protocol,
            publisher: envelope.publisher,
            causationid: envelope.causationid,
            correlationid: envelope.correlationid,
            traceparent: envelope.traceparent,
            expirytime: envelope.expirytime,
            data: self,
        })
    }
}

/// The output of a sink. It has no values, so `Emit<Nothing>` can only be empty.
#[derive(Debug, Clone, Copy)]
pub enum Nothing {}

impl Outbound for Nothing {
    const LANES: &'static [Lane] = &[];
    fn lane(&self) -> Lane {
        match *self {}
    }
    fn same_id(&self) -> bool {
        match *self {}
    }
    fn name(&self) -> Option<&str> {
        match *self {}
    }
    fn write(&self, _: Envelope<()>) -> Result<Vec<u8>, serde_json::Error> {
        match *self {}
    }
}

/// An enum over message types, one variant named after each, readable and writable, with `From` for each.
///
/// ```
/// use telltale_runtime::prelude::*;
/// telltale_runtime::lanes! {
///     /// What the rule says.
///     pub enum Alarm { Event, Command }
/// }
/// let _: Emit<Alarm> = Emit::one(Event::new("hot")).and(Command::new("lamp", true));
/// ```
#[macro_export]
macro_rules! lanes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$inner:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis enum $name {
            $(
                $(#[$inner])*
                #[doc = concat!("A message of the type [`", stringify!($variant), "`].")]
                $variant($variant)
            ),+
        }
        impl $crate::Inbound for $name {
            const LANES: &'static [$crate::Lane] = &[$(<$variant as $crate::OnLane>::LANE),+];
            fn decode(
                lane: $crate::Lane,
                raw: $crate::delivery::Raw,
                base: $crate::Cause,
            ) -> ::std::result::Result<(Self, $crate::Cause), $crate::lane::DecodeError> {
                $(if lane == <$variant as $crate::OnLane>::LANE {
                    return <$variant as $crate::Inbound>::decode(lane, raw, base)
                        .map(|(data, cause)| (Self::$variant(data), cause));
                })+
                ::std::result::Result::Err($crate::lane::DecodeError::Lane(lane))
            }
        }
        impl $crate::Outbound for $name {
            const LANES: &'static [$crate::Lane] = &[$(<$variant as $crate::OnLane>::LANE),+];
            fn lane(&self) -> $crate::Lane {
                match self { $(Self::$variant(_) => <$variant as $crate::OnLane>::LANE),+ }
            }
            fn same_id(&self) -> bool {
                match self { $(Self::$variant(_) => <$variant as $crate::OnLane>::SAME_ID),+ }
            }
            fn name(&self) -> ::std::option::Option<&str> {
                match self { $(Self::$variant(message) => $crate::OnLane::name(message)),+ }
            }
            fn write(
                &self,
                envelope: $crate::Envelope<()>,
            ) -> ::std::result::Result<::std::vec::Vec<u8>, $crate::JsonError> {
                match self { $(Self::$variant(message) => $crate::Outbound::write(message, envelope)),+ }
            }
        }
        $(impl ::std::convert::From<$variant> for $name {
            fn from(message: $variant) -> Self { Self::$variant(message) }
        })+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: &str) -> (&'static str, Fault) {
        let source = serde_json::from_str::<Envelope<Reading>>(payload).unwrap_err();
        DecodeError::of::<Reading>(Lane::Valid, payload.as_bytes(), source).refusal()
    }

    #[test]
    fn another_version_is_told_from_another_type_and_from_rubbish() {
        let (reason, fault) = refused(r#"{"type":"telltale.reading.v2","new":true}"#);
        assert_eq!((reason, fault.pointer.as_str()), ("version", "/type"));
        assert!(
            fault
                .message
                .contains("`telltale.reading.v2` is not `telltale.reading.v1`"),
            "{fault:?}"
        );
        for other in [
            r#"{"type":"telltale.reading.v1"}"#,
            r#"{"type":"telltale.reading.vx"}"#,
            r#"{"type":"telltale.event.v2"}"#,
            r#"{"type":2}"#,
            "[",
        ] {
            assert_eq!(refused(other).0, "undecodable", "{other}");
        }
    }
}
