//! What a device answers to a command: `{"state": "acknowledged" | "succeeded" | "failed", "output"?, "problem"?}`.
//!
//! An answer is taken once: it is in the command's entry before the device is told so. What comes after the end, or says what is
//! known, changes nothing and is counted.
use super::{
    Downlinks, Inner,
    entry::{Away, Changed, Wish},
    told,
};
use crate::{metrics::Protocol, uplink::Refusal};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
};
use telltale_nats::{Name, pending::key};
use telltale_schemas::{
    Timestamp,
    kinds::{Fault, State},
    pending::Told,
    strict,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Largest answer, in bytes.
pub(crate) const ANSWER_MAX: usize = 16 * 1024;
/// Lanes of answers. One thing's are taken in their order, so that "acknowledged" is not overtaken by what comes after it.
const LANES: usize = 16;
/// Answers that may wait in one lane.
const WAITING_MAX: usize = 1024;

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the command's entry.
    Taken,
    /// No command waits for it: that one has ended, or there was none.
    Late,
}

/// What will have become of an answer. Dropped untold, the bridge has ended.
pub(crate) type Answering = oneshot::Receiver<Result<Taken, Away>>;

/// An answer, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Job {
    key: String,
    answer: Answer,
    protocol: Protocol,
    told: oneshot::Sender<Result<Taken, Away>>,
}

/// What the device says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    state: Word,
    #[serde(default)]
    output: Value,
    #[serde(default)]
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Acknowledged,
    Succeeded,
    Failed,
}

impl Answer {
    /// From what a device sent.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let limits = strict::Limits {
            bytes: ANSWER_MAX,
            ..strict::DEVICE
        };
        let value = strict::parse(payload, &limits)?;
        serde_json::from_value(value).map_err(|error| Refusal::Invalid {
            reason: "shape",
            faults: vec![Fault::at(
                "",
                format!(
                    "{error}; say {{\"state\": \"acknowledged\", \"succeeded\" or \"failed\"}}, with `output` and `problem` if there are any"
                ),
            )],
        })
    }
}

/// Where answers wait, and where they are put.
pub(super) fn lanes() -> (Vec<mpsc::Sender<Job>>, Vec<mpsc::Receiver<Job>>) {
    (0..LANES).map(|_| mpsc::channel(WAITING_MAX)).unzip()
}

impl Downlinks {
    /// Puts an answer in line; `None` where there is no room.
    pub(crate) fn answer(
        &self,
        thing: &Name,
        command: &str,
        answer: Answer,
        protocol: Protocol,
    ) -> Option<Answering> {
        let mut hasher = DefaultHasher::new();
        thing.token().hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
        let (told, taken) = oneshot::channel();
        let job = Job {
            key: key(thing, command),
            answer,
            protocol,
            told,
        };
        self.0.answers.get(lane)?.try_send(job).ok()?;
        Some(taken)
    }
}

/// Takes the answers of a lane, until stopped and then what is left.
pub(super) async fn take(inner: &Inner, mut lane: mpsc::Receiver<Job>, stop: &CancellationToken) {
    loop {
        tokio::select! {
            job = lane.recv() => {
                let Some(job) = job else { return };
                let taken = inner.answered(&job.key, &job.answer).await;
                let word = match taken {
                    Ok(Taken::Taken) => "taken",
                    Ok(Taken::Late) => "late",
                    Err(Away) => "away",
                };
                inner.metrics.answer(job.protocol, word);
                // A device that has gone meanwhile is told nothing; its answer is taken all the same.
                let _told = job.told.send(taken);
            }
            () = stop.cancelled(), if !lane.is_closed() => lane.close(),
        }
    }
}

impl Inner {
    async fn answered(&self, key: &str, answer: &Answer) -> Result<Taken, Away> {
        let now = Timestamp::now();
        let changed = self
            .change(key, |pending| {
                // What was never sent cannot be answered.
                if pending.end.is_some() || pending.state == State::Queued {
                    return Wish::Refuse;
                }
                let told = match answer.state {
                    Word::Acknowledged if pending.state == State::Acknowledged => return Wish::Refuse,
                    Word::Acknowledged => return Wish::Write(Box::new(pending.to_acknowledged())),
                    Word::Succeeded => Told::of(State::Succeeded),
                    Word::Failed => Told::of(State::Failed),
                };
                let mut told = told.answered(answer.output.clone());
                if let Some(problem) = &answer.problem {
                    told = told.because(problem.as_str());
                }
                Wish::Write(Box::new(pending.to_ended(pending.ending(told::STAGE, told, now))))
            })
            .await?;
        Ok(match changed {
            Changed::Done(pending, revision) if pending.end.is_some() => {
                self.tell_end(key, &pending, revision);
                Taken::Taken
            }
            Changed::Done(pending, _) => {
                self.tell_state(&pending);
                Taken::Taken
            }
            Changed::Already(..) | Changed::Refused | Changed::Gone => Taken::Late,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_has_a_state_and_nothing_that_we_do_not_know() {
        let parsed = Answer::parse(br#"{"state":"succeeded","output":{"level":80}}"#).unwrap();
        assert_eq!(
            (parsed.state, parsed.output),
            (Word::Succeeded, json!({"level": 80}))
        );
        for wrong in [
            r#"{"state":"unknown"}"#,
            r#"{"state":"expired"}"#,
            r#"{"status":"succeeded"}"#,
            r#"{"state":"failed","why":"x"}"#,
            r#"{"state":"failed","state":"succeeded"}"#,
            r#""succeeded""#,
            "",
        ] {
            assert!(
                matches!(Answer::parse(wrong.as_bytes()), Err(Refusal::Invalid { .. })),
                "{wrong}"
            );
        }
        let large = format!(r#"{{"state":"failed","problem":"{}"}}"#, "x".repeat(ANSWER_MAX));
        assert!(Answer::parse(large.as_bytes()).is_err());
    }
}
