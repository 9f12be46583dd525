//! What became of what was sent, for the oracles.
use crate::{context::Context, stack::WORKERS};
use std::collections::{BTreeMap, HashMap};
use telltale_checker::{
    ledger::Sent,
    oracle::{Entry, Observed},
};
use telltale_nats::{async_nats::Client, client, provision};

/// What a stage after `validate` refuses is no longer what was sent; then its own digest is looked at.
const ENTRIES: &str = "select message_id, reason, sha256, stage,
    sha256 = encode(pg_catalog.sha256(payload), 'hex'), stage || '/' || epoch || '-' || seq from quarantine";

/// Reads what became of it all.
pub(super) async fn observe(
    context: &Context,
    nats: &Client,
    sent: &[Sent],
    effects: HashMap<String, u32>,
) -> anyhow::Result<(Observed, BTreeMap<String, usize>)> {
    let sql = context.sql().await?;
    let mut observed = Observed {
        effects,
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

/// What RAW has taken that has no fate.
pub(super) async fn missing(
    context: &Context,
    nats: &Client,
    sql: &tokio_postgres::Client,
) -> anyhow::Result<i64> {
    let js = client::context(nats.clone());
    let epoch = i64::try_from(provision::epoch(&js).await?)?;
    let raw = js.get_stream("RAW").await?;
    let last = i64::try_from(raw.cached_info().state.last_sequence)?;
    let row = sql
        .query_one(
            "select telltale.cardinality(telltale.missing($1, $2, $3))",
            &[&context.site.plain(), &epoch, &last],
        )
        .await?;
    Ok(row.get(0))
}
