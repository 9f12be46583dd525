//! Readings brought in while processes die: each until somebody says "accepted".
use super::{Class, Sent};
use crate::{
    commands::courier::{Bridge, Courier, Parcel, Receipt},
    context::Context,
};
use anyhow::bail;
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use telltale_schemas::id;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: u32 = 4;
/// Enough that one device's invalid readings never reach the quarantine's cap for a subject.
const THINGS: u64 = 50;

/// Readings on their way.
pub(super) struct Load {
    senders: JoinSet<anyhow::Result<Vec<Sent>>>,
    stop: CancellationToken,
}

impl Load {
    /// Begins to send `rate` readings a second.
    pub(super) fn begin(context: &Context, rate: u32) -> anyhow::Result<Self> {
        let bridge = Bridge::new(context.get("BRIDGE_URL")?, context.get("BRIDGE_TOKEN")?)?;
        let stop = CancellationToken::new();
        let next = Arc::new(AtomicU64::new(0));
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let period = Duration::from_secs(1) * CONNECTIONS / rate.max(1);
            senders.spawn(send(
                Courier::new(bridge.clone()),
                Arc::clone(&next),
                period,
                stop.clone(),
            ));
        }
        Ok(Self { senders, stop })
    }

    /// Sends no more, and tells what was accepted.
    pub(super) async fn end(mut self) -> anyhow::Result<Vec<Sent>> {
        self.stop.cancel();
        let mut all = Vec::new();
        while let Some(sent) = self.senders.join_next().await {
            all.extend(sent??);
        }
        Ok(all)
    }
}

async fn send(
    mut courier: Courier,
    next: Arc<AtomicU64>,
    period: Duration,
    stop: CancellationToken,
) -> anyhow::Result<Vec<Sent>> {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = Vec::new();
    // What is begun is brought to its end: what is accepted is known exactly.
    let patient = CancellationToken::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return Ok(sent),
        }
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (one, parcel) = reading(n);
        let times = if n % 100 == 7 { 2 } else { 1 };
        for _ in 0..times {
            match courier.deliver(&parcel, &patient).await {
                Receipt::Accepted(_) => {}
                other => bail!("`{}` was not accepted: {other:?}", one.id),
            }
        }
        sent.push(one);
    }
}

fn reading(n: u64) -> (Sent, Parcel) {
    let (thing, key) = (format!("point-{}", n % THINGS), format!("k{n}"));
    let (class, body) = if n % 10 == 3 {
        (Class::Bad, format!(r#"{{"number":{n},"temperature":"#))
    } else {
        (Class::Good, format!(r#"{{"number":{n}}}"#))
    };
    let body = Bytes::from(body);
    let sent = Sent {
        id: id::of(&thing, &key),
        class,
        sha256: id::digest(&body),
    };
    let parcel = Parcel {
        thing,
        key: Some(key),
        content_type: "application/json",
        body,
    };
    (sent, parcel)
}
