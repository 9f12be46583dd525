//! `telltale quarantine replay`: gives entries back to the stage that refused them.
//!
//! In an order that may be cut off anywhere and begun again: the intent is written, the message is confirmed on
//! `redo`, its entry leaves the stream, the row is settled. An intent whose entry has left the stream was confirmed.
use super::{
    super::{
        exit::{self, Refused},
        interrupt::Interrupt,
        output::{Output, escaped},
        progress::Progress,
        reach,
    },
    entry::{BEGIN, Entry},
    filter::{Selection, say_settled},
    stream::{Kept, Place},
};
use crate::context::Context;
use anyhow::Context as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::ExitCode,
    time::Duration,
};
use telltale_nats::{
    Name, PublishError, Publisher,
    async_nats::jetstream::{self, consumer::PullConsumer},
    client, publish, subject,
};
use telltale_schemas::Timestamp;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_postgres::Client;

/// Entries whose replay is begun at once; so many are finished after Ctrl-C.
const CHUNK: usize = 200;
/// How long a broker may take nothing before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// What is no longer begun, because the broker will never take it.
const GIVE_UP: &str = "update store.quarantine set replay_begun = null where id = any($1) and state = 'open'";
/// The broker's copy is gone: whether the replay was confirmed can then not be told from that.
const NOWHERE: &str = "update store.quarantine set sequence = null where id = any($1)";
/// Only what is still as it was begun: refused again while the quarantine was full, it has been opened meanwhile.
const SETTLE: &str = "
    update store.quarantine as q
    set state = 'replayed', settled = clock_timestamp(), settled_by = $3, note = coalesce($4, q.note), sequence = null
    from (select * from unnest($1::text[], $2::timestamptz[]) as m (id, begun) order by id) as m
    where q.id = m.id and q.state = 'open' and q.replay_begun = m.begun";

/// What a replay did.
#[derive(Debug, Default)]
struct Tally {
    replayed: u64,
    /// Begun by an earlier replay that was cut off, and finished now.
    finished: u64,
    failed: u64,
}

struct Replay<'a> {
    selection: &'a Selection,
    sql: Client,
    js: jetstream::Context,
    kept: Kept,
    publisher: Publisher,
    stages: BTreeMap<String, Name>,
    tally: Tally,
}

/// Gives back what the selection finds.
pub(super) async fn run(ctx: &Context, selection: &Selection, output: &Output) -> anyhow::Result<ExitCode> {
    let sql = reach::sql_admin(ctx).await?;
    let found = selection.find(&sql).await?;
    say_settled(found.settled)?;
    if selection.dry_run {
        return dry_run(&sql, &found.open, output).await;
    }
    selection.consent("replay", found.open.len())?;
    let nats = reach::nats(ctx).await?;
    let js = client::context(nats.clone());
    let options = publish::Options {
        window: CHUNK,
        // REDO takes no batches.
        atomic_min: 0,
        ..publish::Options::default()
    };
    let mut replay = Replay {
        kept: Kept::open(&js).await?,
        publisher: Publisher::new(nats, options),
        stages: BTreeMap::new(),
        tally: Tally::default(),
        selection,
        sql,
        js,
    };
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("replayed", Some(found.open.len() as u64));
    let mut done = 0;
    let mut end = Ok(());
    for chunk in found.open.chunks(CHUNK) {
        if interrupt.came() {
            break;
        }
        end = tokio::select! {
            end = replay.chunk(chunk) => end,
            () = interrupt.leave.cancelled() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        if end.is_err() {
            break;
        }
        done += chunk.len();
        progress.at(done as u64);
    }
    progress.finish();
    let tally = &replay.tally;
    let settled = tally.replayed + tally.finished + tally.failed;
    let left = (found.open.len() as u64).saturating_sub(settled);
    let mut rows = output.rows(["replayed", "finished", "before", "failed", "left"]);
    rows.row(vec![
        tally.replayed.into(),
        tally.finished.into(),
        found.settled[0].into(),
        tally.failed.into(),
        left.into(),
    ])?;
    rows.finish()?;
    end.map_err(|error| error.context(format!("{left} are left; replay again for them")))?;
    Ok(match (interrupt.came(), tally.failed) {
        (true, _) if left > 0 => ExitCode::from(exit::INTERRUPTED),
        (_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::FAILED),
    })
}

/// How many would go where.
async fn dry_run(sql: &Client, open: &[String], output: &Output) -> anyhow::Result<ExitCode> {
    let by_stage = sql
        .query(
            "select stage, reason, count(*), count(edited) from quarantine where id = any($1)
             group by stage, reason order by stage, reason",
            &[&open],
        )
        .await
        .context("read the quarantine")?;
    let mut rows = output.rows(["to", "reason", "entries", "edited"]);
    for row in &by_stage {
        rows.row(vec![
            row.get::<_, String>(0).into(),
            row.get::<_, String>(1).into(),
            row.get::<_, i64>(2).into(),
            row.get::<_, i64>(3).into(),
        ])?;
    }
    rows.finish()?;
    writeln!(
        std::io::stderr().lock(),
        "would replay {}; nothing was done",
        open.len()
    )?;
    Ok(ExitCode::SUCCESS)
}

impl Replay<'_> {
    async fn chunk(&mut self, ids: &[String]) -> anyhow::Result<()> {
        self.check_stages(ids).await?;
        let begun = Timestamp::now().to_offset();
        let rows = self
            .sql
            .query(BEGIN, &[&ids, &begun])
            .await
            .context("begin the replay")?;
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_by_key(|row| (row.get::<_, OffsetDateTime>("at"), row.get::<_, String>("id")));
        let entries: Vec<Entry> = rows.into_iter().map(Entry::of).collect();
        let places: Vec<Place> = entries
            .iter()
            .map(|entry| Place {
                id: entry.id.clone(),
                rawseq: entry.rawseq,
                sequence: entry.sequence,
            })
            .collect();
        let present = self.kept.present(&places).await?;
        let mut confirmed = Vec::new();
        let mut to_send = Vec::new();
        let mut nowhere = Vec::new();
        for (entry, at) in entries.into_iter().zip(present) {
            match at {
                // Cut off after its entry had left the stream, which is after its confirmation.
                None if entry.again && entry.sequence.is_some() => {
                    self.tally.finished += 1;
                    confirmed.push((entry, None));
                }
                None => {
                    nowhere.push(entry.id.clone());
                    to_send.push((entry, None));
                }
                Some(_) => to_send.push((entry, at)),
            }
        }
        if !nowhere.is_empty() {
            self.sql
                .execute(NOWHERE, &[&nowhere])
                .await
                .context("note what the broker has no copy of")?;
        }
        let (sent, end) = self.send(to_send).await?;
        confirmed.extend(sent);
        self.settle(&confirmed).await?;
        end
    }

    /// Sends until all are confirmed, or refused for good, or the broker takes nothing any more.
    async fn send(
        &mut self,
        mut waiting: Vec<(Entry, Option<u64>)>,
    ) -> anyhow::Result<(Vec<(Entry, Option<u64>)>, anyhow::Result<()>)> {
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        let mut end = Ok(());
        let mut until = Instant::now() + PATIENCE;
        while !waiting.is_empty() {
            let group = waiting
                .iter()
                .filter_map(|(entry, _)| Some(entry.outgoing(self.stages.get(&entry.stage)?)))
                .collect();
            let results = self.publisher.publish(group).await;
            let mut why = None;
            for ((entry, at), result) in std::mem::take(&mut waiting).into_iter().zip(results) {
                match result {
                    Ok(_) => {
                        until = Instant::now() + PATIENCE;
                        self.tally.replayed += 1;
                        sent.push((entry, at));
                    }
                    Err(error @ (PublishError::Full | PublishError::Busy | PublishError::Away(_))) => {
                        why = Some(error);
                        waiting.push((entry, at));
                    }
                    Err(error) => {
                        self.tally.failed += 1;
                        let id = escaped(&entry.id);
                        writeln!(std::io::stderr().lock(), "`{id}` cannot be replayed: {error}")?;
                        refused.push(entry.id);
                    }
                }
            }
            let Some(why) = why else { continue };
            if Instant::now() >= until {
                end = Err(anyhow::Error::from(why).context("hand over to `redo`"));
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if !refused.is_empty() {
            self.sql
                .execute(GIVE_UP, &[&refused])
                .await
                .context("take back")?;
        }
        Ok((sent, end))
    }

    async fn settle(&self, confirmed: &[(Entry, Option<u64>)]) -> anyhow::Result<()> {
        self.kept
            .delete(confirmed.iter().filter_map(|(_, at)| *at))
            .await?;
        let ids: Vec<&str> = confirmed.iter().map(|(entry, _)| entry.id.as_str()).collect();
        let begun: Vec<OffsetDateTime> = confirmed.iter().map(|(entry, _)| entry.begun).collect();
        let Selection { by, note, .. } = self.selection;
        self.sql
            .execute(SETTLE, &[&ids, &begun, by, note])
            .await
            .context("settle the entries")?;
        Ok(())
    }

    /// Each stage can take what is given back to it, or nothing is begun.
    async fn check_stages(&mut self, ids: &[String]) -> anyhow::Result<()> {
        let rows = self
            .sql
            .query(
                "select distinct stage from store.quarantine where id = any($1)",
                &[&ids],
            )
            .await
            .context("read the quarantine")?;
        let stages: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        for stage in stages {
            if self.stages.contains_key(&stage) {
                continue;
            }
            let missing = || {
                let shown = escaped(&stage);
                Refused::precondition(format!(
                    "no worker `{shown}` is provisioned, so nobody would take it back"
                ))
                .hint(format!(
                    "admit it, or leave it out: --stage names one; --stage {shown} with `drop` gives them up"
                ))
            };
            let name = Name::new(stage.as_str()).map_err(|_| missing())?;
            let durable: Result<PullConsumer, _> = self
                .js
                .get_consumer_from_stream(name.plain(), subject::REDO_STREAM)
                .await;
            let durable = durable.map_err(|error| anyhow::Error::from(error).context(missing()))?;
            if durable.cached_info().num_waiting == 0 && durable.cached_info().num_ack_pending == 0 {
                writeln!(
                    std::io::stderr().lock(),
                    "note: no {} runs; it takes them back once it does",
                    name.plain()
                )?;
            }
            self.stages.insert(stage, name);
        }
        Ok(())
    }
}
