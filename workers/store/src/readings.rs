//! Observations and derivations become rows.
use crate::Storable;
use crate::admit::{Message, bytes_of, time_of};
use crate::amendments;
use crate::copy::Copy;
use crate::ledger;
use crate::session::Known;
use crate::sql::{STAGE_COLUMNS, Statements};
use crate::stamp::Stamp;
use crate::trouble::Trouble;
use crate::write::hops;
use bytes::Bytes;
use futures::SinkExt as _;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::pin;
use telltale_schemas::{Flag, Record, Timestamp};
use tokio_postgres::{Transaction, types::Json};

/// As much is handed to the driver at once.
const CHUNK: usize = 256 << 10;

/// What one transaction adds to what is known, once it is committed.
#[derive(Debug, Default)]
pub(crate) struct News {
    annotations: Vec<[u8; 16]>,
    series: Vec<(String, String)>,
}

impl News {
    pub(crate) fn into_known(self, known: &mut Known) {
        for id in self.annotations {
            known.annotations.put(id, ());
        }
        for (thing, name) in self.series {
            // A thing that makes up names without end must not fill the memory.
            const NAMES_MAX: usize = 2_000;
            let names = known.series.get_or_insert_mut(thing, HashSet::new);
            if names.len() >= NAMES_MAX {
                names.clear();
            }
            names.insert(name);
        }
    }
}

/// What became of the readings of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Rows that are new.
    pub(crate) inserted: u64,
    /// Positions of messages whose id was there from another message of RAW.
    pub(crate) duplicates: HashSet<usize>,
    pub(crate) news: News,
}

/// An observation's annotation by its key in `store.annotations`; one for each position.
type Annotations = Vec<Option<[u8; 16]>>;

pub(crate) async fn write(
    transaction: &Transaction<'_>,
    statements: &Statements,
    known: &mut Known,
    group: &[Message<'_>],
    started: Timestamp,
) -> Result<Rows, Trouble> {
    let mut done = Rows {
        duplicates: seen_before(transaction, statements, group).await?,
        ..Rows::default()
    };
    let (annotations, fresh) = annotations(known, group);
    if !fresh.is_empty() {
        let ids: Vec<&[u8]> = fresh.keys().map(<[u8; 16]>::as_slice).collect();
        let data: Vec<_> = fresh.values().map(|data| Json(*data)).collect();
        transaction
            .execute(&statements.annotations, &[&ids, &data])
            .await?;
        done.news.annotations = fresh.into_keys().collect();
    }
    let fresh = new_series(known, group);
    if !fresh.is_empty() {
        let (things, names): (Vec<&str>, Vec<&str>) = fresh.iter().copied().unzip();
        transaction
            .execute(&statements.series, &[&things, &names])
            .await?;
        done.news.series = fresh
            .into_iter()
            .map(|(thing, name)| (thing.into(), name.into()))
            .collect();
    }
    let staged = stage(group, &done.duplicates, &annotations, started);
    if staged.copy.rows() == 0 {
        return Ok(done);
    }
    let rows = staged.copy.rows();
    copy(transaction, statements, staged.copy)
        .await
        .map_err(|trouble| trouble.blame(&staged.owners))?;
    done.inserted = transaction.execute(&statements.insert, &[]).await?;
    if done.inserted < rows {
        let taken = undo_taken(transaction, statements, staged.first, staged.last).await?;
        done.inserted -= taken.1;
        done.duplicates.extend(taken.0);
    }
    amendments::take_up(transaction, statements, staged.first, staged.last).await?;
    Ok(done)
}

/// Positions of messages whose time counts from their receipt, and whose id came before with another.
async fn seen_before(
    transaction: &Transaction<'_>,
    statements: &Statements,
    group: &[Message<'_>],
) -> Result<HashSet<usize>, Trouble> {
    let (mut ids, mut times, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for (position, message) in group.iter().enumerate() {
        let cause = &message.delivery.cause;
        if message.rows > 0 && (cause.relativetime || cause.recordedtime == Some(cause.time)) {
            ids.push(cause.id.as_str());
            times.push(Stamp(cause.time));
            positions.push(i32::try_from(position).expect("a batch is small"));
        }
    }
    let all_new = ids.is_empty() || {
        let new = transaction.execute(&statements.seen, &[&ids, &times]).await?;
        usize::try_from(new) == Ok(ids.len())
    };
    if all_new {
        return Ok(HashSet::new());
    }
    let before = transaction
        .query(&statements.seen_before, &[&ids, &times, &positions])
        .await?;
    Ok(before.iter().map(|row| position(row.get(0))).collect())
}

fn position(n: i32) -> usize {
    usize::try_from(n).expect("a position that we sent")
}

/// Each observation's annotation, and those that the database may not have yet.
fn annotations<'a>(
    known: &mut Known,
    group: &'a [Message<'_>],
) -> (
    Annotations,
    BTreeMap<[u8; 16], &'a serde_json::Map<String, serde_json::Value>>,
) {
    let mut fresh = BTreeMap::new();
    let of = |message: &'a Message<'_>| {
        let Storable::Observation(observation) = &message.delivery.data else {
            return None;
        };
        let data = &observation.annotation;
        if data.is_empty() {
            return None;
        }
        let text = serde_json::to_vec(data).expect("JSON values have a JSON text");
        let mut id = [0; 16];
        id.copy_from_slice(Sha256::digest(text).get(..16)?);
        if known.annotations.get(&id).is_none() {
            fresh.insert(id, data);
        }
        Some(id)
    };
    let all = group.iter().map(of).collect();
    (all, fresh)
}

fn new_series<'a>(known: &mut Known, group: &'a [Message<'_>]) -> BTreeSet<(&'a str, &'a str)> {
    let mut fresh = BTreeSet::new();
    for message in group {
        let thing = message.delivery.thing();
        let names = known.series.get(thing);
        for record in message.records().into_iter().flat_map(|(records, _)| records) {
            if !names.is_some_and(|names| names.contains(&record.n)) {
                fresh.insert((thing, record.n.as_str()));
            }
        }
    }
    fresh
}

struct Staged {
    copy: Copy,
    /// Position of the message that each row is of.
    owners: Vec<usize>,
    first: Timestamp,
    last: Timestamp,
}

fn stage(
    group: &[Message<'_>],
    without: &HashSet<usize>,
    annotations: &Annotations,
    started: Timestamp,
) -> Staged {
    let now = Timestamp::now();
    let mut staged = Staged {
        copy: Copy::with_capacity(group.iter().map(|message| message.bytes).sum()),
        owners: Vec::new(),
        first: now,
        last: now,
    };
    for (position, message) in group.iter().enumerate() {
        let Some((records, kind)) = message.records() else {
            continue;
        };
        if without.contains(&position) {
            continue;
        }
        let annotation = annotations.get(position).copied().flatten();
        let hops = hops(&message.delivery.cause, started, now);
        for (ordinal, record) in records.iter().enumerate() {
            let time = time_of(record, message.delivery.cause.time).expect("admitted messages have times");
            staged.first = staged.first.min(time);
            staged.last = staged.last.max(time);
            staged.owners.push(position);
            let row = Row {
                position,
                time,
                ordinal,
                kind,
                annotation,
                hops: (ordinal == 0).then_some(hops.as_str()),
            };
            row.encode(&mut staged.copy, message, record);
        }
    }
    staged
}

/// What a row has beside its message and its record.
struct Row<'a> {
    position: usize,
    time: Timestamp,
    ordinal: usize,
    kind: &'static str,
    annotation: Option<[u8; 16]>,
    hops: Option<&'a str>,
}

impl Row<'_> {
    fn encode(&self, to: &mut Copy, message: &Message<'_>, record: &Record) {
        let cause = &message.delivery.cause;
        let (epoch, seq) = ledger::raw(cause.rawseq);
        to.row(STAGE_COLUMNS);
        to.integer(i32::try_from(self.position).expect("a batch is small"));
        to.time(Some(self.time));
        to.time(cause.recordedtime);
        to.bigint(epoch);
        to.bigint(seq);
        to.double(record.v);
        to.double(record.s);
        to.double(record.ut);
        to.bytes(self.annotation.as_ref().map(<[u8; 16]>::as_slice));
        to.smallint(Some(i16::try_from(self.ordinal).expect("at most 1 000 records")));
        to.smallint(record.q.map(|flag| u8::from(flag).into()));
        to.boolean(record.vb);
        to.text(Some(&cause.id));
        to.text(Some(message.delivery.site()));
        to.text(Some(message.delivery.thing()));
        to.text(Some(&record.n));
        to.text(Some(self.kind));
        to.text(record.u.as_deref());
        to.text(cause.protocol.as_deref());
        to.text(cause.publisher.as_deref());
        let missing = record.q == Some(Flag::Missing);
        to.text(
            record
                .vs
                .as_deref()
                .or(record.sentinel.as_deref().filter(|_| missing)),
        );
        to.bytes(bytes_of(record).as_deref());
        to.texts(&record.failed);
        to.text(self.hops);
    }
}

async fn copy(transaction: &Transaction<'_>, statements: &Statements, rows: Copy) -> Result<(), Trouble> {
    let sink = transaction.copy_in::<_, Bytes>(&statements.copy).await?;
    let mut sink = pin!(sink);
    let mut rest = rows.finish();
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(CHUNK));
        sink.send(chunk).await?;
    }
    sink.finish().await?;
    Ok(())
}

/// Some rows were there already. From the same message of RAW, it is a redelivery, and well; from another, the
/// message is a duplicate, and what little it may have added is taken away. Returns the duplicates' positions and
/// how many rows went.
async fn undo_taken(
    transaction: &Transaction<'_>,
    statements: &Statements,
    first: Timestamp,
    last: Timestamp,
) -> Result<(HashSet<usize>, u64), Trouble> {
    let (first, last) = (Stamp(first), Stamp(last));
    let rows = transaction.query(&statements.taken, &[&first, &last]).await?;
    let taken: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    if taken.is_empty() {
        return Ok((HashSet::new(), 0));
    }
    let added = transaction
        .query(&statements.added, &[&first, &last, &taken])
        .await?;
    for row in &added {
        let (time, id, ordinal): (Stamp, &str, i16) = (row.get(0), row.get(1), row.get(2));
        transaction
            .execute(&statements.remove, &[&time, &id, &ordinal])
            .await?;
    }
    Ok((taken.into_iter().map(position).collect(), added.len() as u64))
}
