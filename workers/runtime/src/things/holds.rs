//! Answers `api.<site>.<worker>.holds`: from which revision of the bucket on does this copy judge?
use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::watch;

/// Questions that wait at once; more get the first answer only.
const WAITING_MAX: usize = 64;
/// How long a question waits for its revision.
const PATIENCE: Duration = Duration::from_secs(30);

/// The question: who holds this revision?
#[derive(Debug, Serialize, Deserialize)]
pub struct HoldsRequest {
    /// Of the `things` bucket.
    pub revision: u64,
}

/// The answer of one copy, at once; and again when it holds what it was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct HoldsReply {
    /// Which copy.
    pub instance: String,
    /// What it holds.
    pub revision: u64,
}

/// Answers until the subscription ends.
pub(super) async fn answer(
    client: Client,
    mut questions: async_nats::Subscriber,
    instance: String,
    held: watch::Receiver<u64>,
) {
    let mut waiting = FuturesUnordered::new();
    loop {
        tokio::select! {
            question = questions.next() => {
                let Some(question) = question else { return };
                let Some((reply, revision)) = parse(&question) else { continue };
                let current = *held.borrow();
                say(&client, reply.clone(), &instance, current).await;
                if current < revision && waiting.len() < WAITING_MAX {
                    waiting.push(reached(held.clone(), revision, reply));
                }
            }
            Some(arrived) = waiting.next(), if !waiting.is_empty() => {
                if let Some((reply, revision)) = arrived {
                    say(&client, reply, &instance, revision).await;
                }
            }
        }
    }
}

/// Only inboxes are answered: a reply subject is the asker's choice, and the server does not check it.
fn parse(question: &Message) -> Option<(Subject, u64)> {
    let reply = question
        .reply
        .as_ref()
        .filter(|reply| reply.starts_with("_INBOX_"))?;
    let request: HoldsRequest = serde_json::from_slice(&question.payload).ok()?;
    Some((reply.clone(), request.revision))
}

async fn reached(mut held: watch::Receiver<u64>, revision: u64, reply: Subject) -> Option<(Subject, u64)> {
    let current = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= revision)).await;
    Some((reply, *current.ok()?.ok()?))
}

async fn say(client: &Client, reply: Subject, instance: &str, revision: u64) {
    let answer = HoldsReply {
        instance: instance.to_owned(),
        revision,
    };
    let payload = serde_json::to_vec(&answer).expect("two plain members serialize");
    #[expect(
        clippy::disallowed_methods,
        reason = "a reply to a request: whoever misses it asks again"
    )]
    let sent = client.publish(reply, Bytes::from(payload)).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "the answer to `holds` was not sent");
    }
}
