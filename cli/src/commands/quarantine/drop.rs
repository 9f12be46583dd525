//! `telltale quarantine drop`: gives entries up. Their rows stay, with who gave them up and why.
use super::{
    super::{exit, interrupt::Interrupt, output::Output, progress::Progress, reach},
    entry,
    filter::{Selection, say_settled},
    stream::{Kept, Place},
};
use crate::context::Context;
use anyhow::Context as _;
use std::{io::Write as _, process::ExitCode};
use telltale_nats::client;

/// Entries settled at once.
const CHUNK: usize = 200;

/// Not one whose replay was begun: it may be under way.
const FIND: &str = "
    select id, epoch, seq, sequence from store.quarantine
    where id = any($1) and state = 'open' and replay_begun is null";
const SETTLE: &str = "
    update store.quarantine
    set state = 'dropped', settled = clock_timestamp(), settled_by = $2, note = coalesce($3, note), sequence = null
    where id in (
        select id from store.quarantine
        where id = any($1) and state = 'open' and replay_begun is null order by id for update
    )";

/// Gives up what the selection finds.
pub(super) async fn run(ctx: &Context, selection: &Selection, output: &Output) -> anyhow::Result<ExitCode> {
    let sql = reach::sql_admin(ctx).await?;
    let found = selection.find(&sql).await?;
    say_settled(found.settled)?;
    if selection.dry_run {
        writeln!(
            std::io::stderr().lock(),
            "would drop {}; nothing was done",
            found.open.len()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    selection.consent("drop", found.open.len())?;
    let kept = Kept::open(&client::context(reach::nats(ctx).await?)).await?;
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("dropped", Some(found.open.len() as u64));
    let mut dropped = 0;
    for chunk in found.open.chunks(CHUNK) {
        if interrupt.came() {
            break;
        }
        let rows = sql.query(FIND, &[&chunk]).await.context("read the quarantine")?;
        let places: Vec<Place> = rows
            .iter()
            .map(|row| Place {
                id: row.get("id"),
                rawseq: entry::rawseq(row),
                sequence: row.get("sequence"),
            })
            .collect();
        let present = kept.present(&places).await?;
        kept.delete(present.into_iter().flatten()).await?;
        dropped += sql
            .execute(SETTLE, &[&chunk, &selection.by, &selection.note])
            .await
            .context("settle the entries")?;
        progress.at(dropped);
    }
    progress.finish();
    let left = (found.open.len() as u64).saturating_sub(dropped);
    let mut rows = output.rows(["dropped", "before", "left"]);
    rows.row(vec![dropped.into(), found.settled[1].into(), left.into()])?;
    rows.finish()?;
    if left > 0 && interrupt.came() {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    if left > 0 {
        writeln!(
            std::io::stderr().lock(),
            "note: the replay of {left} was begun and cut off; finish it with `telltale quarantine replay`"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
