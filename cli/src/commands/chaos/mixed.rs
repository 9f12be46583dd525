//! Faults of all kinds by a schedule, under load; afterwards what was accepted is compared with what became of it.
mod args;
mod faults;
mod kinds;
mod links;
mod load;
mod observe;
mod reading;
mod report;
mod subscriber;
mod watch;

pub use args::Args;
pub use report::{Quantiles, Report};

use super::{Profile, rest};
use crate::{
    context::Context,
    find::Say,
    stack::{Stack, StackOptions, scratch},
};
use anyhow::Context as _;
use faults::{Breaker, Struck};
use reading::Shares;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use telltale_checker::{
    ledger,
    oracle::{self, Violation},
    schedule::{self, Kind, Step},
};
use telltale_nats::async_nats::Client;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

/// How long the broker waits for an acknowledgement: shorter than a process is frozen.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// After the last fault nothing lags in this time.
const QUIET_WITHIN: Duration = Duration::from_secs(150);
/// Pauses between faults.
const GAP_MS: (u64, u64) = (1_000, 4_000);
/// After so long with faults there is a time without, a quarter of it.
const SPELL_MS: u64 = 60_000;
/// How often it is looked how much lags.
const LOOK: Duration = Duration::from_millis(250);
/// Open files that we and our processes may want: a thousand devices at once.
const FILES: u64 = 8_192;
/// Of a process.
const MIB_MAX: u64 = 2_048;
const FILES_MAX: u64 = 4_096;

/// What is done.
#[derive(Debug, Clone)]
pub struct Options {
    pub profile: Profile,
    /// How long there is load.
    pub lasts: Duration,
    pub seed: u64,
    /// Names, families and numbers of faults; none: all of the profile.
    pub faults: Vec<String>,
    pub things: u32,
    /// Readings offered in a second.
    pub rate: u32,
    /// How many of a thousand are invalid.
    pub invalid: u32,
    /// How many of a thousand are sent twice.
    pub duplicates: u32,
    /// Instead of the one that the seed gives.
    pub schedule: Option<Vec<Step>>,
    /// What the stack consists of beside this.
    pub stack: StackOptions,
    /// Where progress is said.
    pub say: Say,
}

impl Options {
    /// What a profile is when nothing else is said.
    pub fn of(profile: Profile) -> Self {
        let (seconds, rate, things) = match profile {
            Profile::Smoke => (36, 200, 50),
            Profile::Outage => (1_200, 1_000, 1_000),
            Profile::Long => (3_600, 1_000, 1_000),
            _ => (480, 2_000, 1_000),
        };
        Self {
            profile,
            lasts: Duration::from_secs(seconds),
            seed: 1,
            faults: Vec::new(),
            things,
            rate,
            invalid: 100,
            duplicates: 10,
            schedule: None,
            stack: StackOptions::default(),
            say: Say::nothing(),
        }
    }
}

/// When there are faults, and which. The same options give the same.
pub fn plan(options: &Options) -> Result<Vec<Step>, String> {
    let smoke = options.profile == Profile::Smoke;
    let scale = match options.profile {
        Profile::Smoke => 50,
        Profile::Outage => 500,
        _ => 100,
    };
    let kinds: Vec<Kind> = kinds::chosen(&options.faults, smoke)?
        .into_iter()
        .map(|fault| fault.lasting(scale).kind)
        .collect();
    if let Some(steps) = &options.schedule {
        return Ok(steps.clone());
    }
    let total = u64::try_from(options.lasts.as_millis()).unwrap_or(u64::MAX);
    let quiet = total / 8;
    let spells = (total - 2 * quiet) / (SPELL_MS + SPELL_MS / 4);
    let end = total - quiet - spells * SPELL_MS / 4;
    let mut steps = schedule::plan(options.seed, quiet, end, GAP_MS, &kinds);
    for step in &mut steps {
        step.at_ms += (step.at_ms - quiet) / SPELL_MS * (SPELL_MS / 4);
    }
    Ok(steps)
}

/// Runs it all on a stack of its own.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let steps = plan(&options).map_err(anyhow::Error::msg)?;
    let folder = scratch("chaos").context("make a folder for the ledger")?;
    let ledger = folder.join("sent.ndjson");
    let mut report = report::new(&options, steps);
    drive(&options, &ledger, &mut report).await?;
    if report.holds() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    } else {
        report.ledger = Some(ledger);
    }
    Ok(report)
}

async fn drive(options: &Options, ledger: &Path, report: &mut Report) -> anyhow::Result<()> {
    want_files();
    let mut wanted = options.stack.clone();
    wanted.ack_wait = Some(ACK_WAIT);
    let wires = links::Wires::lay(&mut wanted).await?;
    let stack = Arc::new(Stack::start(wanted).await?);
    let context = stack.context()?;
    let nats = context.nats().await?;
    let subscriber = subscriber::Subscriber::begin(&nats).await?;
    let (give, samples) = mpsc::unbounded_channel();
    let watch = watch::Watch::begin(Arc::clone(&stack), context.clone(), samples);
    let amount = load::Amount {
        rate: options.rate,
        things: options.things.into(),
        shares: Shares {
            invalid: options.invalid.into(),
            duplicates: options.duplicates.into(),
        },
    };
    let devices = Arc::new(load::Devices::new(ledger, amount, give)?);
    let load = load::Load::begin(&context, &devices, options.rate)?;
    let begun = Instant::now();
    let breaker = Breaker {
        stack: &stack,
        context: &context,
        nats: &nats,
        wires: &wires,
        devices: &devices,
        rate: options.rate,
    };
    let struck = strike_all(&breaker, options, begun, &report.schedule).await;
    wires.heal();
    report.back_to_quiet = until_quiet(&context, &nats, options.rate).await;
    sleep_until(begun + options.lasts).await;
    load.end().await?;
    report.took = begun.elapsed();
    let over = Instant::now();
    let rested = rest(&context, &nats).await;
    report.drained = over.elapsed();
    let seen = subscriber.end().await?;
    let found = watch.end().await?;
    report.again = seen.again;
    let sent = ledger::load(ledger).context("read the ledger")?;
    let (observed, entries) = super::observe::observe(&context, &nats, &sent, seen.effects).await?;
    stack.shutdown().await;
    report.latencies(&found.latencies, &struck);
    report.rows = observed.rows.len();
    report.entries = entries;
    report.used = found.used;
    report.sent = counted(&devices.counts);
    report.violations = oracle::judge(&sent, &observed);
    report.violations.extend(observe::untold(&observed));
    if let Err(error) = rested {
        report.violations.push(violation("I6", format!("{error:#}")));
    }
    judge_run(&struck, report);
    Ok(())
}

async fn strike_all(breaker: &Breaker<'_>, options: &Options, begun: Instant, steps: &[Step]) -> Vec<Struck> {
    let mut struck = Vec::with_capacity(steps.len());
    for step in steps {
        sleep_until(begun + Duration::from_millis(step.at_ms)).await;
        let one = breaker.strike(step).await;
        let wrong = one
            .wrong
            .as_deref()
            .map_or_else(String::new, |wrong| format!(": {wrong}"));
        options.say.line(&format!(
            "{:>6.1} s  {} {} for {:.1} s: seen {}{wrong}",
            (one.from - begun).as_secs_f64(),
            step.fault,
            step.target,
            (one.to - one.from).as_secs_f64(),
            one.proof,
        ));
        struck.push(one);
    }
    struck
}

/// From now until less lags than is offered in a second; or for as long as that may take.
async fn until_quiet(context: &Context, nats: &Client, rate: u32) -> Duration {
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < 3 && begun.elapsed() <= QUIET_WITHIN {
        let lag = observe::lag(context, nats).await;
        quiet = if lag.is_some_and(|lag| lag <= rate.into()) {
            quiet + 1
        } else {
            0
        };
        sleep(LOOK).await;
    }
    begun.elapsed()
}

/// What is judged of the run itself: I6, I7, I10.
fn judge_run(struck: &[Struck], report: &mut Report) {
    let mut counts = BTreeMap::new();
    for one in struck {
        let Step {
            fault, target, at_ms, ..
        } = &one.step;
        counts.insert(format!("{fault} {target} at {at_ms} ms"), one.proof);
        let (times, proof) = report.faults.entry(fault.clone()).or_default();
        *times += 1;
        *proof += one.proof;
        if let Some(wrong) = &one.wrong {
            report
                .violations
                .push(violation("I6", format!("{fault}: {wrong}")));
        }
    }
    if report.faults.contains_key("clocks") {
        let refused = report
            .entries
            .iter()
            .filter(|(from, _)| from.starts_with("store/"));
        let refused = refused.map(|(_, count)| *count as u64).sum();
        counts.insert("rows that the database refused".to_owned(), refused);
    }
    report.violations.extend(oracle::occurred(&counts));
    report
        .violations
        .extend(oracle::recovered(report.back_to_quiet, QUIET_WITHIN));
    let limits = report.used.keys().map(|what| {
        let most = if what.ends_with("MiB") { MIB_MAX } else { FILES_MAX };
        (what.clone(), most)
    });
    let limits: BTreeMap<String, u64> = limits.collect();
    report.violations.extend(oracle::bounded(&report.used, &limits));
}

fn violation(oracle: &'static str, what: String) -> Violation {
    Violation {
        oracle,
        what,
        count: 1,
        ids: Vec::new(),
    }
}

fn counted(counts: &load::Counts) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("offered", counts.offered.load(Relaxed)),
        ("accepted", counts.accepted.load(Relaxed)),
        ("refused", counts.refused.load(Relaxed)),
        ("unanswered", counts.unknown.load(Relaxed)),
        ("resent", counts.resent.load(Relaxed)),
        ("sent twice", counts.twice.load(Relaxed)),
        ("invalid", counts.invalid.load(Relaxed)),
    ])
}

/// Lets us and what we start have as many open files as we want, where the system does.
fn want_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(FILES, |most| most.min(FILES));
    if now.current.is_some_and(|current| current < wanted) {
        let wanted = Rlimit {
            current: Some(wanted),
            maximum: now.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, wanted) {
            tracing::warn!(%error, "no more open files than before");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_each_profile_has_all_of_its_faults() {
        for profile in [Profile::Smoke, Profile::Chaos, Profile::Outage, Profile::Long] {
            for seed in 1..20 {
                let options = Options {
                    seed,
                    ..Options::of(profile)
                };
                let steps = plan(&options).unwrap();
                assert_eq!(plan(&options).unwrap(), steps);
                let other = Options {
                    seed: seed + 100,
                    ..options.clone()
                };
                assert_ne!(plan(&other).unwrap(), steps);
                let faults = kinds::chosen(&[], profile == Profile::Smoke).unwrap();
                let has = |name| steps.iter().any(|step| step.fault == name);
                let missing: Vec<_> = faults.iter().filter(|fault| !has(fault.kind.name)).collect();
                assert!(missing.is_empty(), "{profile:?} {seed}: {missing:?}");
                let end = steps.iter().map(|step| step.at_ms + step.lasts_ms).max();
                assert!(end.unwrap() <= u64::try_from(options.lasts.as_millis()).unwrap());
            }
        }
    }
}
