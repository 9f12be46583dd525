//! What the bridge says of its own: who was refused, and who is there ([`crate::presence`]).
use crate::intake::Intake;
use std::time::{Duration, Instant};
use telltale_nats::publish::{PublishError, Publisher};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often it is looked for.
const TICK: Duration = Duration::from_millis(250);
/// Notes that wait for a broker which is away; more are dropped, the newest first.
const WAITING_MAX: usize = 10_000;

/// Tells until stopped, and then once more. What the broker does not confirm is told again under the same id.
pub(crate) async fn run(intake: &Intake, publisher: &Publisher, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    let mut waiting = Vec::new();
    loop {
        let is_end = tokio::select! {
            () = stop.cancelled() => true,
            _ = tick.tick() => false,
        };
        let room = WAITING_MAX.saturating_sub(waiting.len());
        let due = intake.notes(Instant::now(), is_end);
        if due.len() > room {
            warn!(
                "{} notes of the bridge are dropped: the broker is away for too long",
                due.len() - room
            );
        }
        waiting.extend(due.into_iter().take(room));
        if !waiting.is_empty() {
            let results = publisher.publish(waiting.clone()).await;
            let mut results = results.into_iter();
            waiting.retain(|note| match results.next() {
                Some(Err(PublishError::Away(_) | PublishError::Busy | PublishError::Full)) => true,
                Some(Err(error)) => {
                    warn!("the broker refuses a note on `{}`: {error}", note.subject);
                    false
                }
                Some(Ok(_)) | None => false,
            });
        }
        if is_end {
            return;
        }
    }
}
