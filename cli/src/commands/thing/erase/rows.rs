//! A thing's rows.
use super::Part;
use anyhow::Context as _;
use telltale_nats::Name;
use tokio_postgres::Client;

/// Tables with a column `thing`, in the order in which they are emptied.
const TABLES: [&str; 8] = [
    "readings",
    "amendments",
    "series",
    "events",
    "outcomes",
    "quarantine",
    "things",
    "registrations",
];
/// The first time of each message that had none; keyed by the message, not by the thing.
const FIRST_SEEN: &str = "
    delete from store.first_seen as f using (select distinct id from store.readings where thing = $1) as r
    where f.id = r.id";
/// What was annotated to it, and to nobody else. What is said of things that nobody registered is everybody's.
const ANNOTATIONS: &str = "
    select coalesce(array_agg(distinct r.annotation::text), '{}')
    from store.readings as r join store.annotations as a on a.id = r.annotation
    where r.thing = $1 and a.data ? 'tdrev'";
const ORPHANS: &str = "
    delete from store.annotations as a
    where a.id = any($1::text[]::uuid[]) and not exists (select from store.readings as r where r.annotation = a.id)";

/// How many rows there are of it, by table. The one that says that it was erased is none of its own.
pub(super) async fn count(sql: &Client, thing: &Name) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for table in TABLES {
        let query = format!("select count(*) from store.{table} where thing = $1");
        let row = sql
            .query_one(&query, &[&thing.plain()])
            .await
            .with_context(|| format!("count the rows of {table}"))?;
        parts.push(Part {
            place: format!("rows of {table}"),
            count: u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
        });
    }
    Ok(parts)
}

/// Deletes its rows, all or none.
pub(super) async fn erase(sql: &mut Client, thing: &Name) -> anyhow::Result<Vec<Part>> {
    let name = thing.plain();
    let transaction = sql.transaction().await.context("begin")?;
    let annotations: Vec<String> = transaction
        .query_one(ANNOTATIONS, &[&name])
        .await
        .context("look for its annotations")?
        .get(0);
    let mut parts = Vec::new();
    let first_seen = transaction
        .execute(FIRST_SEEN, &[&name])
        .await
        .context("delete from first_seen")?;
    for table in TABLES {
        let deleted = transaction
            .execute(&format!("delete from store.{table} where thing = $1"), &[&name])
            .await
            .with_context(|| format!("delete from {table}"))?;
        parts.push(Part {
            place: format!("rows of {table}"),
            count: deleted,
        });
    }
    let orphans = transaction
        .execute(ORPHANS, &[&annotations])
        .await
        .context("delete from annotations")?;
    for (table, count) in [("first_seen", first_seen), ("annotations", orphans)] {
        parts.push(Part {
            place: format!("rows of {table}"),
            count,
        });
    }
    transaction.commit().await.context("commit")?;
    Ok(parts)
}
