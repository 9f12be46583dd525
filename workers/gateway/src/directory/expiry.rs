//! Takes away what has expired (W3C WoT Discovery §7.2.2), and tells it.
use crate::registry::{Error, Registry};
use futures::StreamExt as _;
use std::time::Duration;
use telltale_schemas::{Timestamp, kinds::Change};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Between two looks. What has expired is served to nobody even before.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Taken away at once.
const AT_ONCE: usize = 16;

/// Until stopped. Several gateways may: each end is told once.
pub(crate) async fn run(registry: &Registry, stop: &CancellationToken) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let expired = registry.expired(Timestamp::now());
        futures::stream::iter(expired)
            .for_each_concurrent(AT_ONCE, |(thing, revision)| async move {
                let removed = registry.remove(&thing, Change::Expired, Some(revision), None);
                match removed.await {
                    // Another gateway was faster, or its author.
                    Ok(_) | Err(Error::Stale(_) | Error::Unknown(_)) => {}
                    Err(error) => tracing::warn!(%thing, "an expired thing could not be taken away: {error}"),
                }
            })
            .await;
    }
}
