//! Messages that always fail, among good ones: the others must not feel it, and each must end with all its attempts.
use super::{
    Class, Violation,
    load::{self, Load},
    observe::observe,
    rest,
};
use crate::{
    commands::courier::Parcel,
    context::Context,
    find::Say,
    stack::{Stack, StackOptions, scratch},
};
use anyhow::{Context as _, bail};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::Path,
    time::Duration,
};
use telltale_checker::{ledger::Sent, oracle::judge};
use tokio::time::Instant;

/// Things that behave.
const THINGS: u64 = 500;
const CONNECTIONS: u32 = 24;
/// Before anything is measured.
const WARM_UP: u64 = 500;
/// A handler that hangs is waited for so long.
const HANDLE_TIMEOUT: &str = "2s";
/// What the workers' own defaults say.
const ATTEMPTS: i32 = 5;

/// How much of what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Good readings, once without and once with the others.
    pub good: u64,
    /// Whose handler it is. `validate` reads single messages, `annotate` packs.
    pub stage: &'static str,
    /// Readings for which it fails, panics, and hangs, each time.
    pub fails: u64,
    pub panics: u64,
    pub hangs: u64,
    /// Good readings offered in a second.
    pub rate: u32,
    /// All that is poison comes first and at once, instead of evenly among the good.
    pub burst: bool,
    /// The pause before the second attempt, instead of what workers are told by default.
    pub retry_first: Option<Duration>,
    pub stack: StackOptions,
    pub say: Say,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            good: 50_000,
            stage: "validate",
            fails: 2_000,
            panics: 0,
            hangs: 0,
            rate: 500,
            burst: false,
            retry_first: None,
            stack: StackOptions::default(),
            say: Say::nothing(),
        }
    }
}

/// From the bridge's receipt to the last statement before the row's commit, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of the good ones alone, and beside the others.
    pub without: Latency,
    pub with: Latency,
    /// Good readings stored in the second part.
    pub stored: i64,
    /// Quarantine entries by reason and attempts.
    pub quarantined: BTreeMap<(String, i32), i64>,
    pub took: Duration,
    pub violations: Vec<Violation>,
}

impl Report {
    /// How much slower the good ones were beside the others.
    pub fn ratio(&self) -> f64 {
        self.with.p99 / self.without.p99
    }

    /// Whether everything but the latency held.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, latency) in [("alone", self.without), ("with poison", self.with)] {
            writeln!(
                f,
                "good readings {name:<12} p50 {:>8.1} ms   p99 {:>8.1} ms",
                latency.p50, latency.p99
            )?;
        }
        writeln!(
            f,
            "p99 with / alone {:.2}; {} good stored; {:.0} s",
            self.ratio(),
            self.stored,
            self.took.as_secs_f64()
        )?;
        for ((reason, attempts), count) in &self.quarantined {
            writeln!(f, "quarantined as `{reason}` after {attempts} attempts: {count}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATED {violation}")?;
        }
        Ok(())
    }
}

/// Runs both parts on a stack of its own.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    if !cfg!(debug_assertions) {
        bail!(
            "handlers fail on demand in debug builds alone; run it as `cargo telltale chaos` in a checkout"
        );
    }
    let faults = scratch("faults").context("make a folder for faults")?;
    let done = drive(&options, &faults).await;
    fs::remove_dir_all(&faults).with_context(|| format!("remove {}", faults.display()))?;
    done
}

async fn drive(options: &Options, faults: &Path) -> anyhow::Result<Report> {
    fs::write(faults.join(format!("{}.handler", options.stage)), "")?;
    let mut wanted = options.stack.clone();
    let folder = faults.to_string_lossy().into_owned();
    wanted.env.extend([
        ("TELLTALE_FAULT_DIR".to_owned(), folder),
        ("TELLTALE_HANDLE_TIMEOUT".to_owned(), HANDLE_TIMEOUT.to_owned()),
    ]);
    if let Some(pause) = options.retry_first {
        let pause = format!("{}ms", pause.as_millis());
        wanted.env.push(("TELLTALE_RETRY_FIRST".to_owned(), pause));
    }
    let stack = Stack::start(wanted).await?;
    let context = stack.context()?;
    let nats = context.nats().await?;
    let begun = Instant::now();
    let mut sent = Vec::new();
    for (part, count) in [("warm", WARM_UP), ("alone", options.good)] {
        options.say.line(&format!("{count} good readings"));
        let good = move |n| (n < count).then(|| good(part, n));
        sent.extend(
            Load::begin(&context, options.rate, CONNECTIONS, good)?
                .all()
                .await?,
        );
        rest(&context, &nats).await?;
    }
    options.say.line("the same with poison");
    let plan = Plan::of(options);
    let mixed = move |n| plan.reading(n);
    // The good ones keep their rate.
    let rate = u64::from(options.rate) * plan.total() / options.good.max(1);
    if options.burst {
        let poison = plan.poison();
        let first = move |n| (n < poison).then(|| plan.bad(n));
        sent.extend(Load::begin(&context, u32::MAX, CONNECTIONS, first)?.all().await?);
        let good = options.good;
        let then = move |n| (n < good).then(|| self::good("with", n));
        sent.extend(
            Load::begin(&context, options.rate, CONNECTIONS, then)?
                .all()
                .await?,
        );
    } else {
        let load = Load::begin(&context, u32::try_from(rate)?, CONNECTIONS, mixed)?;
        sent.extend(load.all().await?);
    }
    rest(&context, &nats).await?;
    let took = begun.elapsed();
    let (observed, _) = observe(&context, &nats, &sent, HashMap::new()).await?;
    let mut violations = judge(&sent, &observed);
    let report = report(&context, took).await?;
    violations.extend(wrong_attempts(options, &report));
    stack.shutdown().await;
    Ok(Report { violations, ..report })
}

fn good(part: &str, n: u64) -> (Sent, Parcel, u32) {
    let thing = format!("{part}-{}", n % THINGS);
    let (sent, parcel) = load::parcel(
        &thing,
        &format!("k{n}"),
        Class::Good,
        format!(r#"{{"number":{n}}}"#),
    );
    (sent, parcel, 1)
}

/// What is sent when good and bad are mixed evenly.
#[derive(Debug, Clone, Copy)]
struct Plan {
    good: u64,
    fails: u64,
    panics: u64,
    hangs: u64,
}

impl Plan {
    fn of(options: &Options) -> Self {
        Self {
            good: options.good,
            fails: options.fails,
            panics: options.panics,
            hangs: options.hangs,
        }
    }

    fn poison(self) -> u64 {
        self.fails + self.panics + self.hangs
    }

    fn total(self) -> u64 {
        self.good + self.poison()
    }

    /// The n-th that is poison.
    fn bad(self, n: u64) -> (Sent, Parcel, u32) {
        let kind = match n {
            n if n < self.hangs => "hangs",
            n if n < self.hangs + self.panics => "panics",
            _ => "fails",
        };
        let body = format!(r#"{{"number":{n}}}"#);
        let (sent, parcel) = load::parcel(
            &format!("{kind}-{}", n % THINGS),
            &format!("p{n}"),
            Class::Bad,
            body,
        );
        (sent, parcel, 1)
    }

    fn reading(self, n: u64) -> Option<(Sent, Parcel, u32)> {
        let (poison, total) = (self.poison(), self.total());
        if n >= total {
            return None;
        }
        let (before, until) = (n * poison / total, (n + 1) * poison / total);
        Some(if until > before {
            self.bad(before)
        } else {
            good("with", n - before)
        })
    }
}

async fn report(context: &Context, took: Duration) -> anyhow::Result<Report> {
    // The time of the last hop stands beside the row alone, where only its owner reads.
    let sql = context.sql_admin().await?;
    let latency = async |part: &str| {
        let row = sql
            .query_one(
                "select percentile_cont(array[0.5, 0.99]) within group (order by \
                 (regexp_replace(hops, '^.*;', '')::bigint - extract(epoch from received) * 1e6)::float8 / 1e3), \
                 count(*) from store.readings where hops is not null and thing like $1 || '-%'",
                &[&part],
            )
            .await?;
        let found: Option<Vec<f64>> = row.get(0);
        let [p50, p99] = found.unwrap_or_default()[..] else {
            bail!("no reading of `{part}` was stored");
        };
        anyhow::Ok((Latency { p50, p99 }, row.get::<_, i64>(1)))
    };
    let (without, _) = latency("alone").await?;
    let (with, stored) = latency("with").await?;
    let rows = sql
        .query(
            "select reason, attempts, count(*) from store.quarantine group by 1, 2",
            &[],
        )
        .await?;
    Ok(Report {
        without,
        with,
        stored,
        quarantined: rows
            .iter()
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect(),
        took,
        violations: Vec::new(),
    })
}

fn wrong_attempts(options: &Options, report: &Report) -> Option<Violation> {
    let wanted = [
        ("attempts", options.fails),
        ("panic", options.panics),
        ("timeout", options.hangs),
    ];
    let wanted: BTreeMap<(String, i32), i64> = wanted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| ((reason.to_owned(), ATTEMPTS), count.cast_signed()))
        .collect();
    (report.quarantined != wanted).then(|| Violation {
        oracle: "I8",
        what: "reasons or attempts are other than".to_owned(),
        count: report.quarantined.len(),
        ids: wanted
            .iter()
            .map(|((reason, attempts), count)| format!("{count} `{reason}` after {attempts}"))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_spread_evenly_and_all_of_it_is_sent() {
        let plan = Plan {
            good: 50,
            fails: 8,
            panics: 1,
            hangs: 1,
        };
        let all: Vec<_> = (0..).map_while(|n| plan.reading(n)).collect();
        let bad: Vec<_> = all.iter().map(|(sent, _, _)| sent.class == Class::Bad).collect();
        assert_eq!((all.len(), bad.iter().filter(|is| **is).count()), (60, 10));
        assert!(bad.chunks(6).all(|six| six.iter().filter(|is| **is).count() == 1));
        let ids: std::collections::HashSet<_> = all.iter().map(|(sent, _, _)| &sent.id).collect();
        assert_eq!(ids.len(), 60, "each is another reading");
    }
}
