//! Readings brought in while processes die: each until somebody says "accepted".
use super::{Class, now_us};
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
use telltale_checker::ledger::{Answer, Sent};
use telltale_schemas::id;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Readings on their way.
pub(super) struct Load {
    senders: JoinSet<anyhow::Result<Vec<Sent>>>,
    stop: CancellationToken,
}

impl Load {
    /// Begins to send `rate` readings a second, over so many connections.
    pub(super) fn begin(
        context: &Context,
        rate: u32,
        connections: u32,
        make: impl Fn(u64) -> Option<(Sent, Parcel, u32)> + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        let bridge = Bridge::new(context.get("BRIDGE_URL")?, context.get("BRIDGE_TOKEN")?)?;
        let stop = CancellationToken::new();
        let next = Arc::new(AtomicU64::new(0));
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            let period = Duration::from_secs(1) * connections / rate.max(1);
            senders.spawn(send(
                Courier::new(bridge.clone()),
                Arc::clone(&next),
                make.clone(),
                period,
                stop.clone(),
            ));
        }
        Ok(Self { senders, stop })
    }

    /// Sends no more, and tells what was accepted.
    pub(super) async fn end(self) -> anyhow::Result<Vec<Sent>> {
        self.stop.cancel();
        self.all().await
    }

    /// Waits for the last one, and tells what was accepted.
    pub(super) async fn all(mut self) -> anyhow::Result<Vec<Sent>> {
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
    make: impl Fn(u64) -> Option<(Sent, Parcel, u32)>,
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
        let Some((mut one, parcel, times)) = make(next.fetch_add(1, Ordering::Relaxed)) else {
            return Ok(sent);
        };
        one.sent_us = now_us();
        for _ in 0..times {
            match courier.deliver(&parcel, &patient).await {
                Receipt::Accepted(_) => {}
                other => bail!("`{}` was not accepted: {other:?}", one.id),
            }
        }
        (one.answered_us, one.answer) = (Some(now_us()), Answer::Accepted);
        sent.push(one);
    }
}

/// A reading of a thing, with its key.
pub(super) fn parcel(thing: &str, key: &str, class: Class, body: String) -> (Sent, Parcel) {
    let body = Bytes::from(body);
    let sent = Sent {
        id: id::of(thing, key),
        class,
        sha256: id::digest(&body),
        sent_us: 0,
        answered_us: None,
        answer: Answer::Unknown,
    };
    let parcel = Parcel {
        thing: thing.to_owned(),
        key: Some(key.to_owned()),
        content_type: "application/json",
        body,
    };
    (sent, parcel)
}
