//! Does what a schedule says, and proves that it happened.
use super::{links::Wires, load, load::Devices};
use crate::{commands::simulate::mqtt, context::Context, stack::Stack, supervise::Phase};
use anyhow::{Context as _, bail};
use rustix::process::Signal;
use std::{fs, sync::atomic::Ordering::Relaxed, time::Duration};
use telltale_checker::{
    proxy::{Direction, Tcp, Toxic},
    schedule::Step,
};
use telltale_nats::{async_nats::Client, client};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// A killed process may take so long to serve again on a busy machine.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// Room left in RAW when it is to be full soon.
const ROOM: i64 = 256 * 1024;
/// All devices of a storm are back in this time.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// A storm comes in this time.
const STORM: Duration = Duration::from_secs(1);

/// What was done.
#[derive(Debug, Clone)]
pub(super) struct Struck {
    pub(super) step: Step,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// How often it happened, by what shows it: restarts, bytes, refusals.
    pub(super) proof: u64,
    /// What did not go as it must.
    pub(super) wrong: Option<String>,
}

/// Breaks a stack.
#[derive(Debug)]
pub(super) struct Breaker<'a> {
    pub(super) stack: &'a Stack,
    pub(super) context: &'a Context,
    pub(super) nats: &'a Client,
    pub(super) wires: &'a Wires,
    pub(super) devices: &'a Devices,
    pub(super) rate: u32,
}

impl Breaker<'_> {
    /// Does one step, and waits until its fault is over.
    pub(super) async fn strike(&self, step: &Step) -> Struck {
        let from = Instant::now();
        let (proof, wrong) = match self.inflict(step).await {
            Ok(proof) => (proof, None),
            Err(error) => (1, Some(format!("{error:#}"))),
        };
        Struck {
            step: step.clone(),
            from,
            to: Instant::now(),
            proof,
            wrong,
        }
    }

    async fn inflict(&self, step: &Step) -> anyhow::Result<u64> {
        let target = step.target.as_str();
        let lasts = Duration::from_millis(step.lasts_ms);
        match step.fault.as_str() {
            "kill" | "kill-nats" => self.end(target, Signal::KILL).await,
            "kill-postgres" if step.value == 0 => self.end(target, Signal::KILL).await,
            "kill-postgres" => self.end(target, Signal::QUIT).await,
            "term" => self.end(target, Signal::TERM).await,
            "freeze" | "freeze-nats" => self.freeze(target, lasts).await,
            "fill-raw" => self.fill_raw(target, lasts).await,
            "terminate" => self.terminate(lasts).await,
            "clocks" => {
                let mode = &self.devices.mode.odd_clocks;
                mode.store(true, Relaxed);
                sleep(lasts).await;
                mode.store(false, Relaxed);
                Ok(self.devices.counts.odd_clocks.load(Relaxed))
            }
            "large" => {
                let mode = &self.devices.mode.large;
                mode.store(true, Relaxed);
                sleep(lasts).await;
                mode.store(false, Relaxed);
                Ok(self.devices.counts.large.load(Relaxed))
            }
            "flood" => {
                let mode = &self.devices.mode.flood;
                let before = self.devices.counts.flood.load(Relaxed);
                mode.store(step.value, Relaxed);
                sleep(lasts).await;
                mode.store(0, Relaxed);
                Ok(self.devices.counts.flood.load(Relaxed) - before)
            }
            "burst" => Ok(self.burst(step.value, lasts).await),
            "storm" => self.storm(step.value).await,
            _ => spoil(self.wires.get(target)?, step, lasts).await,
        }
    }

    /// Ends a process by a signal; another is in its place and serves.
    async fn end(&self, name: &str, signal: Signal) -> anyhow::Result<u64> {
        let unit = self.stack.supervisor().unit(name)?;
        let before = unit.state().restarts;
        self.stack.supervisor().signal(name, signal)?;
        let ended = timeout(SERVES_WITHIN, unit.reach(|state| state.restarts > before)).await;
        let state = ended.with_context(|| format!("{name} has not ended"))?;
        if signal == Signal::TERM
            && let Some(how) = state.last.filter(|how| how != "exit status: 0")
        {
            bail!("{name} was asked to end, and ended with {how}");
        }
        if state.phase == Phase::Waiting {
            // The supervisor takes it for a process that crashes in a loop, and would wait longer each time.
            unit.restart();
        }
        self.stack.ready(name, SERVES_WITHIN).await?;
        Ok(u64::from(unit.state().restarts - before))
    }

    async fn freeze(&self, name: &str, lasts: Duration) -> anyhow::Result<u64> {
        let pid = self.stack.supervisor().signal(name, Signal::STOP)?;
        sleep(lasts).await;
        let stopped = is_stopped(pid);
        self.stack.supervisor().signal(name, Signal::CONT)?;
        self.stack.ready(name, SERVES_WITHIN).await?;
        Ok(u64::from(stopped))
    }

    /// RAW has little room, and nobody empties it: it is full, and the bridge refuses.
    async fn fill_raw(&self, reader: &str, lasts: Duration) -> anyhow::Result<u64> {
        let js = client::context(self.nats.clone());
        let mut raw = js.get_stream("RAW").await?;
        let was = raw.cached_info().config.clone();
        self.stack.supervisor().signal(reader, Signal::STOP)?;
        let filled = async {
            let held = i64::try_from(raw.info().await?.state.bytes)?;
            let mut small = was.clone();
            small.max_bytes = held + ROOM;
            js.update_stream(&small).await?;
            let before = self.devices.counts.resent.load(Relaxed);
            sleep(lasts).await;
            let full = i64::try_from(raw.info().await?.state.bytes)? + ROOM / 4 > small.max_bytes;
            let refused = self.devices.counts.resent.load(Relaxed) - before;
            anyhow::Ok(if full { refused } else { 0 })
        };
        let filled = filled.await;
        let healed = js.update_stream(&was).await;
        self.stack.supervisor().signal(reader, Signal::CONT)?;
        healed.context("give RAW its room back")?;
        self.stack.ready(reader, SERVES_WITHIN).await?;
        filled
    }

    /// Ends all connections of `store` each second.
    async fn terminate(&self, lasts: Duration) -> anyhow::Result<u64> {
        let sql = self.context.sql_admin().await?;
        let end = Instant::now() + lasts;
        let mut ended: i64 = 0;
        loop {
            let row = sql.query_one(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where usename = current_user and pid <> pg_backend_pid() and backend_type = 'client backend'",
                &[],
            );
            ended += row.await?.get::<_, i64>(0);
            if Instant::now() >= end {
                return Ok(u64::try_from(ended)?);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// How many more than usual came.
    async fn burst(&self, factor: u64, lasts: Duration) -> u64 {
        let mode = &self.devices.mode.factor;
        let before = self.devices.counts.offered.load(Relaxed);
        mode.store(factor, Relaxed);
        sleep(lasts).await;
        mode.store(1, Relaxed);
        let offered = self.devices.counts.offered.load(Relaxed) - before;
        let usual = u128::from(self.rate) * lasts.as_millis() / 1_000;
        offered.saturating_sub(u64::try_from(usual).unwrap_or(u64::MAX))
    }

    /// Many sessions come at once; whoever is not let in comes again. All of them are in, in the end.
    async fn storm(&self, devices: u64) -> anyhow::Result<u64> {
        let mut sessions = JoinSet::new();
        for number in 0..devices {
            let line = load::line(self.context, &format!("storm-{number}"))?;
            sessions.spawn(async move {
                sleep(STORM.mul_f64(rand::random::<f64>())).await;
                loop {
                    match mqtt::connect(&line).await {
                        Ok((wire, _)) => return wire,
                        Err(_) => sleep(STORM.mul_f64(rand::random::<f64>())).await,
                    }
                }
            });
        }
        let mut open = Vec::new();
        let all = timeout(BACK_WITHIN, async {
            while let Some(Ok(wire)) = sessions.join_next().await {
                open.push(wire);
            }
        });
        if all.await.is_err() {
            bail!(
                "only {} of {devices} devices were back after {} s",
                open.len(),
                BACK_WITHIN.as_secs()
            );
        }
        Ok(open.len() as u64)
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in brackets, may contain anything.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// Spoils a wire for a while; how often that was felt.
async fn spoil(wire: &Tcp, step: &Step, lasts: Duration) -> anyhow::Result<u64> {
    let direction = match step.value % 3 {
        0 => Direction::Both,
        1 => Direction::Up,
        _ => Direction::Down,
    };
    let (direction, toxic) = match step.fault.as_str() {
        "latency" => {
            let mean = Duration::from_millis(step.value);
            let jitter = mean / 10;
            (Direction::Both, Toxic::Latency { mean, jitter })
        }
        "slow" => (Direction::Both, Toxic::Bandwidth(step.value)),
        "blackhole" => (direction, Toxic::Blackhole),
        "cut" => (Direction::Both, Toxic::Down),
        "slice" => (Direction::Both, Toxic::Slice(usize::try_from(step.value)?)),
        "close-after" => (direction, Toxic::CloseAfter(step.value)),
        "reset" => {
            let before = wire.counters();
            wire.reset_all();
            // The connections learn of it in tasks of their own.
            sleep(Duration::from_millis(500)).await;
            return Ok(wire.counters().reset - before.reset);
        }
        other => bail!("no fault is called `{other}`"),
    };
    let before = wire.counters();
    wire.set(direction, toxic);
    sleep(lasts).await;
    wire.heal();
    let after = wire.counters();
    Ok(match toxic {
        Toxic::Latency { .. } | Toxic::Bandwidth(_) => after.delayed - before.delayed,
        Toxic::Blackhole => after.swallowed - before.swallowed,
        Toxic::Slice(_) => after.sliced - before.sliced,
        _ => after.closed + after.refused - before.closed - before.refused,
    })
}
