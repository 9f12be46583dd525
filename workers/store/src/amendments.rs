//! Verdicts on the quality of rows that came after their messages (event `quality` of worker `process`).
//!
//! A verdict may arrive before its row does, from another copy of store at the same moment, and again. So: of two verdicts
//! on a row the worse flag and all failed tests hold, whatever their order; one without a row waits in `store.amendments`
//! and is taken up with it; and a transaction that amends shares its time with none that adds readings, so that each sees
//! what the other has done. They wait for each other at their beginning, before they hold anything else.
use crate::Storable;
use crate::admit::Message;
use crate::sql::Statements;
use crate::stamp::Stamp;
use crate::trouble::Trouble;
use serde::Deserialize as _;
use std::collections::BTreeMap;
use telltale_runtime::Delivery;
use telltale_schemas::{
    Event, Timestamp,
    quality::{self, Amendment},
};
use tokio_postgres::Transaction;

const DAY_MICROS: i64 = 86_400_000_000;
/// Who alone may amend: an extension that raises an event of this name flags nothing.
const BY: &str = "/process";

/// A row of `store.readings`.
type Key<'a> = (Timestamp, String, i16, &'a str);

/// Whether that message amends rows.
pub(crate) fn is_amending(delivery: &Delivery<Storable>) -> bool {
    matches!(&delivery.data, Storable::Event(event) if event.name == quality::EVENT)
        && delivery.cause.source.ends_with(BY)
}

fn of(event: &Event) -> impl Iterator<Item = Amendment> {
    let list = event.detail.get("of").and_then(serde_json::Value::as_array);
    let all = list.into_iter().flatten();
    all.filter_map(|one| Amendment::deserialize(one).ok())
        .filter(|one| one.failed.iter().all(|test| is_test(test)))
}

/// As `json/record.v1.schema.json` has it.
fn is_test(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter)
}

/// First in each transaction: those that add readings go together, one that amends goes alone.
pub(crate) async fn take_turn(
    transaction: &Transaction<'_>,
    statements: &Statements,
    group: &[Message<'_>],
) -> Result<(), Trouble> {
    let statement = if group.iter().any(|message| is_amending(message.delivery)) {
        &statements.turn_alone
    } else if group.iter().any(|message| message.rows > 0) {
        &statements.turn_together
    } else {
        return Ok(());
    };
    transaction.query_one(statement, &[]).await?;
    Ok(())
}

/// Amends the rows that are there; what is said of others waits for them.
pub(crate) async fn write(
    transaction: &Transaction<'_>,
    statements: &Statements,
    group: &[Message<'_>],
) -> Result<(), Trouble> {
    let mut joined: BTreeMap<Key<'_>, Amendment> = BTreeMap::new();
    for message in group.iter().filter(|message| is_amending(message.delivery)) {
        let Storable::Event(event) = &message.delivery.data else {
            continue;
        };
        for amendment in of(event) {
            let Ok(ordinal) = i16::try_from(amendment.ordinal) else {
                continue;
            };
            let key = (
                amendment.time,
                amendment.id.clone(),
                ordinal,
                message.delivery.thing(),
            );
            let entry = joined.entry(key).or_insert_with(|| amendment.clone());
            entry.join(&amendment);
        }
    }
    // One statement for each day: only its partition is looked at, and locked.
    let mut days: BTreeMap<i64, Vec<(Key<'_>, Amendment)>> = BTreeMap::new();
    for (key, amendment) in joined {
        let day = key.0.as_micros().div_euclid(DAY_MICROS);
        days.entry(day).or_default().push((key, amendment));
    }
    for day in days.values() {
        let times: Vec<Stamp> = day.iter().map(|((time, ..), _)| Stamp(*time)).collect();
        let ids: Vec<&str> = day.iter().map(|((_, id, ..), _)| id.as_str()).collect();
        let ordinals: Vec<i16> = day.iter().map(|((_, _, ordinal, _), _)| *ordinal).collect();
        let things: Vec<&str> = day.iter().map(|((.., thing), _)| *thing).collect();
        let flags: Vec<i16> = day.iter().map(|(_, of)| u8::from(of.q).into()).collect();
        let failed: Vec<String> = day.iter().map(|(_, of)| of.failed.join(",")).collect();
        // They are in the order of time.
        let (first, last) = (times.first(), times.last());
        transaction
            .execute(
                &statements.amend,
                &[&times, &ids, &ordinals, &things, &flags, &failed, &first, &last],
            )
            .await?;
    }
    Ok(())
}

/// What waited for rows that were staged in this transaction.
pub(crate) async fn take_up(
    transaction: &Transaction<'_>,
    statements: &Statements,
    first: Timestamp,
    last: Timestamp,
) -> Result<(), Trouble> {
    let (first, last) = (Stamp(first), Stamp(last));
    let waiting = transaction
        .query_one(&statements.waiting, &[&first, &last])
        .await?;
    if waiting.get(0) {
        transaction.execute(&statements.take_up, &[&first, &last]).await?;
    }
    Ok(())
}
