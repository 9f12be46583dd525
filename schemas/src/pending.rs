//! An entry of the bucket `pending`: a command that waits for its device, and how far it has come.
//!
//! Whoever changes an entry compares and sets its revision, so each step has one author. A command ends in two steps:
//! [`Pending::end`] is set, which decides how; then that outcome is published, confirmed, and the key deleted. Whoever
//! finds an entry with an `end` may take the second step.
use crate::{Command, Envelope, Outcome, Timestamp, kinds::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Reverse;

/// The priority of a command that names none.
pub const PRIORITY: u8 = 5;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 9;

/// One command that has not ended, or whose end is not yet confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The command as it was published.
    pub command: Envelope<Command>,
    /// The site at which it was given.
    pub site: String,
    /// The thing, unescaped.
    pub thing: String,
    /// Its place in the stream COMMANDS; 0 where it had to be handled again, which puts it first.
    pub sequence: u64,
    /// 0 to 9, larger first.
    pub priority: u8,
    /// Not delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Never delivered at or after that moment.
    pub expires: Timestamp,
    /// Whether it may be delivered again where no answer came.
    pub idempotent: bool,
    /// `queued`, `sent` or `acknowledged`.
    pub state: State,
    /// The last delivery; none while `queued`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// How it ends: decided, and to be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Box<Envelope<Outcome>>>,
}

/// A delivery to the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When it began.
    pub at: Timestamp,
    /// The instance of the bridge.
    pub bridge: String,
    /// From 1.
    pub attempt: u32,
}

/// Where a command stands in the queue of its thing: the smaller, the sooner.
pub type Turn = (Reverse<u8>, u64, Timestamp, String);

impl Pending {
    /// A command that has just been accepted. `sequence` is its place in COMMANDS.
    pub fn queued(
        command: Envelope<Command>,
        site: &str,
        sequence: u64,
        expires: Timestamp,
        idempotent: bool,
    ) -> Self {
        Self {
            site: site.to_owned(),
            thing: command.subject.clone(),
            sequence,
            priority: command.data.priority.unwrap_or(PRIORITY).min(PRIORITY_MAX),
            start: command.data.start,
            expires,
            idempotent,
            state: State::Queued,
            sent: None,
            end: None,
            command,
        }
    }

    /// The command's id.
    pub fn id(&self) -> &str {
        &self.command.id
    }

    /// Its place in the queue: the higher priority first, then the older.
    pub fn turn(&self) -> Turn {
        (
            Reverse(self.priority),
            self.sequence,
            self.command.time,
            self.command.id.clone(),
        )
    }

    /// Whether its time has come, has not run out, and its end is not decided.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.start.is_none_or(|start| start <= now) && now < self.expires
    }

    /// Whether nobody may deliver it any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// The next delivery, by that instance of the bridge: the entry to set before the bytes go out.
    #[must_use]
    pub fn to_sent(&self, bridge: &str, now: Timestamp) -> Self {
        let before = self.sent.as_ref().map_or(0, |sent| sent.attempt);
        Self {
            state: State::Sent,
            sent: Some(Sent {
                at: now,
                bridge: bridge.to_owned(),
                attempt: before + 1,
            }),
            ..self.clone()
        }
    }

    /// The device has it: the entry to set.
    #[must_use]
    pub fn to_acknowledged(&self) -> Self {
        Self {
            state: State::Acknowledged,
            ..self.clone()
        }
    }

    /// That end, decided: the entry to set before `end` is published.
    #[must_use]
    pub fn to_ended(&self, end: Envelope<Outcome>) -> Self {
        Self {
            end: Some(Box::new(end)),
            ..self.clone()
        }
    }

    /// The outcome that tells of the present state, said by `stage` (`actuate`, `bridge`). Its id names the effect:
    /// `<command id>.queued`, `.sent.<attempt>`, `.acknowledged.<attempt>`.
    pub fn outcome(&self, stage: &str, now: Timestamp) -> Envelope<Outcome> {
        let attempt = self.sent.as_ref().map_or(0, |sent| sent.attempt);
        let (step, told) = match self.state {
            State::Queued => ("queued".to_owned(), Told::with_request(State::Queued)),
            State::Acknowledged => (format!("acknowledged.{attempt}"), Told::of(State::Acknowledged)),
            // An entry is in none of the others.
            _ => (format!("sent.{attempt}"), Told::of(State::Sent)),
        };
        told.about(&self.command, &self.site, stage, &step, self.expires, now)
    }

    /// The outcome with which it ends, said by `stage`. Its id is `<command id>.end`.
    pub fn ending(&self, stage: &str, told: Told, now: Timestamp) -> Envelope<Outcome> {
        told.end(&self.command, &self.site, stage, self.expires, now)
    }
}

/// What an outcome says beside whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    state: State,
    output: Value,
    problem: Option<String>,
    request: bool,
}

impl Told {
    /// That state and no more.
    pub fn of(state: State) -> Self {
        Self {
            state,
            output: Value::Null,
            problem: None,
            request: false,
        }
    }

    /// That state, with the whole command: of `queued` and of every refusal.
    pub fn with_request(state: State) -> Self {
        Self {
            request: true,
            ..Self::of(state)
        }
    }

    /// With what the device answered.
    #[must_use]
    pub fn answered(mut self, output: Value) -> Self {
        self.output = output;
        self
    }

    /// And why.
    #[must_use]
    pub fn because(mut self, problem: impl Into<String>) -> Self {
        self.problem = Some(problem.into());
        self
    }

    /// As the end of that command; for one that never became [`Pending`] too.
    pub fn end(
        self,
        command: &Envelope<Command>,
        site: &str,
        stage: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Envelope<Outcome> {
        debug_assert!(self.state.is_terminal(), "{:?} is no end", self.state);
        self.about(command, site, stage, "end", expires, now)
    }

    fn about(
        self,
        command: &Envelope<Command>,
        site: &str,
        stage: &str,
        step: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Envelope<Outcome> {
        let outcome = Outcome {
            command: command.id.clone(),
            name: command.data.name.clone(),
            state: self.state,
            output: self.output,
            problem: self.problem,
            request: self.request.then(|| command.data.clone()),
        };
        let id = format!("{}.{step}", command.id);
        let mut envelope = Envelope::new(id, format!("/{site}/{stage}"), &command.subject, now, outcome);
        envelope.rawseq = command.rawseq;
        envelope.protocol.clone_from(&command.protocol);
        envelope.publisher.clone_from(&command.publisher);
        envelope.causationid = Some(command.id.clone());
        envelope.correlationid = Some(command.correlationid.as_ref().unwrap_or(&command.id).clone());
        envelope.traceparent.clone_from(&command.traceparent);
        envelope.expirytime = Some(expires);
        envelope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn pending(sequence: u64, priority: Option<u8>) -> Pending {
        let mut data = Command::new("lamp", true);
        data.priority = priority;
        let mut command = Envelope::new(
            format!("lamp-3:{sequence}"),
            "/a8/gateway",
            "lamp-3",
            at(10),
            data,
        );
        command.publisher = Some("alice".to_owned());
        Pending::queued(command, "a8", sequence, at(70), false)
    }

    #[test]
    fn the_higher_priority_goes_first_and_then_the_older() {
        let mut queue = [
            pending(1, None),
            pending(2, Some(9)),
            pending(3, Some(0)),
            pending(4, Some(9)),
        ];
        queue.sort_by_key(Pending::turn);
        assert_eq!(queue.map(|one| one.sequence), [2, 4, 1, 3]);
    }

    #[test]
    fn it_is_due_from_its_start_to_its_expiry_and_not_at_it() {
        let mut one = pending(1, None);
        assert!(one.is_due(at(10)) && !one.is_due(at(70)) && one.is_expired(at(70)));
        one.start = Some(at(20));
        assert!(!one.is_due(at(19)) && one.is_due(at(20)));
        let end = one.ending("actuate", Told::of(State::Cancelled), at(21));
        assert!(!one.to_ended(end).is_due(at(21)));
    }

    #[test]
    fn each_step_has_an_id_of_its_own_and_all_ends_have_one() {
        let queued = pending(1, None);
        let first = queued.outcome("actuate", at(10));
        assert_eq!(
            (first.id.as_str(), first.data.state),
            ("lamp-3:1.queued", State::Queued)
        );
        assert_eq!(first.data.request.as_ref(), Some(&queued.command.data));
        assert_eq!(first.publisher.as_deref(), Some("alice"));
        let sent = queued.to_sent("b1", at(11));
        assert_eq!(sent.outcome("bridge", at(11)).id, "lamp-3:1.sent.1");
        let again = sent.to_sent("b2", at(12));
        assert_eq!(again.outcome("bridge", at(12)).id, "lamp-3:1.sent.2");
        let acknowledged = again.to_acknowledged();
        assert_eq!(
            acknowledged.outcome("bridge", at(13)).id,
            "lamp-3:1.acknowledged.2"
        );
        for state in [State::Succeeded, State::Unknown, State::Expired] {
            let end = acknowledged.ending("bridge", Told::of(state), at(14));
            assert_eq!((end.id.as_str(), end.data.state), ("lamp-3:1.end", state));
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let sent = pending(7, Some(2)).to_sent("b1", at(11));
        let end = sent.ending("bridge", Told::of(State::Failed).because("no power"), at(12));
        let whole = sent.to_ended(end);
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Pending>(&text).unwrap(), whole);
    }
}
