//! What a worker may answer.
use std::{borrow::Cow, fmt, time::Duration};
use telltale_schemas::{RawSeq, Timestamp, kinds::Fault};

/// What a worker answers to one delivery.
pub type Verdict<O> = Result<Emit<O>, Failure>;

/// Zero or more messages to publish before the input is acknowledged.
#[derive(Debug)]
#[must_use]
pub struct Emit<O>(Vec<Draft<O>>);

/// One message to publish. What is `None` the runtime takes from the cause.
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft<O> {
    /// The message.
    pub message: O,
    /// Instead of `<id of the cause>.<worker>.<n>` (or the cause's own id, where a reading goes on as itself).
    pub id: Option<String>,
    /// Instead of the cause's time.
    pub time: Option<Timestamp>,
    /// Another thing than the cause's, unescaped.
    pub thing: Option<String>,
    /// What `validate` finds out about a raw message.
    pub intake: Option<Intake>,
    /// After this a command is never carried out.
    pub expirytime: Option<Timestamp>,
}

/// Where a reading came from, known to `validate` alone and carried to the row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intake {
    /// When it was received.
    pub recordedtime: Option<Timestamp>,
    /// Whether a time of it counts from that, and is another one when the message is sent again.
    pub relativetime: bool,
    /// Which raw message it is.
    pub rawseq: Option<RawSeq>,
    /// How it came in.
    pub protocol: Option<String>,
    /// Whose credential brought it.
    pub publisher: Option<String>,
}

impl<O> Draft<O> {
    /// A message that takes everything else from its cause.
    pub fn new(message: impl Into<O>) -> Self {
        Self {
            message: message.into(),
            id: None,
            time: None,
            thing: None,
            intake: None,
            expirytime: None,
        }
    }
    /// With an id of its own, which names the effect.
    #[must_use]
    pub fn keyed(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
    /// With a time of its own.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }
    /// About another thing.
    #[must_use]
    pub fn about(mut self, thing: impl Into<String>) -> Self {
        self.thing = Some(thing.into());
        self
    }
    /// With what `validate` found out.
    #[must_use]
    pub fn taken_in(mut self, intake: Intake) -> Self {
        self.intake = Some(intake);
        self
    }
    /// Not to be carried out after that moment.
    #[must_use]
    pub fn expires(mut self, at: Timestamp) -> Self {
        self.expirytime = Some(at);
        self
    }
}

impl<O> Emit<O> {
    /// Nothing follows from the input.
    pub fn none() -> Self {
        Self(Vec::new())
    }
    /// One message.
    pub fn one(message: impl Into<O>) -> Self {
        Self(vec![Draft::new(message)])
    }
    /// One message with an id, time or thing of its own.
    pub fn draft(draft: Draft<O>) -> Self {
        Self(vec![draft])
    }
    /// And another message.
    pub fn and(mut self, message: impl Into<O>) -> Self {
        self.0.push(Draft::new(message));
        self
    }
    /// And another message with an id, time or thing of its own.
    pub fn and_draft(mut self, draft: Draft<O>) -> Self {
        self.0.push(draft);
        self
    }
    /// What is to be published, in order.
    pub fn drafts(&self) -> &[Draft<O>] {
        &self.0
    }
    /// The same, owned.
    pub fn into_drafts(self) -> Vec<Draft<O>> {
        self.0
    }
}

impl<O> From<Option<O>> for Emit<O> {
    fn from(message: Option<O>) -> Self {
        Self(message.into_iter().map(Draft::new).collect())
    }
}

impl<O> FromIterator<O> for Emit<O> {
    fn from_iter<I: IntoIterator<Item = O>>(messages: I) -> Self {
        Self(messages.into_iter().map(Draft::new).collect())
    }
}

/// Why a message was not handled, and whose fault that is.
///
/// Not an `Error` on purpose: that is what lets `?` turn every error, `anyhow`'s too, into a retry.
pub struct Failure(pub(crate) Why);

pub(crate) enum Why {
    /// Maybe the message's fault: again, at most `attempts_max` times.
    Retry {
        error: anyhow::Error,
        after: Option<Duration>,
    },
    /// The world's fault: hold the message, stop pulling, count nothing.
    Outage { error: anyhow::Error },
    /// Certainly the message's fault: quarantine now.
    Reject {
        reason: Cow<'static, str>,
        faults: Vec<Fault>,
        error: Option<anyhow::Error>,
        intake: Option<Box<Intake>>,
    },
}

impl Failure {
    /// The message is wrong; it goes to the quarantine under that reason (`[a-z0-9_]+`).
    pub fn reject(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Why::Reject {
            reason: reason.into(),
            faults: Vec::new(),
            error: None,
            intake: None,
        })
    }
    /// The message is wrong in these places.
    pub fn reject_for(reason: impl Into<Cow<'static, str>>, faults: Vec<Fault>) -> Self {
        Self(Why::Reject {
            reason: reason.into(),
            faults,
            error: None,
            intake: None,
        })
    }
    /// With what `validate` found out, for the entry in the quarantine; changes nothing unless this quarantines.
    #[must_use]
    pub fn taken_in(mut self, found: Intake) -> Self {
        if let Why::Reject { intake, .. } = &mut self.0 {
            *intake = Some(Box::new(found));
        }
        self
    }
    /// What the worker depends on is away.
    pub fn outage(error: impl Into<anyhow::Error>) -> Self {
        Self(Why::Outage { error: error.into() })
    }
    /// Again, but not before that time; counted.
    pub fn retry_after(after: Duration, error: impl Into<anyhow::Error>) -> Self {
        Self(Why::Retry {
            error: error.into(),
            after: Some(after),
        })
    }
    /// What `validate` found out about the message, if this quarantines.
    pub fn intake(&self) -> Option<&Intake> {
        match &self.0 {
            Why::Reject { intake, .. } => intake.as_deref(),
            Why::Retry { .. } | Why::Outage { .. } => None,
        }
    }
    /// The reason, if this quarantines.
    pub fn reason(&self) -> Option<&str> {
        match &self.0 {
            Why::Reject { reason, .. } => Some(reason),
            Why::Retry { .. } | Why::Outage { .. } => None,
        }
    }
    /// What was wrong and where, if this quarantines.
    pub fn faults(&self) -> &[Fault] {
        match &self.0 {
            Why::Reject { faults, .. } => faults,
            Why::Retry { .. } | Why::Outage { .. } => &[],
        }
    }
    /// Whether this holds.
    pub fn is_outage(&self) -> bool {
        matches!(self.0, Why::Outage { .. })
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Retry { error, after: None } => write!(f, "retry: {error:#}"),
            Why::Retry {
                error,
                after: Some(after),
            } => write!(f, "retry after {after:?}: {error:#}"),
            Why::Outage { error } => write!(f, "outage: {error:#}"),
            Why::Reject {
                reason,
                faults,
                error: None,
                ..
            } => write!(f, "reject `{reason}` {faults:?}"),
            Why::Reject {
                reason,
                error: Some(error),
                ..
            } => write!(f, "reject `{reason}`: {error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Why::Retry {
            error: error.into(),
            after: None,
        })
    }
}

/// `.or_reject("bad_unit")?` and `.or_outage()?`
pub trait Judge<T> {
    /// The message is wrong.
    fn or_reject(self, reason: &'static str) -> Result<T, Failure>;
    /// What the worker depends on is away.
    fn or_outage(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Judge<T> for Result<T, E> {
    fn or_reject(self, reason: &'static str) -> Result<T, Failure> {
        self.map_err(|e| {
            Failure(Why::Reject {
                reason: reason.into(),
                faults: Vec::new(),
                error: Some(e.into()),
                intake: None,
            })
        })
    }
    fn or_outage(self) -> Result<T, Failure> {
        self.map_err(Failure::outage)
    }
}

impl<T> Judge<T> for Option<T> {
    fn or_reject(self, reason: &'static str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject(reason))
    }
    fn or_outage(self) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::outage(anyhow::anyhow!("absent")))
    }
}
