//! What is looked at while it runs: how long readings take to become rows, and what the processes use.
use crate::{context::Context, stack::Stack};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Arc,
    time::Duration,
};
use telltale_schemas::Timestamp;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether rows are there; a latency is known to that.
const LOOK: Duration = Duration::from_millis(25);
/// How long the database may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often the processes are looked at.
const MEASURE: Duration = Duration::from_secs(2);
/// Readings looked for at once; beyond them none is added.
const LOOKED_FOR_MAX: usize = 2_000;
/// Ways of PostgreSQL to join that read all of a day: never wanted here.
const BY_INDEX: &str = "set enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off";
const THERE: &str = "select s.id from unnest($1::text[], $2::bigint[]) as s (id, t), lateral (
    select from readings as r
    where r.message_id = s.id and r.time = timestamptz 'epoch' + s.t * interval '1 microsecond'
    limit 1) as row";

/// A reading that just went on its way.
#[derive(Debug)]
pub(super) struct Sample {
    id: String,
    time: Timestamp,
    sent: Instant,
}

impl Sample {
    pub(super) fn new(id: String, time: Timestamp) -> Self {
        Self {
            id,
            time,
            sent: Instant::now(),
        }
    }
}

/// When a reading was first sent, and when its row was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) sent: Instant,
    pub(super) seen: Instant,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) latencies: Vec<Latency>,
    /// Most resident memory in MiB, and most open files, by process.
    pub(super) used: BTreeMap<String, u64>,
}

/// Eyes on a stack.
#[derive(Debug)]
pub(super) struct Watch {
    tasks: JoinSet<Found>,
    stop: CancellationToken,
}

impl Watch {
    pub(super) fn begin(
        stack: Arc<Stack>,
        context: Context,
        samples: mpsc::UnboundedReceiver<Sample>,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(latencies(context, samples, stop.clone()));
        tasks.spawn(usage(stack, stop.clone()));
        Self { tasks, stop }
    }

    pub(super) async fn end(mut self) -> anyhow::Result<Found> {
        self.stop.cancel();
        let mut all = Found::default();
        while let Some(found) = self.tasks.join_next().await {
            let found = found?;
            all.latencies.extend(found.latencies);
            all.used.extend(found.used);
        }
        Ok(all)
    }
}

async fn latencies(
    context: Context,
    mut samples: mpsc::UnboundedReceiver<Sample>,
    stop: CancellationToken,
) -> Found {
    let mut found = Found::default();
    let mut waiting: HashMap<String, Sample> = HashMap::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut sql: Option<Client> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return found,
        }
        while let Ok(sample) = samples.try_recv() {
            if waiting.len() < LOOKED_FOR_MAX {
                waiting.insert(sample.id.clone(), sample);
            }
        }
        if waiting.is_empty() {
            continue;
        }
        // The database may be what is broken at the moment.
        let Some(there) = there(&context, &mut sql, &waiting).await else {
            sql = None;
            continue;
        };
        let seen = Instant::now();
        for id in there {
            if let Some(sample) = waiting.remove(&id) {
                let sent = sample.sent;
                found.latencies.push(Latency { sent, seen });
            }
        }
    }
}

/// Which of them are rows.
async fn there(
    context: &Context,
    sql: &mut Option<Client>,
    waiting: &HashMap<String, Sample>,
) -> Option<Vec<String>> {
    if sql.is_none() {
        let fresh = context.sql().await.ok()?;
        fresh.batch_execute(BY_INDEX).await.ok()?;
        *sql = Some(fresh);
    }
    let ids: Vec<&str> = waiting.keys().map(String::as_str).collect();
    let times: Vec<i64> = waiting.values().map(|sample| sample.time.as_micros()).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&ids, &times];
    let rows = sql.as_ref()?.query(THERE, &parameters);
    // A query that the database has forgotten is asked anew.
    let rows = tokio::time::timeout(ANSWERS_WITHIN, rows).await;
    Some(rows.ok()?.ok()?.iter().map(|row| row.get(0)).collect())
}

async fn usage(stack: Arc<Stack>, stop: CancellationToken) -> Found {
    let mut found = Found::default();
    let mut ticks = interval(MEASURE);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return found,
        }
        for unit in stack.supervisor().all() {
            let name = unit.spec().name.clone();
            // PostgreSQL is many processes; its memory is shared among them.
            let Some(pid) = unit.state().pid.filter(|_| name != "postgres") else {
                continue;
            };
            let mut most = |what: &str, now: Option<u64>| {
                let most = found.used.entry(format!("{name} {what}")).or_default();
                *most = (*most).max(now.unwrap_or_default());
            };
            most("MiB", resident(pid));
            most("files", files(pid));
        }
    }
}

/// Resident memory in MiB, where the system tells us.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn files(pid: u32) -> Option<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(open.count() as u64)
}
