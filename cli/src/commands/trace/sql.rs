//! What the database knows of a message.
use anyhow::Context as _;
use serde_json::Value;
use std::time::Duration;
use telltale_schemas::{RawSeq, Timestamp};
use tokio_postgres::{Client, Row as SqlRow};

/// A message that is rows.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) site: String,
    pub(super) thing: String,
    pub(super) kind: String,
    pub(super) name: Option<String>,
    pub(super) time: Timestamp,
    pub(super) received: Option<Timestamp>,
    pub(super) protocol: Option<String>,
    pub(super) publisher: Option<String>,
    pub(super) rawseq: Option<RawSeq>,
    pub(super) hops: String,
}

/// An entry of the quarantine.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) message_id: String,
    pub(super) site: String,
    pub(super) thing: String,
    pub(super) stage: String,
    pub(super) reason: String,
    pub(super) attempts: i32,
    pub(super) state: String,
    pub(super) errors: Value,
    pub(super) time: Timestamp,
    pub(super) received: Option<Timestamp>,
    pub(super) protocol: Option<String>,
    pub(super) publisher: Option<String>,
    pub(super) rawseq: Option<RawSeq>,
    pub(super) hops: String,
}

const COLUMNS: &str =
    "message_id, site, thing, kind, name, time, received, protocol, publisher, epoch, seq, hops";
const ENTRIES: &str = "
    select q.id, q.message_id, q.site, q.thing, q.stage, q.reason, q.attempts, q.state, q.errors, q.time, q.received,
        q.protocol, q.publisher, q.epoch, q.seq, h.hops
    from quarantine as q
    left join hops as h on h.kind = 'quarantine' and h.message_id = q.id
    where q.id = $1 or q.message_id = $1 or (q.epoch = $2 and q.seq = $3)
    order by q.received, q.id limit 50";
/// Later than it came in a reading cannot have been measured, but for clocks that are wrong.
const AHEAD: Duration = Duration::from_hours(24);
/// Backwards from when it came in, so far and further: most are measured as they come.
const BACK: [Duration; 3] = [
    Duration::from_mins(10),
    Duration::from_hours(24),
    Duration::from_hours(8 * 24),
];

fn rawseq(row: &SqlRow) -> Option<RawSeq> {
    let part = |column: &str| u64::try_from(row.get::<_, Option<i64>>(column)?).ok();
    Some(RawSeq {
        epoch: part("epoch")?,
        seq: part("seq")?,
    })
}

fn when(row: &SqlRow, column: &str) -> Option<Timestamp> {
    let at: Option<time::OffsetDateTime> = row.get(column);
    at.map(Timestamp::from_offset)
}

fn row(row: &SqlRow) -> Row {
    Row {
        id: row.get("message_id"),
        site: row.get("site"),
        thing: row.get("thing"),
        kind: row.get("kind"),
        name: row.get("name"),
        time: when(row, "time").unwrap_or_else(Timestamp::now),
        received: when(row, "received"),
        protocol: row.get("protocol"),
        publisher: row.get("publisher"),
        rawseq: rawseq(row),
        hops: row.get::<_, Option<String>>("hops").unwrap_or_default(),
    }
}

fn signed(raw: RawSeq) -> Option<(i64, i64)> {
    Some((i64::try_from(raw.epoch).ok()?, i64::try_from(raw.seq).ok()?))
}

/// Entries of that id, of that message, or from that place in RAW.
pub(super) async fn entries(sql: &Client, id: &str, raw: Option<RawSeq>) -> anyhow::Result<Vec<Entry>> {
    let (epoch, seq) = raw.and_then(signed).unzip();
    let found = sql
        .query(ENTRIES, &[&id, &epoch, &seq])
        .await
        .context("look into the quarantine")?;
    let entry = |row: &SqlRow| Entry {
        id: row.get("id"),
        message_id: row.get("message_id"),
        site: row.get("site"),
        thing: row.get("thing"),
        stage: row.get("stage"),
        reason: row.get("reason"),
        attempts: row.get("attempts"),
        state: row.get("state"),
        errors: row.get("errors"),
        time: when(row, "time").unwrap_or_else(Timestamp::now),
        received: when(row, "received"),
        protocol: row.get("protocol"),
        publisher: row.get("publisher"),
        rawseq: rawseq(row),
        hops: row.get::<_, Option<String>>("hops").unwrap_or_default(),
    };
    Ok(found.iter().map(entry).collect())
}

/// Readings of that id. By key where its time is known; else among those of its thing, first around the time at
/// which it came, then further back.
pub(super) async fn readings(
    sql: &Client,
    id: &str,
    things: &[String],
    came: Option<Timestamp>,
) -> anyhow::Result<Vec<Row>> {
    let seen: Option<time::OffsetDateTime> = sql
        .query_one("select telltale.first_seen($1)", &[&id])
        .await
        .context("look for its time")?
        .get(0);
    let by_key = format!(
        "select {COLUMNS} from hops where kind in ('observation', 'derivation') and time = $1 and message_id = $2"
    );
    if let Some(seen) = seen {
        let found = sql
            .query(&by_key, &[&seen, &id])
            .await
            .context("look for its row")?;
        if !found.is_empty() {
            return Ok(found.iter().map(row).collect());
        }
    }
    let by_thing = format!(
        "select {COLUMNS} from hops
         where kind in ('observation', 'derivation') and thing = any($1) and message_id = $2 and time between $3 and $4"
    );
    let came = came.unwrap_or_else(Timestamp::now).to_offset();
    for back in BACK {
        let (first, last) = (came - back, came + AHEAD.min(back));
        let found = sql
            .query(&by_thing, &[&things, &id, &first, &last])
            .await
            .context("look for its row")?;
        if !found.is_empty() {
            return Ok(found.iter().map(row).collect());
        }
    }
    Ok(Vec::new())
}

/// Readings from that place in RAW.
pub(super) async fn readings_of(sql: &Client, raw: RawSeq) -> anyhow::Result<Vec<Row>> {
    let Some((epoch, seq)) = signed(raw) else {
        return Ok(Vec::new());
    };
    let by_place =
        format!("select {COLUMNS} from hops where kind = 'observation' and seq = $1 and epoch = $2");
    let found = sql
        .query(&by_place, &[&seq, &epoch])
        .await
        .context("look for its row")?;
    Ok(found.iter().map(row).collect())
}

/// Events and outcomes of that id, and what it has caused.
pub(super) async fn effects(sql: &Client, id: &str) -> anyhow::Result<(Vec<Row>, Vec<Row>)> {
    let by = |what: &str| {
        format!(
            "select {COLUMNS} from hops where kind in ('event', 'outcome') and {what} = $1 order by time, message_id limit 100"
        )
    };
    let own = sql
        .query(&by("message_id"), &[&id])
        .await
        .context("look among the events")?;
    let caused = sql
        .query(&by("causation_id"), &[&id])
        .await
        .context("look for what it caused")?;
    Ok((own.iter().map(row).collect(), caused.iter().map(row).collect()))
}

/// The reason of an event that says that an entry was not kept.
pub(super) async fn unkept_reason(sql: &Client, id: &str) -> anyhow::Result<Option<String>> {
    let found = sql
        .query_opt(
            "select data ->> 'reason' from events where message_id = $1",
            &[&id],
        )
        .await
        .context("look among the events")?;
    Ok(found.and_then(|row| row.get(0)))
}

/// What became of a place in RAW, by the ledger: the best of it.
pub(super) async fn fate(sql: &Client, site: &str, raw: RawSeq) -> anyhow::Result<Option<String>> {
    const FATE: &str = "
        select fate from ledger where site = $1 and epoch = $2 and block = $3::bigint / 65536 and seqs @> $3::bigint
        order by array_position(array['stored', 'duplicate', 'quarantined', 'unkept', 'removed'], fate) limit 1";
    let Some((epoch, seq)) = signed(raw) else {
        return Ok(None);
    };
    let found = sql
        .query_opt(FATE, &[&site, &epoch, &seq])
        .await
        .context("read the ledger")?;
    Ok(found.map(|row| row.get(0)))
}
