//! What the bridge says of a command: outcomes on `outcome.<site>.<thing>.<name>`, published in order until the broker has them.
//!
//! The last word on a command is in its entry before it is on the stream (the bucket decides who has it), and the entry
//! goes once the stream has it: whoever finds an entry with an end publishes that end and takes the entry away.
use super::Inner;
use std::{sync::Arc, time::Duration};
use telltale_nats::{
    pending,
    publish::{Outgoing, PublishError, Publisher},
};
use telltale_schemas::{Envelope, Outcome, Timestamp, kinds::State, pending::Pending};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Who says it.
pub(super) const STAGE: &str = "bridge";
/// Outcomes that wait for the broker; what finds no room is told again by whoever looks after the entry.
const WAITING_MAX: usize = 10_000;
/// Most that are published as one group.
const GROUP_MAX: usize = 500;
/// Before what was not confirmed is published again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long the end of the process waits for the last ones.
const LAST: Duration = Duration::from_secs(5);

/// One outcome on its way.
#[derive(Debug)]
pub(super) struct Word {
    outgoing: Outgoing,
    /// The entry that goes with it, and its revision.
    ends: Option<(String, u64)>,
}

/// Where outcomes are put.
#[derive(Debug, Clone)]
pub(super) struct Mouth(mpsc::Sender<Word>);

impl Mouth {
    pub(super) fn new() -> (Self, mpsc::Receiver<Word>) {
        let (sender, words) = mpsc::channel(WAITING_MAX);
        (Self(sender), words)
    }

    fn say(&self, word: Word) {
        if self.0.try_send(word).is_err() {
            warn!("an outcome waits for another time: the broker is away for too long");
        }
    }
}

impl Inner {
    /// Tells how far it has come: `sent` as of when it was sent, `acknowledged` as of now.
    pub(super) fn tell_state(&self, entry: &Pending) {
        let sent = entry.sent.as_ref().filter(|_| entry.state == State::Sent);
        let at = sent.map_or_else(Timestamp::now, |sent| sent.at);
        self.tell(&entry.outcome(STAGE, at), None);
    }

    /// Tells the end that stands in an entry, and takes the entry away.
    pub(super) fn tell_end(&self, key: &str, entry: &Pending, revision: u64) {
        if let Some(end) = &entry.end {
            self.tell_again(entry);
            self.tell(end, Some((key.to_owned(), revision)));
        }
    }

    /// What another bridge had to tell before, and may have died of: the same ids, so told twice it is once.
    fn tell_again(&self, entry: &Pending) {
        if let Some(sent) = entry.sent.as_ref().filter(|sent| sent.bridge != self.instance) {
            let before = Pending {
                state: State::Sent,
                ..entry.clone()
            };
            self.tell(&before.outcome(STAGE, sent.at), None);
            if entry.state == State::Acknowledged {
                self.tell_state(entry);
            }
        }
    }

    fn tell(&self, envelope: &Envelope<Outcome>, ends: Option<(String, u64)>) {
        let Some(outgoing) = pending::outcome(envelope, &self.site) else {
            warn!(
                id = envelope.id,
                "an outcome of `{}` has no subject", envelope.subject
            );
            return;
        };
        self.metrics.outcome(envelope.data.state);
        self.mouth.say(Word { outgoing, ends });
    }

    /// Publishes until stopped, and then what is left.
    pub(super) async fn speak(
        self: Arc<Self>,
        mut words: mpsc::Receiver<Word>,
        publisher: &Publisher,
        stop: &CancellationToken,
    ) {
        let mut waiting: Vec<Word> = Vec::new();
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = words.recv_many(&mut waiting, GROUP_MAX) => {}
                }
            } else {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
            self.publish(&mut waiting, publisher).await;
        }
        words.close();
        let last = async {
            loop {
                words.recv_many(&mut waiting, GROUP_MAX).await;
                if waiting.is_empty() {
                    return;
                }
                self.publish(&mut waiting, publisher).await;
                if !waiting.is_empty() {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            warn!("some outcomes were not confirmed before the end: their entries tell them later");
        }
    }

    /// Leaves what has to be tried again, and all behind it.
    async fn publish(&self, waiting: &mut Vec<Word>, publisher: &Publisher) {
        let group = waiting.iter().map(|word| word.outgoing.clone()).collect();
        let mut results = publisher.publish(group).await.into_iter();
        let mut done = Vec::new();
        waiting.retain_mut(|word| match results.next() {
            Some(Err(PublishError::Away(_) | PublishError::Busy | PublishError::Full)) => true,
            Some(Err(error)) => {
                warn!(
                    "the broker refuses an outcome on `{}`: {error}",
                    word.outgoing.subject
                );
                false
            }
            Some(Ok(_)) | None => {
                done.extend(word.ends.take());
                false
            }
        });
        // Whoever was faster has taken it away; what fails is found again by its end.
        let taken = done.iter().map(|(key, revision)| self.take_away(key, *revision));
        futures::future::join_all(taken).await;
    }
}
