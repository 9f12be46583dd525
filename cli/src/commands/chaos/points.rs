//! Kills at eight named points, under load: what must hold afterwards is compared with what was sent.
use super::{Class, Violation, load, observe::observe, rest};
use crate::{
    commands::courier::Parcel,
    find::Say,
    stack::{ROAD, Stack, StackOptions, scratch},
    supervise::Phase,
};
use anyhow::{Context as _, bail};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use telltale_checker::{ledger::Sent, oracle::judge};
use telltale_runtime::fault::{ACK_BEFORE_COMMIT, Point};
use tokio::time::{Instant, sleep};

/// A point is passed many times a second; one that is not passed in this time is never passed.
const PASSED_WITHIN: Duration = Duration::from_secs(60);
/// A killed process may take so long to serve again on a busy machine.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// What the last kill left unacknowledged has come again this long after the time for its acknowledgement.
const MARGIN: Duration = Duration::from_millis(500);
const CONNECTIONS: u32 = 4;
/// Enough that one device's invalid readings never reach the quarantine's cap for a subject.
const THINGS: u64 = 50;
/// How often it is looked whether something happened.
const LOOK: Duration = Duration::from_millis(10);

/// What is done, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kills at each of the points.
    pub rounds: u32,
    /// Readings offered in a second; a tenth is invalid, a hundredth is sent twice.
    pub rate: u32,
    /// How long the broker waits for an acknowledgement.
    pub ack_wait: Duration,
    /// With the deliberate bug: `store` acknowledges before it commits, and is killed in between. It must be seen.
    pub bug: bool,
    /// What the stack consists of beside this.
    pub stack: StackOptions,
    /// Where progress is said.
    pub say: Say,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 100,
            rate: 200,
            ack_wait: Duration::from_secs(2),
            bug: false,
            stack: StackOptions::default(),
            say: Say::nothing(),
        }
    }
}

/// What was done, and what did not hold.
#[derive(Debug, Clone)]
pub struct Report {
    /// Kills that happened, by point and worker.
    pub kills: BTreeMap<(&'static str, &'static str), u32>,
    /// Accepted readings by class, and rows and entries that became of them.
    pub accepted: BTreeMap<Class, usize>,
    pub rows: usize,
    pub entries: usize,
    pub took: Duration,
    /// From the last kill to rest.
    pub rested_after: Duration,
    pub violations: Vec<Violation>,
}

impl Report {
    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18} {:<10} {:>6}", "point", "worker", "kills")?;
        for ((point, worker), count) in &self.kills {
            writeln!(f, "{point:<18} {worker:<10} {count:>6}")?;
        }
        let total: u32 = self.kills.values().sum();
        let of = |class| self.accepted.get(&class).copied().unwrap_or_default();
        writeln!(
            f,
            "{total} kills in {:.0} s; accepted {} good, {} invalid; {} rows, {} quarantine entries; at rest {:.1} s after the end",
            self.took.as_secs_f64(),
            of(Class::Good),
            of(Class::Bad),
            self.rows,
            self.entries,
            self.rested_after.as_secs_f64()
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATED {violation}")?;
        }
        if self.holds() {
            writeln!(f, "lost 0, doubled 0, quarantined exactly the invalid")?;
        }
        Ok(())
    }
}

/// Runs it all on a stack of its own.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    if !cfg!(debug_assertions) {
        bail!("the points exist in debug builds alone; run it as `cargo telltale chaos` in a checkout");
    }
    let faults = scratch("faults").context("make a folder for faults")?;
    let done = drive(&options, &faults).await;
    fs::remove_dir_all(&faults).with_context(|| format!("remove {}", faults.display()))?;
    done
}

async fn drive(options: &Options, faults: &Path) -> anyhow::Result<Report> {
    if options.bug {
        fs::write(faults.join(ACK_BEFORE_COMMIT), "")?;
    }
    let mut wanted = options.stack.clone();
    wanted.ack_wait = Some(options.ack_wait);
    let folder = faults.to_string_lossy().into_owned();
    wanted.env.push(("TELLTALE_FAULT_DIR".to_owned(), folder));
    let stack = Stack::start(wanted).await?;
    let context = stack.context()?;
    let nats = context.nats().await?;
    let load = load::Load::begin(&context, options.rate, CONNECTIONS, |n| Some(reading(n)))?;
    let begun = Instant::now();
    let mut killer = Killer {
        stack: &stack,
        faults: faults.to_owned(),
        pace: options.ack_wait + MARGIN,
        last: HashMap::new(),
        kills: BTreeMap::new(),
    };
    let plan = plan(options);
    let total = plan.len();
    for (n, (point, worker)) in plan.into_iter().enumerate() {
        killer.kill(point, worker).await?;
        if (n + 1) % 40 == 0 {
            let passed = begun.elapsed().as_secs();
            options
                .say
                .line(&format!("{} of {total} kills after {passed} s", n + 1));
        }
    }
    let kills = killer.kills;
    let sent = load.end().await?;
    let over = Instant::now();
    rest(&context, &nats).await?;
    let rested_after = over.elapsed();
    let (observed, _) = observe(&context, &nats, &sent, HashMap::new()).await?;
    stack.shutdown().await;
    let mut accepted = BTreeMap::new();
    for one in &sent {
        *accepted.entry(one.class).or_default() += 1;
    }
    Ok(Report {
        accepted,
        rows: observed.rows.len(),
        entries: observed.entries.len(),
        violations: judge(&sent, &observed),
        kills,
        took: begun.elapsed(),
        rested_after,
    })
}

/// All kills in order, so that a worker has peace between two of its own.
fn plan(options: &Options) -> Vec<(Point, &'static str)> {
    let [validate, annotate, store] = ROAD;
    let mut plan = Vec::new();
    for round in 0..options.rounds as usize {
        if options.bug {
            plan.push((Point::BeforeCommit, store));
            continue;
        }
        let publishers = [validate, annotate];
        plan.extend([
            (Point::BeforePublish, publishers[round % 2]),
            (Point::BeforeCommit, store),
            (Point::AfterPublish, publishers[(round + 1) % 2]),
            (Point::BeforeQuarantine, validate),
            (Point::AfterCommit, store),
            (Point::BeforeAck, ROAD[round % 3]),
            (Point::AfterQuarantine, validate),
            (Point::AfterAck, ROAD[(round + 1) % 3]),
        ]);
    }
    plan
}

struct Killer<'a> {
    stack: &'a Stack,
    faults: PathBuf,
    /// Between two kills of one worker: what was in its hands has come again, and counts one delivery more.
    pace: Duration,
    last: HashMap<&'static str, Instant>,
    kills: BTreeMap<(&'static str, &'static str), u32>,
}

impl Killer<'_> {
    /// Arms the point, waits until a process has died there, and has another in its place.
    async fn kill(&mut self, point: Point, worker: &'static str) -> anyhow::Result<()> {
        if let Some(last) = self.last.get(worker) {
            tokio::time::sleep_until(*last + self.pace).await;
        }
        let unit = self.stack.supervisor().unit(worker)?;
        let before = unit.state().restarts;
        let file = |state: &str| self.faults.join(format!("{worker}.{point}.{state}"));
        let (armed, fired) = (file("armed"), file("fired"));
        fs::write(&armed, "").with_context(|| format!("arm {}", armed.display()))?;
        let end = Instant::now() + PASSED_WITHIN;
        while !fired.exists() {
            if Instant::now() > end {
                bail!("{worker} has not passed {point} in {} s", PASSED_WITHIN.as_secs());
            }
            sleep(LOOK).await;
        }
        fs::remove_file(&fired)?;
        self.last.insert(worker, Instant::now());
        let dead = unit.reach(|state| state.restarts > before);
        let state = tokio::time::timeout(SERVES_WITHIN, dead)
            .await
            .with_context(|| format!("{worker} was killed at {point} and has not ended"))?;
        if state.phase == Phase::Waiting {
            // The supervisor takes it for a process that crashes in a loop, and would wait longer each time.
            unit.restart();
        }
        self.stack.ready(worker, SERVES_WITHIN).await?;
        *self.kills.entry((point.word(), worker)).or_default() += 1;
        Ok(())
    }
}

/// A tenth is invalid, a hundredth is sent twice.
fn reading(n: u64) -> (Sent, Parcel, u32) {
    let (class, body) = if n % 10 == 3 {
        (Class::Bad, format!(r#"{{"number":{n},"temperature":"#))
    } else {
        (Class::Good, format!(r#"{{"number":{n}}}"#))
    };
    let (sent, parcel) = load::parcel(&format!("point-{}", n % THINGS), &format!("k{n}"), class, body);
    (sent, parcel, if n % 100 == 7 { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_is_had_as_often_as_asked_and_no_worker_is_killed_twice_in_a_row_at_it() {
        let plan = plan(&Options {
            rounds: 6,
            ..Options::default()
        });
        for point in Point::ALL {
            assert_eq!(plan.iter().filter(|(at, _)| *at == point).count(), 6, "{point}");
        }
        let ackers = plan.iter().filter(|(at, _)| *at == Point::BeforeAck);
        let ackers: Vec<_> = ackers.map(|(_, worker)| *worker).collect();
        assert_eq!(ackers[..3], ROAD);
    }
}
