//! Who was not told, and how much is still to be done.
use crate::{context::Context, stack::WORKERS};
use futures::TryStreamExt as _;
use std::collections::HashSet;
use telltale_checker::oracle::{Observed, Violation};
use telltale_nats::{Topology, async_nats::Client, client};

/// Rows of which the counting subscriber has not heard.
pub(super) fn untold(observed: &Observed) -> Option<Violation> {
    let told: HashSet<&String> = observed.effects.keys().collect();
    let mut ids: Vec<String> = observed
        .rows
        .keys()
        .filter(|id| !told.contains(id))
        .cloned()
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.truncate(5);
    (count > 0).then(|| Violation {
        oracle: "I1",
        what: "stored, and never seen by the subscriber".to_owned(),
        count,
        ids,
    })
}

/// Messages that wait for one of our workers; none while the broker does not say.
pub(super) async fn lag(context: &Context, nats: &Client) -> Option<u64> {
    let js = client::context(nats.clone());
    let mut lag = 0;
    for stream in Topology::of(&context.site).streams {
        let mut consumers = js.get_stream(&stream.name).await.ok()?.consumers();
        while let Some(info) = consumers.try_next().await.ok()? {
            if WORKERS.iter().any(|worker| info.name == *worker) {
                lag += info.num_pending + info.num_ack_pending as u64;
            }
        }
    }
    Some(lag)
}
