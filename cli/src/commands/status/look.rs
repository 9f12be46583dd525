//! One look at everything that runs: processes, broker, database.
use super::ranges::Ranges;
use crate::{context::Context, control, stack::Layout, supervise::Phase};
use anyhow::Context as _;
use futures::TryStreamExt as _;
use std::{collections::BTreeMap, time::Instant};
use telltale_nats::{
    Topology,
    async_nats::{
        Client,
        jetstream::{self, stream::Stream},
    },
    barrier, client,
};
use telltale_schemas::Timestamp;

/// Everything at one moment. The broker is looked at before the database, where what it has let go of is; and RAW
/// once more at the end, so that whatever has a fate has been accepted.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// What the supervisor says, where there is one.
    pub(super) processes: Vec<control::Process>,
    pub(super) streams: BTreeMap<String, StreamLook>,
    pub(super) durables: Vec<DurableLook>,
    pub(super) raw: barrier::Raw,
    pub(super) database: Result<Database, String>,
}

#[derive(Debug, Clone)]
pub(super) struct StreamLook {
    /// How full it is, from 0 to 1, where it has a limit that refuses.
    pub(super) full: Option<f64>,
    /// Sequences that are gone from its middle, where nothing of ours deletes.
    pub(super) holes: Ranges,
}

#[derive(Debug, Clone)]
pub(super) struct DurableLook {
    pub(super) worker: String,
    pub(super) stream: String,
    pub(super) pending: u64,
    pub(super) in_flight: u64,
    /// Pulls that wait for messages: somebody reads.
    pub(super) waiting: u64,
    /// Up to where all is acknowledged.
    pub(super) settled: u64,
    /// Age of the oldest message that is not acknowledged.
    pub(super) oldest_s: Option<f64>,
}

#[derive(Debug, Clone)]
pub(super) struct Database {
    /// Each life of RAW at each site that the database knows of, and this one.
    pub(super) lives: Vec<Life>,
    /// What is in quarantine and open, by reason.
    pub(super) quarantine: BTreeMap<String, i64>,
}

/// One life of a RAW stream.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) site: String,
    pub(super) epoch: u64,
    /// The greatest sequence that is known to have been accepted.
    pub(super) last: i64,
    /// Up to here nothing is under way any more.
    pub(super) settled: i64,
    pub(super) fates: BTreeMap<String, i64>,
    /// Without a fate, up to `settled`.
    pub(super) missing: Ranges,
}

impl Look {
    /// `passed` is how RAW was when a barrier was begun that has been passed since.
    pub(super) async fn take(
        ctx: &Context,
        nats: &Client,
        passed: Option<barrier::Raw>,
    ) -> anyhow::Result<Self> {
        let js = client::context(nats.clone());
        let processes = match &ctx.folder {
            None => Vec::new(),
            Some(folder) => processes(folder),
        };
        let no_raw =
            || super::Refused::precondition("the broker has no stream RAW; `telltale provision` makes it");
        let raw = barrier::raw(&js).await.with_context(no_raw)?;
        let mut look = Self {
            at: Instant::now(),
            processes,
            streams: BTreeMap::new(),
            durables: Vec::new(),
            raw,
            database: Err(String::new()),
        };
        for stream in Topology::of(&ctx.site).streams {
            look.stream(&js, &stream.name)
                .await
                .with_context(|| format!("look at {}", stream.name))?;
        }
        let passed = passed.filter(|passed| passed.epoch == raw.epoch);
        let database = database(ctx, raw.epoch, passed).await;
        look.database = database.map_err(|error| format!("{error:#}"));
        look.raw = barrier::raw(&js).await?;
        Ok(look)
    }

    /// What is missing of one life of RAW.
    pub(super) fn missing(&self, site: &str, epoch: u64) -> Ranges {
        let lives = self.database.as_ref().map(|database| database.lives.as_slice());
        let life = lives
            .unwrap_or_default()
            .iter()
            .find(|life| life.site == site && life.epoch == epoch);
        life.map(|life| life.missing.clone()).unwrap_or_default()
    }

    async fn stream(&mut self, js: &jetstream::Context, name: &str) -> anyhow::Result<()> {
        let stream = js.get_stream(name).await?;
        let info = stream.cached_info();
        let limit = u64::try_from(info.config.max_bytes)
            .ok()
            .filter(|limit| *limit > 0);
        let refuses = info.config.discard == jetstream::stream::DiscardPolicy::New;
        let state = &info.state;
        let full = limit
            .filter(|_| refuses)
            .map(|limit| state.bytes as f64 / limit as f64);
        let has_holes = WHOLE.contains(&name) && state.deleted_count.unwrap_or_default() > 0;
        let seen = StreamLook {
            full,
            holes: if has_holes {
                holes(&stream).await?
            } else {
                Ranges::default()
            },
        };
        let mut consumers = stream.consumers();
        while let Some(info) = consumers.try_next().await? {
            let Some(worker) = info.config.durable_name.clone() else {
                continue;
            };
            let mut durable = DurableLook {
                worker,
                stream: name.to_owned(),
                pending: info.num_pending,
                in_flight: info.num_ack_pending as u64,
                waiting: info.num_waiting as u64,
                settled: info.ack_floor.stream_sequence,
                oldest_s: None,
            };
            if durable.pending + durable.in_flight > 0 {
                let oldest = (info.ack_floor.stream_sequence + 1).max(state.first_sequence);
                // It may have gone meanwhile; then it is no longer the oldest.
                durable.oldest_s = stream.get_raw_message(oldest).await.ok().map(|message| {
                    let age = Timestamp::now().as_micros() - Timestamp::from_offset(message.time).as_micros();
                    (age as f64 / 1e6).max(0.0)
                });
            }
            self.durables.push(durable);
        }
        self.streams.insert(name.to_owned(), seen);
        Ok(())
    }
}

/// Streams from whose middle nobody takes anything.
const WHOLE: [&str; 4] = ["VALID", "READINGS", "EVENTS", "THINGS"];

async fn holes(stream: &Stream) -> anyhow::Result<Ranges> {
    let info = stream.info_builder().with_deleted(true).fetch().await?;
    let mut deleted = info.info.state.deleted.unwrap_or_default();
    deleted.sort_unstable();
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for sequence in deleted
        .into_iter()
        .filter_map(|sequence| i64::try_from(sequence).ok())
    {
        match ranges.last_mut() {
            Some((_, to)) if *to == sequence => *to += 1,
            _ => ranges.push((sequence, sequence + 1)),
        }
    }
    Ok(Ranges::new(ranges))
}

fn processes(folder: &std::path::Path) -> Vec<control::Process> {
    let status = folder
        .parent()
        .and_then(|dir| control::Client::connect(&Layout::at(dir)).ok())
        .and_then(|mut supervisor| supervisor.status().ok());
    status.map(|status| status.processes).unwrap_or_default()
}

/// Whether the process is as it should be.
pub(super) fn is_well(process: &control::Process) -> bool {
    process.phase == Phase::Running
        || (process.name == crate::stack::SIMULATOR && process.phase == Phase::Stopped)
}

async fn database(ctx: &Context, epoch: u64, passed: Option<barrier::Raw>) -> anyhow::Result<Database> {
    let sql = super::reach::sql(ctx).await?;
    let site = ctx.site.plain();
    // In one snapshot, so that fates and gaps are complements.
    sql.batch_execute("begin transaction isolation level repeatable read read only")
        .await?;
    let known = sql
        .query(
            "select site, epoch, last, settled from epochs order by site, epoch",
            &[],
        )
        .await?;
    let mut lives = Vec::with_capacity(known.len() + 1);
    for row in &known {
        lives.push(Life {
            site: row.get(0),
            epoch: u64::try_from(row.get::<_, i64>(1))?,
            last: row.get(2),
            settled: row.get(3),
            fates: BTreeMap::new(),
            missing: Ranges::default(),
        });
    }
    if !lives.iter().any(|life| life.site == site && life.epoch == epoch) {
        lives.push(Life {
            site: site.to_owned(),
            epoch,
            last: 0,
            settled: 0,
            fates: BTreeMap::new(),
            missing: Ranges::default(),
        });
    }
    for life in &mut lives {
        if let Some(raw) = passed.filter(|_| life.site == site) {
            // What an earlier life had accepted is behind the barrier too.
            let left = if life.epoch == epoch {
                i64::try_from(raw.left)?
            } else {
                life.last
            };
            life.settled = life.settled.max(left);
        }
        let epoch = i64::try_from(life.epoch)?;
        let fates = sql
            .query(
                "select fate, messages from telltale.balance($1, $2)",
                &[&life.site, &epoch],
            )
            .await?;
        let missing = sql
            .query(
                "select lower(part), upper(part) from unnest(telltale.missing($1, $2, $3)) as part",
                &[&life.site, &epoch, &life.settled],
            )
            .await?;
        life.fates = fates.iter().map(|row| (row.get(0), row.get(1))).collect();
        life.missing = Ranges::new(missing.iter().map(|row| (row.get(0), row.get(1))));
    }
    let quarantine = sql
        .query(
            "select reason, count(*) from quarantine where state = 'open' group by reason",
            &[],
        )
        .await?;
    sql.batch_execute("commit").await?;
    Ok(Database {
        lives,
        quarantine: quarantine.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}
