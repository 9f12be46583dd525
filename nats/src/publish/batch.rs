//! Atomic batches: one sync to disk for many messages.
//!
//! The client library has no call for them, so the protocol is spelled out here: each message carries the batch
//! and its place in it, only the last asks for an answer, and the answer is for all.
use super::{Ack, Outage, Outgoing, PublishError, Publisher, header_map, stored_elsewhere};
use async_nats::{
    HeaderMap, Request, RequestErrorKind,
    client::PublishErrorKind,
    jetstream::{self, ErrorCode, publish::PublishAck, response::Response},
};
use std::{
    pin::pin,
    sync::{PoisonError, atomic::Ordering},
};
use tokio::time::Instant;
use tracing::debug;

/// Most messages that the server takes in one.
const MESSAGES_MAX: usize = 1_000;
/// Most bytes of payload that we put into one: the server stages it before it stores it.
const BYTES_MAX: usize = 8 << 20;

const ID: &str = "Nats-Batch-Id";
const SEQUENCE: &str = "Nats-Batch-Sequence";
const COMMIT: &str = "Nats-Batch-Commit";

/// Nothing of the batch was stored, and each message may be published by itself.
pub(super) struct Refused;

impl Publisher {
    /// How many messages from the front make one batch.
    pub(super) fn batch_length(&self, lot: &[(usize, Outgoing)]) -> usize {
        let mut bytes = 0;
        let fitting = lot.iter().take_while(|(_, outgoing)| {
            bytes += outgoing.payload.len();
            bytes <= BYTES_MAX
        });
        fitting.take(MESSAGES_MAX.min(self.options.window)).count().max(1)
    }

    /// Publishes all or none. One result each, unless the server refuses batch or message.
    pub(super) async fn batch(
        &self,
        stream: &'static str,
        lot: &[(usize, Outgoing)],
    ) -> Result<Vec<Result<Ack, PublishError>>, Refused> {
        let _permits = self.permits(lot.len()).await;
        let mut outage = pin!(Outage::new(self.outage(self.connects())));
        let deadline = Instant::now() + self.options.ack_timeout;
        let answer = match outage.as_mut().or(self.send_batch(lot), deadline).await {
            Ok(answer) => answer?,
            Err(lost) => Err(lost.into()),
        };
        let ack = match answer {
            Err(error) => return Ok(lot.iter().map(|_| Err(error.clone())).collect()),
            Ok(Response::Ok(ack)) => ack,
            Ok(Response::Err { error }) => return Err(self.refused(stream, &error)),
        };
        if ack.stream != stream {
            return Ok(lot
                .iter()
                .map(|_| Err(stored_elsewhere(&ack.stream, stream)))
                .collect());
        }
        let first = (ack.sequence + 1).saturating_sub(lot.len() as u64);
        let acks = (first..=ack.sequence).map(|sequence| {
            Ok(Ack {
                stream: ack.stream.clone(),
                sequence,
                duplicate: false,
            })
        });
        Ok(acks.collect())
    }

    async fn send_batch(
        &self,
        lot: &[(usize, Outgoing)],
    ) -> Result<Result<Response<PublishAck>, PublishError>, Refused> {
        let number = self.batch_count.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.batch_prefix);
        let (last, before) = lot.split_last().expect("a batch is never empty");
        for (sequence, (_, outgoing)) in (1_u64..).zip(before) {
            let sent = self.client.publish_with_headers(
                outgoing.subject.clone(),
                member(outgoing, &id, sequence),
                outgoing.payload.clone(),
            );
            if let Err(error) = sent.await {
                return match error.kind() {
                    PublishErrorKind::Send => Ok(Err(PublishError::Away("the connection is closed".into()))),
                    _ => Err(Refused),
                };
            }
        }
        let (_, outgoing) = last;
        let mut headers = member(outgoing, &id, lot.len() as u64);
        headers.insert(COMMIT, "1");
        let request = Request::new()
            .headers(headers)
            .payload(outgoing.payload.clone())
            .timeout(Some(self.options.ack_timeout));
        match self.client.send_request(outgoing.subject.clone(), request).await {
            Ok(message) => match serde_json::from_slice(&message.payload) {
                Ok(response) => Ok(Ok(response)),
                Err(error) => Ok(Err(PublishError::Other(format!(
                    "an unreadable confirmation: {error}"
                )))),
            },
            Err(error) => match error.kind() {
                RequestErrorKind::TimedOut => Ok(Err(PublishError::Away("no confirmation in time".into()))),
                RequestErrorKind::NoResponders => {
                    Ok(Err(PublishError::Away("no stream takes this subject".into())))
                }
                RequestErrorKind::Other => Ok(Err(PublishError::Away("the connection is closed".into()))),
                _ => Err(Refused),
            },
        }
    }

    fn refused(&self, stream: &'static str, error: &jetstream::Error) -> Refused {
        debug!("`{stream}` refused a batch, its messages go one by one: {error}");
        if error.error_code() == ErrorCode::ATOMIC_PUBLISH_DISABLED {
            let mut unbatched = self.unbatched.lock().unwrap_or_else(PoisonError::into_inner);
            unbatched.push(stream);
        }
        Refused
    }
}

fn member(outgoing: &Outgoing, id: &str, sequence: u64) -> HeaderMap {
    let mut headers = header_map(outgoing);
    headers.insert(ID, id);
    headers.insert(SEQUENCE, sequence.to_string());
    headers
}
