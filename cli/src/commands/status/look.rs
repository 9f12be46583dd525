//! One look at everything that runs: processes, broker, database.
use super::ranges::Ranges;
use crate::{context::Context, control, stack::Layout, supervise::Phase};
use anyhow::Context as _;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::{collections::BTreeMap, time::Instant};
use telltale_nats::{
    Lane, Topology,
    async_nats::{
        Client,
        jetstream::{self, message::StreamMessage, stream::Stream},
    },
    client, header, provision,
    subject::REDO_STREAM,
};
use telltale_schemas::{RawSeq, Timestamp};

/// Everything at one moment. The broker is looked at before the database: what it has let go of is in there.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// What the supervisor says, where there is one.
    pub(super) processes: Vec<control::Process>,
    pub(super) streams: BTreeMap<String, StreamLook>,
    pub(super) durables: Vec<DurableLook>,
    pub(super) epoch: u64,
    /// No message below this sequence of RAW waits anywhere.
    pub(super) floor: i64,
    pub(super) database: Result<Database, String>,
}

#[derive(Debug, Clone)]
pub(super) struct StreamLook {
    pub(super) last: u64,
    /// How full it is, from 0 to 1, where it has a limit that refuses.
    pub(super) full: Option<f64>,
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
    pub(super) fates: BTreeMap<String, i64>,
    /// Sequences of RAW without a fate.
    pub(super) gaps: Ranges,
    /// What is in quarantine and open, by reason.
    pub(super) quarantine: BTreeMap<String, i64>,
}

impl Look {
    pub(super) async fn take(ctx: &Context, nats: &Client) -> anyhow::Result<Self> {
        let js = client::context(nats.clone());
        let processes = match &ctx.folder {
            None => Vec::new(),
            Some(folder) => processes(folder),
        };
        let epoch = provision::epoch(&js).await.context(super::Refused::precondition(
            "the broker has no stream RAW; `telltale provision` makes it",
        ))?;
        let mut look = Self {
            at: Instant::now(),
            processes,
            streams: BTreeMap::new(),
            durables: Vec::new(),
            epoch,
            floor: i64::MAX,
            database: Err(String::new()),
        };
        for stream in Topology::of(&ctx.site).streams {
            look.stream(&js, &stream.name)
                .await
                .with_context(|| format!("look at {}", stream.name))?;
        }
        let last = look.streams.get(Lane::Raw.stream()).map_or(0, |raw| raw.last);
        let database = database(ctx, epoch, last).await;
        look.database = database.map_err(|error| format!("{error:#}"));
        Ok(look)
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
        let seen = StreamLook {
            last: state.last_sequence,
            full,
        };
        if name == REDO_STREAM && state.messages > 0 {
            self.lower(message(&stream, state.first_sequence).await.as_ref());
        }
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
                let oldest = message(&stream, oldest).await;
                durable.oldest_s = oldest.as_ref().map(|message| {
                    let age = Timestamp::now().as_micros() - Timestamp::from_offset(message.time).as_micros();
                    (age as f64 / 1e6).max(0.0)
                });
                // What only extensions have still to see is on its way to no fate.
                if crate::stack::WORKERS.contains(&durable.worker.as_str()) {
                    self.lower(oldest.as_ref());
                }
            }
            self.durables.push(durable);
        }
        self.streams.insert(name.to_owned(), seen);
        Ok(())
    }

    fn lower(&mut self, message: Option<&StreamMessage>) {
        let Some(message) = message else { return };
        let lowest = if message.subject.starts_with("raw") {
            Some(message.sequence)
        } else {
            rawseq(message)
        };
        if let Some(lowest) = lowest.and_then(|lowest| i64::try_from(lowest).ok()) {
            self.floor = self.floor.min(lowest);
        }
    }
}

async fn message(stream: &Stream, sequence: u64) -> Option<StreamMessage> {
    // It may have gone meanwhile; then it is no longer the oldest.
    stream.get_raw_message(sequence).await.ok()
}

/// The lowest RAW sequence that a message stems from.
fn rawseq(message: &StreamMessage) -> Option<u64> {
    let of = |document: &Value| document["rawseq"].as_str()?.parse::<RawSeq>().ok();
    let original = message.headers.get(header::ORIGINAL_RAWSEQ);
    if let Some(original) = original.and_then(|header| header.as_str().parse::<RawSeq>().ok()) {
        return Some(original.seq);
    }
    match serde_json::from_slice(&message.payload).ok()? {
        Value::Array(pack) => pack.iter().filter_map(of).map(|raw| raw.seq).min(),
        one => of(&one).map(|raw| raw.seq),
    }
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

async fn database(ctx: &Context, epoch: u64, last: u64) -> anyhow::Result<Database> {
    let (epoch, last) = (i64::try_from(epoch)?, i64::try_from(last)?);
    let sql = super::reach::sql(ctx).await?;
    let site = ctx.site.plain();
    // In one snapshot, so that fates and gaps are complements.
    sql.batch_execute("begin transaction isolation level repeatable read read only")
        .await?;
    let fates = sql
        .query(
            "select fate, messages from telltale.balance($1, $2)",
            &[&site, &epoch],
        )
        .await?;
    let gaps = sql
        .query(
            "select lower(part), upper(part) from unnest(telltale.missing($1, $2, $3)) as part",
            &[&site, &epoch, &last],
        )
        .await?;
    let quarantine = sql
        .query(
            "select reason, count(*) from quarantine where state = 'open' group by reason",
            &[],
        )
        .await?;
    sql.batch_execute("commit").await?;
    Ok(Database {
        fates: fates.iter().map(|row| (row.get(0), row.get(1))).collect(),
        gaps: Ranges::new(gaps.iter().map(|row| (row.get(0), row.get(1)))),
        quarantine: quarantine.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}
