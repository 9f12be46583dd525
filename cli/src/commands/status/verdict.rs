//! What two looks mean.
use super::{
    look::{DurableLook, Look, is_well},
    ranges::Ranges,
};
use crate::stack::WORKERS;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use telltale_nats::Lane;

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
    pub(super) balance: Option<Balance>,
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

/// `accepted = stored + duplicate + quarantined + unkept + in_flight + missing`
#[derive(Debug, Clone, Serialize)]
pub(super) struct Balance {
    pub(super) epoch: u64,
    pub(super) accepted: u64,
    pub(super) stored: i64,
    pub(super) duplicate: i64,
    pub(super) quarantined: i64,
    pub(super) unkept: i64,
    pub(super) in_flight: i64,
    pub(super) missing: i64,
    /// The first of the missing sequences, `from..to`.
    pub(super) missing_sequences: String,
}

/// Fuller than that is a problem: soon it refuses.
const FULL: f64 = 0.9;

pub(super) fn judge(site: &str, first: &Look, second: &Look, lag_max: Duration) -> Report {
    let seconds = second.at.duration_since(first.at).as_secs_f64().max(1e-3);
    let rate = |before: u64, after: u64| round(after.saturating_sub(before) as f64 / seconds);
    let last = |look: &Look| look.streams.get(Lane::Raw.stream()).map_or(0, |raw| raw.last);
    let mut problems = Vec::new();
    for process in second.processes.iter().filter(|process| !is_well(process)) {
        let how = process
            .last
            .as_ref()
            .map(|last| format!(": {last}"))
            .unwrap_or_default();
        problems.push(format!("{} is {:?}{how}", process.name, process.phase).to_lowercase());
    }
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
    for (name, stream) in &second.streams {
        if let Some(full) = stream.full.filter(|full| *full > FULL) {
            problems.push(format!("{name} is {:.0} % full: soon it refuses", full * 100.0));
        }
    }
    let balance = balance(first, second, last(second));
    match (&second.database, &balance) {
        (Err(error), _) => problems.push(error.clone()),
        (_, Some(balance)) if balance.missing > 0 => problems.push(format!(
            "{} accepted messages are nowhere: RAW {}",
            balance.missing, balance.missing_sequences
        )),
        _ => {}
    }
    let settled = |look: &Look| {
        let fates = &look.database.as_ref().ok()?.fates;
        u64::try_from(fates.values().sum::<i64>()).ok()
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
    }
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

fn balance(first: &Look, second: &Look, accepted: u64) -> Option<Balance> {
    let (Ok(before), Ok(now)) = (&first.database, &second.database) else {
        return None;
    };
    // Without a fate both times, and nothing that still waits can be older.
    let missing = if first.epoch == second.epoch {
        before.gaps.and(&now.gaps).below(first.floor.min(second.floor))
    } else {
        Ranges::default()
    };
    let fate = |name: &str| now.fates.get(name).copied().unwrap_or_default();
    Some(Balance {
        epoch: second.epoch,
        accepted,
        stored: fate("stored"),
        duplicate: fate("duplicate"),
        quarantined: fate("quarantined"),
        unkept: fate("unkept"),
        in_flight: now.gaps.count() - missing.count(),
        missing: missing.count(),
        missing_sequences: missing.told(5),
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::look::{Database, StreamLook};
    use std::time::Instant;

    fn look(after: Duration, last: u64, gaps: &[(i64, i64)], floor: i64) -> Look {
        let gaps = Ranges::new(gaps.iter().copied());
        let stored = i64::try_from(last).unwrap() - gaps.count();
        let stream = StreamLook {
            last,
            full: Some(0.1),
        };
        let durable = |worker: &str, stream: &str| DurableLook {
            worker: worker.into(),
            stream: stream.into(),
            pending: 0,
            in_flight: 0,
            waiting: 1,
            settled: last,
            oldest_s: None,
        };
        Look {
            at: Instant::now() + after,
            processes: Vec::new(),
            streams: [("RAW".to_owned(), stream)].into(),
            durables: vec![
                durable("validate", "RAW"),
                durable("store", "READINGS"),
                durable("extra", "READINGS"),
            ],
            epoch: 7,
            floor,
            database: Ok(Database {
                fates: [("stored".to_owned(), stored)].into(),
                gaps,
                quarantine: BTreeMap::new(),
            }),
        }
    }

    fn judged(first: &Look, second: &Look) -> Report {
        judge("s", first, second, Duration::from_mins(1))
    }

    #[test]
    fn what_flows_is_in_flight_and_what_stays_behind_is_missing() {
        let second = Duration::from_secs(1);
        let report = judged(
            &look(Duration::ZERO, 100, &[(90, 101)], 90),
            &look(second, 120, &[(110, 121)], 110),
        );
        let balance = report.balance.unwrap();
        assert_eq!((balance.stored, balance.in_flight, balance.missing), (109, 11, 0));
        assert!(report.healthy, "{:?}", report.problems);
        assert!((report.rates.accepted_per_s - 20.0).abs() < 0.5);

        let report = judged(
            &look(Duration::ZERO, 100, &[(40, 42), (90, 101)], 90),
            &look(second, 120, &[(40, 42), (110, 121)], 110),
        );
        let balance = report.balance.unwrap();
        assert_eq!(
            (
                balance.in_flight,
                balance.missing,
                balance.missing_sequences.as_str()
            ),
            (11, 2, "40..41")
        );
        assert!(!report.healthy);
        let sum = balance.stored
            + balance.duplicate
            + balance.quarantined
            + balance.unkept
            + balance.in_flight
            + balance.missing;
        assert_eq!(u64::try_from(sum), Ok(balance.accepted));
    }

    #[test]
    fn a_worker_that_nobody_runs_or_that_is_behind_is_named() {
        let (first, mut second) = (
            look(Duration::ZERO, 9, &[], i64::MAX),
            look(Duration::from_secs(1), 9, &[], i64::MAX),
        );
        assert!(judged(&first, &second).healthy);
        second.durables[1].oldest_s = Some(61.0);
        assert!(judged(&first, &second).problems[0].contains("store is behind in READINGS"));
        let mut first = first;
        for look in [&mut first, &mut second] {
            look.durables[0].waiting = 0;
            look.durables[2].waiting = 0;
        }
        let problems = judged(&first, &second).problems;
        assert!(
            problems[0].contains("nobody reads RAW as validate"),
            "{problems:?}"
        );
        assert_eq!(
            problems.len(),
            2,
            "an extension that has nothing to do may be away: {problems:?}"
        );
        second.durables[2].pending = 1;
        assert_eq!(judged(&first, &second).problems.len(), 3);
    }

    #[test]
    fn a_database_that_is_away_leaves_the_balance_open() {
        let (first, mut second) = (
            look(Duration::ZERO, 9, &[], i64::MAX),
            look(Duration::from_secs(1), 9, &[], i64::MAX),
        );
        second.database = Err("PostgreSQL is away".into());
        let report = judged(&first, &second);
        assert!(report.balance.is_none() && report.problems == ["PostgreSQL is away"]);
    }
}
