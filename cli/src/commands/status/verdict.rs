//! What two looks mean.
use super::{
    look::{DurableLook, Life, Look, is_well},
    lost::Lost,
};
use crate::stack::WORKERS;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// The shape of `telltale status -o json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) healthy: bool,
    pub(super) site: String,
    pub(super) problems: Vec<String>,
    pub(super) processes: Vec<Process>,
    pub(super) workers: Vec<Worker>,
    pub(super) rates: Rates,
    /// Open entries by reason.
    pub(super) quarantine: BTreeMap<String, i64>,
    /// Of this site's RAW as it is now.
    pub(super) balance: Option<Balance>,
    /// What the balance waits for, where not all that had left RAW has been seen to yet.
    pub(super) waits_for: Option<String>,
    /// Of the lives that it had before, and of other sites, as far as this database knows of them.
    pub(super) other_balances: Vec<Balance>,
    /// Streams from whose middle something is gone: by an operator's hand, or lost by the broker.
    pub(super) holes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) since_s: u64,
}

/// One worker's place in one stream.
#[derive(Debug, Serialize)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) stream: String,
    pub(super) reading: bool,
    pub(super) pending: u64,
    pub(super) in_flight: u64,
    pub(super) oldest_s: Option<f64>,
    pub(super) rate_per_s: f64,
}

/// Messages a second, between the two looks.
#[derive(Debug, Serialize)]
pub(super) struct Rates {
    pub(super) accepted_per_s: f64,
    pub(super) settled_per_s: Option<f64>,
}

/// `accepted = stored + duplicate + quarantined + unkept + removed + in_flight + missing`
#[derive(Debug, Clone, Serialize)]
pub(super) struct Balance {
    pub(super) site: String,
    pub(super) epoch: u64,
    pub(super) accepted: i64,
    pub(super) stored: i64,
    pub(super) duplicate: i64,
    pub(super) quarantined: i64,
    pub(super) unkept: i64,
    /// Written off by an operator.
    pub(super) removed: i64,
    pub(super) in_flight: i64,
    pub(super) missing: i64,
    /// Up to this sequence nothing is under way any more.
    pub(super) settled: i64,
    /// The first of the missing sequences, `from..to`.
    pub(super) missing_sequences: String,
    /// What the streams still know of the first of them.
    pub(super) lost: Vec<Lost>,
}

/// So many ranges are named.
const NAMED: usize = 5;
/// Fuller than that is a problem: soon it refuses.
const FULL: f64 = 0.9;

pub(super) fn judge(site: &str, first: &Look, second: &Look, lag_max: Duration) -> Report {
    let seconds = second.at.duration_since(first.at).as_secs_f64().max(1e-3);
    let rate = |before: u64, after: u64| round(after.saturating_sub(before) as f64 / seconds);
    let last = |look: &Look| look.raw.last;
    let mut problems = Vec::new();
    problems.extend(
        second
            .processes
            .iter()
            .filter(|process| !is_well(process))
            .map(ill),
    );
    let mut workers = Vec::new();
    for durable in &second.durables {
        let before = first
            .durables
            .iter()
            .find(|d| d.worker == durable.worker && d.stream == durable.stream);
        problems.extend(trouble(before, durable, lag_max));
        workers.push(Worker {
            name: durable.worker.clone(),
            stream: durable.stream.clone(),
            reading: is_read(before, durable),
            pending: durable.pending,
            in_flight: durable.in_flight,
            oldest_s: durable.oldest_s.map(round),
            rate_per_s: rate(
                before.map_or(durable.settled, |before| before.settled),
                durable.settled,
            ),
        });
    }
    problems.extend(nearly_full(second));
    let (balance, other_balances) = balances(site, second);
    match &second.database {
        Err(error) => problems.push(error.clone()),
        Ok(_) => problems.extend(balance.iter().chain(&other_balances).filter_map(nowhere)),
    }
    problems.extend(unread_holes(second));
    let settled = |look: &Look| {
        let lives = &look.database.as_ref().ok()?.lives;
        let life = lives
            .iter()
            .find(|life| life.site == site && life.epoch == look.raw.epoch)?;
        u64::try_from(life.fates.values().sum::<i64>()).ok()
    };
    Report {
        healthy: problems.is_empty(),
        site: site.to_owned(),
        problems,
        processes: second.processes.iter().map(process).collect(),
        workers,
        rates: Rates {
            accepted_per_s: rate(last(first), last(second)),
            settled_per_s: settled(first)
                .zip(settled(second))
                .map(|(before, after)| rate(before, after)),
        },
        quarantine: second
            .database
            .as_ref()
            .map(|database| database.quarantine.clone())
            .unwrap_or_default(),
        balance,
        waits_for: None,
        other_balances,
        holes: holes(second),
    }
}

fn ill(process: &crate::control::Process) -> String {
    let how = process
        .last
        .as_ref()
        .map(|last| format!(": {last}"))
        .unwrap_or_default();
    format!("{} is {:?}{how}", process.name, process.phase).to_lowercase()
}

fn nearly_full(look: &Look) -> impl Iterator<Item = String> {
    look.streams.iter().filter_map(|(name, stream)| {
        let full = stream.full.filter(|full| *full > FULL)?;
        Some(format!("{name} is {:.0} % full: soon it refuses", full * 100.0))
    })
}

fn holes(look: &Look) -> BTreeMap<String, String> {
    let streams = look.streams.iter();
    streams
        .filter(|(_, stream)| stream.holes.count() > 0)
        .map(|(name, stream)| (name.clone(), stream.holes.told(NAMED)))
        .collect()
}

fn process(process: &crate::control::Process) -> Process {
    Process {
        name: process.name.clone(),
        phase: format!("{:?}", process.phase).to_lowercase(),
        pid: process.pid,
        restarts: process.restarts,
        since_s: process.since_s,
    }
}

/// Somebody waits for messages, or works through them.
fn is_read(before: Option<&DurableLook>, now: &DurableLook) -> bool {
    now.waiting > 0 || before.is_some_and(|before| before.waiting > 0 || before.settled < now.settled)
}

fn trouble(before: Option<&DurableLook>, now: &DurableLook, lag_max: Duration) -> Option<String> {
    let ours = WORKERS.contains(&now.worker.as_str());
    let waits = now.pending + now.in_flight;
    if !is_read(before, now) && (waits > 0 || ours) {
        return Some(format!(
            "nobody reads {} as {}; {waits} messages wait",
            now.stream, now.worker
        ));
    }
    let oldest = now.oldest_s.filter(|oldest| *oldest > lag_max.as_secs_f64())?;
    Some(format!(
        "{} is behind in {}: the oldest of {waits} waits for {oldest:.0} s",
        now.worker, now.stream
    ))
}

/// That of the RAW at hand, and those of all others.
fn balances(site: &str, look: &Look) -> (Option<Balance>, Vec<Balance>) {
    let Ok(database) = &look.database else {
        return (None, Vec::new());
    };
    let (mut own, mut others) = (None, Vec::new());
    for life in &database.lives {
        let is_own = life.site == site && life.epoch == look.raw.epoch;
        // RAW was looked at after the ledger: whatever has a fate had been accepted by then.
        let accepted = if is_own {
            i64::try_from(look.raw.last).unwrap_or(i64::MAX)
        } else {
            life.last
        };
        let balance = balance(life, accepted);
        if is_own {
            own = Some(balance);
        } else {
            others.push(balance);
        }
    }
    (own, others)
}

fn balance(life: &Life, accepted: i64) -> Balance {
    let fate = |name: &str| life.fates.get(name).copied().unwrap_or_default();
    let missing = life.missing.count();
    Balance {
        site: life.site.clone(),
        epoch: life.epoch,
        accepted,
        stored: fate("stored"),
        duplicate: fate("duplicate"),
        quarantined: fate("quarantined"),
        unkept: fate("unkept"),
        removed: fate("removed"),
        in_flight: (accepted - life.fates.values().sum::<i64>() - missing).max(0),
        missing,
        settled: life.settled,
        missing_sequences: life.missing.told(NAMED),
        lost: Vec::new(),
    }
}

fn nowhere(balance: &Balance) -> Option<String> {
    (balance.missing > 0).then(|| {
        format!(
            "{} accepted messages are nowhere: RAW {} of {} (epoch {})",
            balance.missing, balance.missing_sequences, balance.site, balance.epoch
        )
    })
}

/// Where something is gone that somebody had yet to read.
fn unread_holes(look: &Look) -> impl Iterator<Item = String> {
    look.streams.iter().filter_map(|(name, stream)| {
        let last = stream.holes.last()?;
        let unread = look.durables.iter().any(|durable| {
            durable.stream == *name && i64::try_from(durable.settled).is_ok_and(|settled| settled < last)
        });
        unread.then(|| {
            format!(
                "{name} has lost messages that somebody had yet to read: {}",
                stream.holes.told(NAMED)
            )
        })
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
