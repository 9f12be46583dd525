//! What became of readings: their rows, their quarantine entries, and what RAW has still to tell.
use super::rows::Row;
use anyhow::Context as _;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use telltale_nats::{Lane, Name, async_nats::jetstream, provision};
use tokio_postgres::Client;

/// The bounds say the same once more, so that the days outside them cost nothing, not even planning.
const STORED: &str = "
    select x.id from unnest($1::timestamptz[], $2::text[]) as x(time, id)
    cross join lateral (
        select from readings r
        where r.time = x.time and r.message_id = x.id and r.time between $3 and $4
        limit 1
    ) as found";
const QUARANTINED: &str = "select distinct message_id from quarantine where message_id = any($1)";
const MISSING: &str = "
    select coalesce(sum(upper(part) - lower(part)), 0)::bigint
    from unnest(telltale.missing($1, $2, $3, $4)) as part";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Without any progress for that long, waiting ends.
const PATIENCE: Duration = Duration::from_mins(1);

/// Those of the rows that the database has.
pub async fn stored(sql: &Client, rows: &[Row]) -> anyhow::Result<HashSet<String>> {
    let times: Vec<_> = rows.iter().map(|row| row.time.to_offset()).collect();
    let ids: Vec<_> = rows.iter().map(Row::id).collect();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(HashSet::new());
    };
    let found = sql
        .query(STORED, &[&times, &ids, first, last])
        .await
        .context("look for the rows")?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// Those of the rows that were refused by a stage.
pub async fn quarantined(sql: &Client, rows: &[Row]) -> anyhow::Result<HashSet<String>> {
    let ids: Vec<_> = rows.iter().map(Row::id).collect();
    let found = sql
        .query(QUARANTINED, &[&ids])
        .await
        .context("look into the quarantine")?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// A place in RAW.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    epoch: i64,
    last: i64,
}

/// Where RAW ends now.
pub async fn mark(js: &jetstream::Context) -> anyhow::Result<Mark> {
    let stream = js.get_stream(Lane::Raw.stream()).await.context("look at RAW")?;
    let last = stream.cached_info().state.last_sequence;
    let epoch = provision::epoch(js).await?;
    Ok(Mark {
        epoch: i64::try_from(epoch)?,
        last: i64::try_from(last)?,
    })
}

/// Waits until the ledger knows the fate of everything between two places; says how many it does not know.
pub async fn settle(sql: &Client, site: &Name, from: Mark, to: Mark) -> anyhow::Result<i64> {
    let since = if from.epoch == to.epoch { from.last + 1 } else { 1 };
    let (mut least, mut moved) = (i64::MAX, Instant::now());
    loop {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&site.plain(), &to.epoch, &to.last, &since];
        let missing: i64 = sql
            .query_one(MISSING, &params)
            .await
            .context("read the ledger")?
            .get(0);
        if missing == 0 {
            return Ok(0);
        }
        if missing < least {
            (least, moved) = (missing, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Ok(missing);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
