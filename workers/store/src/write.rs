//! One transaction: rows, other messages, and the ledger of what became of RAW.
use crate::Storable;
use crate::admit::Message;
use crate::ledger::{Fate, Tally};
use crate::session::{Known, Session};
use crate::sql::Statements;
use crate::trouble::Trouble;
use crate::{amendments, messages, readings};
use std::collections::HashSet;
use telltale_runtime::{
    Cause,
    fault::{self, Point},
};
use telltale_schemas::{RawSeq, Timestamp};
use tokio_postgres::Transaction;

/// The stages that a raw message must pass on its way to a row; what others refuse is stored all the same.
const STAGES: [&str; 3] = ["validate", "annotate", "store"];
/// The event that says that a refused message could not be kept.
pub(crate) const UNKEPT: &str = "quarantine_overflow";

/// What a transaction did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Rows of readings that are new.
    pub(crate) stored: u64,
    /// Rows of messages that came before: redelivered, or sent again.
    pub(crate) known: u64,
    /// Messages that are no readings.
    pub(crate) others: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, more: Self) {
        self.stored += more.stored;
        self.known += more.known;
        self.others += more.others;
    }
}

/// All of the group, or nothing.
pub(crate) async fn write(
    session: &mut Session,
    group: &[Message<'_>],
    started: Timestamp,
) -> Result<Written, Trouble> {
    let days = group.iter().flat_map(|message| message.days.iter().copied());
    session.ensure_days(days).await?;
    let Session {
        client,
        statements,
        known,
    } = session;
    let transaction = client.transaction().await?;
    amendments::take_turn(&transaction, statements, group).await?;
    let rows = readings::write(&transaction, statements, known, group, started).await?;
    messages::write(&transaction, statements, group, started).await?;
    amendments::write(&transaction, statements, group).await?;
    let epochs = keep_ledger(&transaction, statements, known, group, &rows.duplicates).await?;
    fault::point(Point::BeforeCommit);
    transaction.commit().await?;
    fault::point(Point::AfterCommit);
    rows.news.into_known(known);
    known.epochs.extend(epochs);
    let wanted: usize = group.iter().map(|message| message.rows).sum();
    Ok(Written {
        stored: rows.inserted,
        known: wanted as u64 - rows.inserted,
        others: group.iter().filter(|message| message.rows == 0).count() as u64,
    })
}

/// Last in its transaction: other copies write to the same rows, and wait for this one from here on.
async fn keep_ledger(
    transaction: &Transaction<'_>,
    statements: &Statements,
    known: &Known,
    group: &[Message<'_>],
    duplicates: &HashSet<usize>,
) -> Result<Vec<(String, i64)>, Trouble> {
    let mut tally = Tally::default();
    for (position, message) in group.iter().enumerate() {
        if let Some((rawseq, fate)) = fate_of(message, duplicates.contains(&position)) {
            tally.add(message.delivery.site(), Some(rawseq), fate);
        }
    }
    if tally.is_empty() {
        return Ok(Vec::new());
    }
    let to = tally.columns();
    let mut epochs: Vec<(String, i64)> = to
        .sites
        .iter()
        .zip(&to.epochs)
        .map(|(site, epoch)| ((*site).to_owned(), *epoch))
        .filter(|epoch| !known.epochs.contains(epoch))
        .collect();
    epochs.dedup();
    if !epochs.is_empty() {
        transaction
            .execute(&statements.epochs, &[&to.sites, &to.epochs])
            .await?;
    }
    transaction
        .execute(
            &statements.ledger,
            &[&to.sites, &to.epochs, &to.blocks, &to.fates, &to.seqs],
        )
        .await?;
    Ok(epochs)
}

/// What this message tells of the raw one it was made from, if anything: an extension's refusal and a derivation
/// say nothing about the reading.
fn fate_of(message: &Message<'_>, duplicate: bool) -> Option<(RawSeq, Fate)> {
    let cause = &message.delivery.cause;
    match &message.delivery.data {
        Storable::Observation(_) if duplicate => Some((cause.rawseq?, Fate::Duplicate)),
        Storable::Observation(_) => Some((cause.rawseq?, Fate::Stored)),
        Storable::Quarantine(entry) => STAGES
            .contains(&entry.stage.as_str())
            .then_some((cause.rawseq?, Fate::Quarantined)),
        Storable::Event(event) if event.name == UNKEPT => {
            let stage = cause.source.rsplit('/').next()?;
            let told = || event.detail.get("rawseq")?.as_str()?.parse().ok();
            STAGES
                .contains(&stage)
                .then_some((cause.rawseq.or_else(told)?, Fate::Unkept))
        }
        _ => None,
    }
}

/// The hops so far, and this one.
pub(crate) fn hops(cause: &Cause, started: Timestamp, now: Timestamp) -> String {
    let before = if cause.hops.is_empty() { "" } else { "," };
    format!(
        "{}{before}store;{};{};{}",
        cause.hops,
        cause.attempt,
        started.as_micros(),
        now.as_micros()
    )
}
