//! From rows, entries and pieces to what happened, in order.
use super::{
    hops::{self, Hop},
    sql::{self, Entry, Row},
    streams::{self, Piece, Waits, Wanted},
};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use telltale_nats::{Name, async_nats::jetstream};
use telltale_schemas::{RawSeq, Timestamp};
use tokio_postgres::Client;

/// What a stage publishes when its quarantine is full.
const OVERFLOW: &str = "quarantine_overflow";

/// What became of one coming of a message, as far as it came.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    /// stored, duplicate, quarantined, unkept, in_flight, removed, or lost.
    pub verdict: String,
    /// Which message of RAW.
    pub rawseq: Option<RawSeq>,
    /// The id under which it is known.
    pub id: String,
    /// The site that it came in at.
    pub site: Option<String>,
    /// The thing that it is about.
    pub thing: Option<String>,
    /// How it came in.
    pub protocol: Option<String>,
    /// Whose credential brought it.
    pub publisher: Option<String>,
    /// When the bridge took it.
    pub received: Option<Timestamp>,
    /// The stages that it passed.
    pub hops: Vec<Hop>,
    /// The row that it became, or whose it is a duplicate of.
    pub row: Option<RowRef>,
    /// The entry of the quarantine that it became.
    pub entry: Option<EntryRef>,
    /// Where it waits.
    pub waits: Option<Waits>,
}

/// A row in SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowRef {
    /// observation, derivation, event or outcome.
    pub kind: String,
    /// Name of an event or outcome.
    pub name: Option<String>,
    /// Its time.
    pub time: Timestamp,
    /// `message_id`.
    pub message_id: String,
    /// Which message of RAW it was made from.
    pub rawseq: Option<RawSeq>,
}

/// An entry of the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryRef {
    /// Its id; none where it could not be kept.
    pub id: Option<String>,
    /// Who refused.
    pub stage: String,
    /// Why, in a word.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// open, replayed or dropped.
    pub state: Option<String>,
    /// What exactly was wrong.
    pub errors: Value,
}

/// What followed from it.
#[derive(Debug, Clone, Serialize)]
pub struct Effect {
    /// Its id.
    pub id: String,
    /// event or outcome.
    pub kind: String,
    /// Its name.
    pub name: Option<String>,
    /// Its thing.
    pub thing: String,
    /// When it happened.
    pub time: Timestamp,
}

/// All that is known of a message.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    /// What was asked for.
    pub asked: String,
    /// Oldest first. Empty where nothing is known, or nothing any more.
    pub acts: Vec<Act>,
    /// Events and outcomes that it caused.
    pub caused: Vec<Effect>,
}

/// Where it is looked.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The database, as a reader.
    pub sql: &'a Client,
    /// The broker.
    pub js: &'a jetstream::Context,
    /// The site of that broker.
    pub site: &'a Name,
}

/// Tells what became of a message: by its id, by that of an entry in quarantine, or by its place in RAW.
pub async fn trace(at: &Sources<'_>, asked: &str) -> anyhow::Result<Trace> {
    let raw: Option<RawSeq> = asked.parse().ok();
    let mut known = Known::of(at, asked, raw).await?;
    let (own, caused) = sql::effects(at.sql, &known.id).await?;
    known.rows.extend(own);
    let mut acts = Vec::new();
    for event in caused
        .iter()
        .filter(|event| event.name.as_deref() == Some(OVERFLOW))
    {
        acts.push(unkept(event, sql::unkept_reason(at.sql, &event.id).await?));
    }
    acts.extend(known.entries.iter().map(refused));
    acts.extend(known.rows.iter().map(stored));
    for piece in &known.pieces {
        let more = of_piece(at, &known.id, &acts, &known.rows, piece).await?;
        acts.extend(more);
    }
    if let (Some(raw), true) = (raw, acts.is_empty()) {
        let fate = sql::fate(at.sql, at.site.plain(), raw).await?;
        acts.extend(fate.map(|verdict| Act::bare(&verdict, asked, Some(raw))));
    }
    acts.sort_by_key(|act| {
        let (first, last) = (act.hops.first(), act.hops.last());
        (first.map(|hop| hop.start), last.map(|hop| hop.end))
    });
    let caused = caused.iter().map(|row| Effect {
        id: row.id.clone(),
        kind: row.kind.clone(),
        name: row.name.clone(),
        thing: row.thing.clone(),
        time: row.time,
    });
    Ok(Trace {
        asked: asked.to_owned(),
        acts,
        caused: caused.collect(),
    })
}

/// All that was found, and the id under which it was.
struct Known {
    id: String,
    entries: Vec<Entry>,
    rows: Vec<Row>,
    pieces: Vec<Piece>,
}

impl Known {
    async fn of(at: &Sources<'_>, asked: &str, raw: Option<RawSeq>) -> anyhow::Result<Self> {
        let entries = sql::entries(at.sql, asked, raw).await?;
        let mut id = entries
            .first()
            .map_or(asked, |entry| &entry.message_id)
            .to_owned();
        let refused_at = entries.iter().filter_map(|entry| entry.received).min();
        let refused_from = entries.iter().filter_map(|entry| entry.rawseq);
        let mut wanted = Wanted {
            raws: raw.into_iter().chain(refused_from).collect(),
            came: came(&id).or(refused_at),
            things: things(&id),
            ..Wanted::default()
        };
        let mut rows = rows(at, &id, &wanted).await?;
        if let Some(row) = rows.first().filter(|_| raw.is_some() && entries.is_empty()) {
            id.clone_from(&row.id);
        }
        let told = entries.iter().map(|entry| entry.thing.as_str());
        let told = told.chain(rows.iter().map(|row| row.thing.as_str()));
        wanted
            .things
            .extend(told.filter_map(|thing| Name::new(thing).ok()));
        wanted.things.sort();
        wanted.things.dedup();
        wanted.came = rows
            .iter()
            .filter_map(|row| row.received)
            .chain(wanted.came)
            .min();
        wanted.id.clone_from(&id);
        wanted.has_end = !rows.is_empty() || !entries.is_empty();
        let pieces = streams::pieces(at.js, &wanted).await?;
        // Of a place in RAW that is no row the streams may still know the id, and so the row that was there before.
        let told = pieces.iter().find_map(|piece| piece.found.text("id"));
        if let Some(told) = told.filter(|_| raw.is_some() && rows.is_empty()) {
            told.clone_into(&mut id);
            wanted.things = things(&id);
            wanted.came = pieces.iter().map(|piece| piece.found.stored).min();
            rows = self::rows(at, &id, &wanted).await?;
        }
        Ok(Self {
            id,
            entries,
            rows,
            pieces,
        })
    }
}

async fn rows(at: &Sources<'_>, id: &str, wanted: &Wanted) -> anyhow::Result<Vec<Row>> {
    let things: Vec<String> = wanted
        .things
        .iter()
        .map(|thing| thing.plain().to_owned())
        .collect();
    let mut rows = Vec::new();
    if !things.is_empty() {
        rows = sql::readings(at.sql, id, &things, wanted.came).await?;
    }
    if rows.is_empty() {
        for raw in &wanted.raws {
            rows.extend(sql::readings_of(at.sql, *raw).await?);
        }
    }
    Ok(rows)
}

/// The things that an id may be of: `<thing>:<key>`, and both may have colons.
fn things(id: &str) -> Vec<Name> {
    let starts = id.match_indices(':').filter_map(|(end, _)| id.get(..end));
    let names: BTreeSet<Name> = starts.filter_map(|thing| Name::new(thing).ok()).collect();
    names.into_iter().take(8).collect()
}

/// When it came, where the bridge has made its id: a ULID begins with the time.
fn came(id: &str) -> Option<Timestamp> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let key = id.rsplit(':').next().filter(|key| key.len() == 26)?;
    let digit = |c: char| DIGITS.find(c).and_then(|digit| i64::try_from(digit).ok());
    let digits: Option<Vec<i64>> = key.chars().map(digit).collect();
    let millis = digits?
        .iter()
        .take(10)
        .fold(0_i64, |sum, digit| sum.wrapping_mul(32).wrapping_add(*digit));
    Timestamp::from_micros(millis.checked_mul(1_000)?)
}

impl Act {
    fn bare(verdict: &str, id: &str, rawseq: Option<RawSeq>) -> Self {
        Self {
            verdict: verdict.to_owned(),
            rawseq,
            id: id.to_owned(),
            site: None,
            thing: None,
            protocol: None,
            publisher: None,
            received: None,
            hops: Vec::new(),
            row: None,
            entry: None,
            waits: None,
        }
    }
}

fn row_ref(row: &Row) -> RowRef {
    RowRef {
        kind: row.kind.clone(),
        name: row.name.clone(),
        time: row.time,
        message_id: row.id.clone(),
        rawseq: row.rawseq,
    }
}

fn stored(row: &Row) -> Act {
    Act {
        site: Some(row.site.clone()),
        thing: Some(row.thing.clone()),
        protocol: row.protocol.clone(),
        publisher: row.publisher.clone(),
        received: row.received,
        hops: hops::parse(&row.hops, "stored"),
        row: Some(row_ref(row)),
        ..Act::bare("stored", &row.id, row.rawseq)
    }
}

/// Marks the last hop of the stage that refused.
fn with_refusal(mut hops: Vec<Hop>, stage: &str) -> Vec<Hop> {
    let ends = hops.len().saturating_sub(1);
    if let Some(hop) = hops.iter_mut().take(ends).rfind(|hop| hop.stage == stage) {
        "refused".clone_into(&mut hop.verdict);
    }
    hops
}

fn refused(entry: &Entry) -> Act {
    Act {
        site: Some(entry.site.clone()),
        thing: Some(entry.thing.clone()),
        protocol: entry.protocol.clone(),
        publisher: entry.publisher.clone(),
        received: entry.received.or(Some(entry.time)),
        hops: with_refusal(hops::parse(&entry.hops, "kept"), &entry.stage),
        entry: Some(EntryRef {
            id: Some(entry.id.clone()),
            stage: entry.stage.clone(),
            reason: entry.reason.clone(),
            attempts: entry.attempts,
            state: Some(entry.state.clone()),
            errors: entry.errors.clone(),
        }),
        ..Act::bare("quarantined", &entry.message_id, entry.rawseq)
    }
}

fn unkept(event: &Row, reason: Option<String>) -> Act {
    let hops = hops::parse(&event.hops, "told");
    let stage = hops
        .iter()
        .rev()
        .nth(1)
        .map(|hop| hop.stage.clone())
        .unwrap_or_default();
    Act {
        site: Some(event.site.clone()),
        thing: Some(event.thing.clone()),
        received: event.received,
        hops: with_refusal(hops, &stage),
        entry: Some(EntryRef {
            id: None,
            stage,
            reason: reason.unwrap_or_default(),
            attempts: 0,
            state: None,
            errors: Value::Null,
        }),
        ..Act::bare("unkept", &event.id, event.rawseq)
    }
}

/// What a piece tells beyond what rows and entries do.
async fn of_piece(
    at: &Sources<'_>,
    id: &str,
    acts: &[Act],
    rows: &[Row],
    piece: &Piece,
) -> anyhow::Result<Option<Act>> {
    let is_replay = piece.found.stream == "REDO";
    // The rest of its way is told by what it became.
    let is_told = acts
        .iter()
        .any(|act| act.rawseq == piece.rawseq && act.verdict != "in_flight");
    let is_known = acts.iter().any(|act| act.rawseq == piece.rawseq);
    if (is_told && !is_replay) || (is_known && piece.waits.is_none()) {
        return Ok(None);
    }
    let site = piece.site.clone().unwrap_or_else(|| at.site.plain().to_owned());
    let fate = match piece.rawseq {
        Some(raw) if piece.waits.is_none() => sql::fate(at.sql, &site, raw).await?,
        _ => None,
    };
    let verdict = match (&piece.waits, fate) {
        (Some(_), _) => "in_flight".to_owned(),
        (None, Some(fate)) => fate,
        (None, None) => "lost".to_owned(),
    };
    let row = rows
        .iter()
        .find(|row| row.id == id)
        .filter(|_| verdict == "duplicate");
    let last = if verdict == "duplicate" { "passed" } else { "" };
    let text = |name| piece.found.text(name).map(str::to_owned);
    Ok(Some(Act {
        site: Some(site),
        thing: piece.thing.clone(),
        protocol: text("protocol"),
        publisher: text("publisher"),
        received: text("recordedtime").and_then(|time| Timestamp::parse(&time).ok()),
        hops: hops::parse(&piece.found.hops, last),
        row: row.map(row_ref),
        waits: piece.waits.clone(),
        ..Act::bare(&verdict, id, piece.rawseq)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_bridge_tells_when_it_came_and_of_which_thing_it_is() {
        let id = "urn:dev:7:01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(came(id).unwrap().to_string(), "2016-07-30T23:54:10.259Z");
        let names: Vec<_> = things(id).iter().map(|name| name.plain().to_owned()).collect();
        assert_eq!(names, ["urn", "urn:dev", "urn:dev:7"]);
        assert_eq!(came("kitchen:k-17"), None);
    }
}
