//! Everything that is no reading becomes a row of its own table.
use crate::Storable;
use crate::admit::Message;
use crate::ledger;
use crate::sql::Statements;
use crate::stamp::Stamp;
use crate::trouble::Trouble;
use crate::write::{UNKEPT, hops};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use telltale_nats::header;
use telltale_runtime::Cause;
use telltale_schemas::{Event, Outcome, Quarantine, Registration, Timestamp, thing::Registered};
use tokio_postgres::{Transaction, types::Json};

/// One column of a list: `column!(events, (cause, _) => cause.id.as_str())`.
macro_rules! column {
    ($from:expr, $of:pat => $value:expr) => {
        $from.iter().map(|$of| $value).collect::<Vec<_>>()
    };
}

/// Those of one kind.
macro_rules! of_kind {
    ($group:expr, $kind:ident) => {
        $group
            .iter()
            .filter_map(|message| match &message.delivery.data {
                Storable::$kind(data) => Some((&message.delivery.cause, data)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

pub(crate) async fn write(
    transaction: &Transaction<'_>,
    statements: &Statements,
    group: &[Message<'_>],
    started: Timestamp,
) -> Result<(), Trouble> {
    let (list, of) = (of_kind!(group, Event), statements);
    if !list.is_empty() {
        events(transaction, of, &list, started).await?;
    }
    let list = of_kind!(group, Outcome);
    if !list.is_empty() {
        outcomes(transaction, of, &list, started).await?;
    }
    let list = of_kind!(group, Registration);
    if !list.is_empty() {
        registrations(transaction, of, &list).await?;
    }
    let list = of_kind!(group, Quarantine);
    if !list.is_empty() {
        quarantine(transaction, of, &list, started).await?;
    }
    Ok(())
}

async fn events(
    transaction: &Transaction<'_>,
    statements: &Statements,
    events: &[(&Cause, &Event)],
    started: Timestamp,
) -> Result<(), Trouble> {
    let now = Timestamp::now();
    let reopening: Vec<(&str, &str)> = events
        .iter()
        .filter(|(_, event)| event.name == UNKEPT)
        .filter_map(|(cause, event)| Some((cause.id.as_str(), event.detail.get("replayed")?.as_str()?)))
        .collect();
    if !reopening.is_empty() {
        let (events, entries): (Vec<_>, Vec<_>) = reopening.into_iter().unzip();
        transaction
            .execute(&statements.reopen, &[&events, &entries])
            .await?;
    }
    transaction
        .execute(
            &statements.events,
            &[
                &column!(events, (cause, _) => cause.id.as_str()),
                &column!(events, (cause, _) => Stamp(cause.time)),
                &column!(events, (cause, _) => cause.recordedtime.map(Stamp)),
                &column!(events, (cause, _) => cause.site.plain()),
                &column!(events, (cause, _) => cause.thing.plain()),
                &column!(events, (_, event) => event.name.as_str()),
                &column!(events, (_, event) => Json(&event.detail)),
                &column!(events, (cause, _) => cause.source.as_str()),
                &column!(events, (cause, _) => cause.causationid.as_deref()),
                &column!(events, (cause, _) => cause.correlationid.as_deref()),
                &column!(events, (cause, _) => ledger::raw(cause.rawseq).0),
                &column!(events, (cause, _) => ledger::raw(cause.rawseq).1),
                &column!(events, (cause, _) => hops(cause, started, now)),
            ],
        )
        .await?;
    Ok(())
}

async fn outcomes(
    transaction: &Transaction<'_>,
    statements: &Statements,
    outcomes: &[(&Cause, &Outcome)],
    started: Timestamp,
) -> Result<(), Trouble> {
    let now = Timestamp::now();
    let states: Vec<Value> = column!(outcomes, (_, outcome) => json!(outcome.state));
    transaction
        .execute(
            &statements.outcomes,
            &[
                &column!(outcomes, (cause, _) => cause.id.as_str()),
                &column!(outcomes, (cause, _) => Stamp(cause.time)),
                &column!(outcomes, (cause, _) => cause.site.plain()),
                &column!(outcomes, (cause, _) => cause.thing.plain()),
                &column!(outcomes, (_, outcome) => outcome.name.as_str()),
                &column!(outcomes, (_, outcome) => outcome.command.as_str()),
                &column!(states, state => state.as_str()),
                &column!(outcomes, (_, outcome) => Some(&outcome.output).filter(|it| !it.is_null()).map(Json)),
                &column!(outcomes, (_, outcome) => outcome.problem.as_deref()),
                &column!(outcomes, (_, outcome) => outcome.request.as_ref().map(Json)),
                &column!(outcomes, (cause, _) => cause.expirytime.map(Stamp)),
                &column!(outcomes, (cause, _) => cause.source.as_str()),
                &column!(outcomes, (cause, _) => cause.causationid.as_deref()),
                &column!(outcomes, (cause, _) => cause.correlationid.as_deref()),
                &column!(outcomes, (cause, _) => hops(cause, started, now)),
                &column!(outcomes, (cause, _) => cause.publisher.as_deref()),
            ],
        )
        .await?;
    Ok(())
}

/// Each change is kept; the newest that is not about the device alone is what the thing is now.
async fn registrations(
    transaction: &Transaction<'_>,
    statements: &Statements,
    changes: &[(&Cause, &Registration)],
) -> Result<(), Trouble> {
    transaction
        .execute(
            &statements.registrations,
            &[
                &column!(changes, (cause, _) => cause.id.as_str()),
                &column!(changes, (cause, _) => Stamp(cause.time)),
                &column!(changes, (cause, _) => cause.site.plain()),
                &column!(changes, (cause, _) => cause.thing.plain()),
                &column!(changes, (_, change) => change.change.word()),
                &column!(changes, (_, change) => revision(change)),
                &column!(changes, (_, change) => change.entry.as_deref().map(Json)),
                &column!(changes, (cause, change) => change.by.as_deref().or(cause.publisher.as_deref())),
                &column!(changes, (_, change) => Some(&change.detail).filter(|it| !it.is_empty()).map(Json)),
                &column!(changes, (cause, _) => cause.source.as_str()),
                &column!(changes, (cause, _) => cause.causationid.as_deref()),
            ],
        )
        .await?;
    let lasting: Vec<_> = changes
        .iter()
        .copied()
        .filter(|(_, change)| !change.change.is_presence())
        .collect();
    if lasting.is_empty() {
        return Ok(());
    }
    things(transaction, statements, &lasting).await
}

fn revision(change: &Registration) -> i64 {
    i64::try_from(change.revision).unwrap_or(i64::MAX)
}

async fn things(
    transaction: &Transaction<'_>,
    statements: &Statements,
    changes: &[(&Cause, &Registration)],
) -> Result<(), Trouble> {
    let registered: Vec<Option<Registered>> =
        column!(changes, (_, change) => change.entry.as_ref().and_then(|entry| entry.registration));
    transaction
        .execute(
            &statements.things,
            &[
                &column!(changes, (cause, _) => cause.thing.plain()),
                &column!(changes, (cause, _) => cause.site.plain()),
                &column!(changes, (_, change) => revision(change)),
                &column!(changes, (cause, _) => Stamp(cause.time)),
                &column!(changes, (_, change) => change.change.word()),
                &column!(changes, (_, change) => change.entry.as_deref().map(Json)),
                &column!(changes, (cause, _) => cause.id.as_str()),
                &column!(registered, it => it.map(|it| Stamp(it.created))),
                &column!(registered, it => it.map(|it| Stamp(it.modified))),
                &column!(registered, it => it.and_then(|it| it.expires).map(Stamp)),
            ],
        )
        .await?;
    Ok(())
}

/// The last resort is never refused: what PostgreSQL's text cannot hold is replaced, and the bytes stay as they were.
async fn quarantine(
    transaction: &Transaction<'_>,
    statements: &Statements,
    entries: &[(&Cause, &Quarantine)],
    started: Timestamp,
) -> Result<(), Trouble> {
    let now = Timestamp::now();
    transaction
        .execute(
            &statements.quarantine,
            &[
                &column!(entries, (cause, _) => key(&cause.id)),
                &column!(entries, (cause, _) => Stamp(cause.time)),
                &column!(entries, (cause, entry) => entry.received.or(cause.recordedtime).map(Stamp)),
                &column!(entries, (cause, _) => clean(cause.site.plain())),
                &column!(entries, (cause, _) => clean(cause.thing.plain())),
                &column!(entries, (_, entry) => clean(&entry.stage)),
                &column!(entries, (_, entry) => clean(&entry.reason)),
                &column!(entries, (_, entry) => Json(errors(entry))),
                &column!(entries, (_, entry) => i32::try_from(entry.attempts).unwrap_or(i32::MAX)),
                &column!(entries, (_, entry) => clean(&entry.original)),
                &column!(entries, (_, entry) => Json(headers(entry))),
                &column!(entries, (_, entry) => payload(entry)),
                &column!(entries, (_, entry) => clean(&entry.sha256)),
                &column!(entries, (cause, entry) => key(message_id(cause, entry))),
                &column!(entries, (cause, _) => cause.protocol.as_deref().map(clean)),
                &column!(entries, (cause, _) => cause.publisher.as_deref().map(clean)),
                &column!(entries, (cause, _) => ledger::raw(cause.rawseq).0),
                &column!(entries, (cause, _) => ledger::raw(cause.rawseq).1),
                &column!(entries, (cause, _) => clean(&hops(cause, started, now)).into_owned()),
                &column!(entries, (_, entry) => i32::try_from(entry.generation).unwrap_or(i32::MAX)),
                &column!(entries, (cause, _) => cause.sequence.and_then(|at| i64::try_from(at).ok())),
            ],
        )
        .await?;
    Ok(())
}

fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Clean, and short enough for an index.
fn key(id: &str) -> Cow<'_, str> {
    const LONGEST: usize = 1_024;
    if id.len() <= LONGEST {
        return clean(id);
    }
    let hash = Sha256::digest(id).iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    });
    Cow::Owned(format!("sha256:{hash}"))
}

/// What the device was told, which it will look for; else what was refused.
fn message_id<'a>(cause: &'a Cause, entry: &'a Quarantine) -> &'a str {
    entry
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(header::ID))
        .map(|(_, id)| id.as_str())
        .or(cause.causationid.as_deref())
        .unwrap_or(&cause.id)
}

fn errors(entry: &Quarantine) -> Value {
    let fault = |fault: &telltale_schemas::kinds::Fault| json!({ "pointer": clean(&fault.pointer), "message": clean(&fault.message) });
    entry.errors.iter().map(fault).collect()
}

fn headers(entry: &Quarantine) -> Value {
    let pair = |(name, value): &(String, String)| json!([clean(name), clean(value)]);
    entry.headers.iter().map(pair).collect()
}

/// The bytes; should the text be no base64 after all, the text itself.
fn payload(entry: &Quarantine) -> Vec<u8> {
    STANDARD
        .decode(&entry.payload)
        .unwrap_or_else(|_| entry.payload.as_bytes().to_vec())
}
