//! What became of it all, and how much is still to be done.
use crate::{
    commands::chaos::{judge::missing, mixed::subscriber::Seen},
    context::Context,
    stack::WORKERS,
};
use futures::TryStreamExt as _;
use std::collections::{BTreeMap, HashMap, HashSet};
use telltale_checker::{
    ledger::Sent,
    oracle::{Entry, Observed, Violation},
};
use telltale_nats::{Topology, async_nats::Client, client};

/// What a stage after `validate` refuses is no longer what was sent; then its own digest is looked at.
const ENTRIES: &str = "select message_id, reason, sha256, stage,
    sha256 = encode(pg_catalog.sha256(payload), 'hex'), stage || '/' || epoch || '-' || seq from quarantine";

/// Reads what became of it all.
pub(super) async fn observe(
    context: &Context,
    nats: &Client,
    sent: &[Sent],
    seen: Seen,
) -> anyhow::Result<(Observed, BTreeMap<String, usize>)> {
    let sql = context.sql().await?;
    let mut observed = Observed {
        effects: seen.effects,
        missing: missing(context, nats, &sql).await?,
        ..Observed::default()
    };
    let rows = sql
        .query(
            "select message_id, count(*) from readings where ordinal = 0 group by message_id",
            &[],
        )
        .await?;
    observed.rows = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let known: HashMap<&str, &str> = sent
        .iter()
        .map(|one| (one.id.as_str(), one.sha256.as_str()))
        .collect();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for row in sql.query(ENTRIES, &[]).await? {
        let (id, reason, own): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (stage, whole): (String, bool) = (row.get(3), row.get(4));
        *reasons.entry(format!("{stage}/{reason}")).or_default() += 1;
        let sha256 = match known.get(id.as_str()) {
            _ if !whole => "not that of the bytes".to_owned(),
            Some(sent) if stage != WORKERS[0] => (*sent).to_owned(),
            _ => own,
        };
        let taken = row.get::<_, Option<String>>(5).unwrap_or_default();
        let entry = Entry {
            reason,
            sha256,
            taken,
        };
        observed.entries.push((id, entry));
    }
    Ok((observed, reasons))
}

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
