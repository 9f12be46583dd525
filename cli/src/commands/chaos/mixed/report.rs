//! What was done and what did not hold, for people and for programs.
use super::{Options, faults::Struck, kinds, watch::Latency};
use crate::commands::chaos::Profile;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};
use telltale_checker::{oracle::Violation, schedule::Step};

/// Latencies of one kind of time.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Quantiles {
    pub count: usize,
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub max_ms: u64,
}

impl Quantiles {
    fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        // The smallest value that is not exceeded by that share.
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100);
            all.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self {
            count: all.len(),
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

/// What was done, and what did not hold.
#[derive(Debug, Clone)]
pub struct Report {
    pub profile: Profile,
    pub seed: u64,
    pub rate: u32,
    pub things: u32,
    pub schedule: Vec<Step>,
    /// By the fault's name: steps, and how often it was seen to happen.
    pub faults: BTreeMap<String, (u64, u64)>,
    /// What was sent and answered.
    pub sent: BTreeMap<&'static str, u64>,
    pub rows: usize,
    pub entries: BTreeMap<String, usize>,
    /// Messages that the counting subscriber had more than once on the wire.
    pub again: u64,
    pub quiet: Quantiles,
    pub fault: Quantiles,
    pub after: Quantiles,
    pub took: Duration,
    /// From the end of the last fault until nothing lagged, under load.
    pub back_to_quiet: Duration,
    /// From the end of the load until nothing was left.
    pub drained: Duration,
    /// Most that each process used.
    pub used: BTreeMap<String, u64>,
    pub violations: Vec<Violation>,
    /// Kept where something did not hold.
    pub ledger: Option<PathBuf>,
}

impl Report {
    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// By when a reading was sent and its row was seen: before the first fault, during one, or else.
    pub(super) fn latencies(&mut self, all: &[Latency], struck: &[Struck]) {
        let first = struck.first().map(|one| one.from);
        let during = |one: &Latency| struck.iter().any(|it| one.sent < it.to && one.seen > it.from);
        let [mut quiet, mut fault, mut after] = [const { Vec::new() }; 3];
        for one in all {
            let took = u64::try_from((one.seen - one.sent).as_millis()).unwrap_or(u64::MAX);
            let kind = match first {
                _ if during(one) => &mut fault,
                Some(first) if one.sent > first => &mut after,
                _ => &mut quiet,
            };
            kind.push(took);
        }
        self.quiet = Quantiles::of(quiet);
        self.fault = Quantiles::of(fault);
        self.after = Quantiles::of(after);
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let faults = self.faults.iter().map(|(name, (steps, times))| {
            json!({"fault": name, "numbers": kinds::numbers(name), "steps": steps, "proof": times})
        });
        let violations = self
            .violations
            .iter()
            .map(|one| json!({"oracle": one.oracle, "what": one.what, "count": one.count, "ids": one.ids}));
        json!({
            "profile": self.profile.word(),
            "seed": self.seed,
            "rate": self.rate,
            "things": self.things,
            "holds": self.holds(),
            "took_s": self.took.as_secs_f64(),
            "faults": faults.collect::<Vec<_>>(),
            "sent": self.sent,
            "rows": self.rows,
            "quarantined": self.entries,
            "again_on_the_wire": self.again,
            "latency": {"quiet": self.quiet, "fault": self.fault, "after": self.after},
            "back_to_quiet_s": self.back_to_quiet.as_secs_f64(),
            "drained_s": self.drained.as_secs_f64(),
            "used": self.used,
            "violations": violations.collect::<Vec<_>>(),
            "schedule": self.schedule,
        })
    }
}

/// The counters of a run that has just begun.
pub(super) fn new(options: &Options, schedule: Vec<Step>) -> Report {
    Report {
        profile: options.profile,
        seed: options.seed,
        rate: options.rate,
        things: options.things,
        schedule,
        faults: BTreeMap::new(),
        sent: BTreeMap::new(),
        rows: 0,
        entries: BTreeMap::new(),
        again: 0,
        quiet: Quantiles::default(),
        fault: Quantiles::default(),
        after: Quantiles::default(),
        took: Duration::ZERO,
        back_to_quiet: Duration::ZERO,
        drained: Duration::ZERO,
        used: BTreeMap::new(),
        violations: Vec::new(),
        ledger: None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:<20} {:>6} {:>10}",
            "fault", "numbers", "times", "proof"
        )?;
        for (name, (steps, proof)) in &self.faults {
            let numbers = kinds::numbers(name);
            writeln!(f, "{name:<14} {numbers:<20} {steps:>6} {proof:>10}")?;
        }
        let sent: Vec<String> = self
            .sent
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        writeln!(
            f,
            "\nseed {}, {:.0} s; {}",
            self.seed,
            self.took.as_secs_f64(),
            sent.join(", ")
        )?;
        let entries: usize = self.entries.values().sum();
        let reasons: Vec<String> = self
            .entries
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        writeln!(
            f,
            "{} readings stored, {entries} quarantined ({})",
            self.rows,
            reasons.join(", ")
        )?;
        writeln!(f, "{} messages came again on the wire", self.again)?;
        writeln!(
            f,
            "\n{:<12} {:>8} {:>8} {:>8} {:>8}",
            "to the row", "samples", "p50 ms", "p99 ms", "max ms"
        )?;
        for (name, of) in [
            ("quiet", self.quiet),
            ("under fault", self.fault),
            ("between", self.after),
        ] {
            let Quantiles {
                count,
                p50_ms,
                p99_ms,
                max_ms,
            } = of;
            writeln!(f, "{name:<12} {count:>8} {p50_ms:>8} {p99_ms:>8} {max_ms:>8}")?;
        }
        writeln!(
            f,
            "back to quiet {:.1} s after the last fault; at rest {:.1} s after the load\n",
            self.back_to_quiet.as_secs_f64(),
            self.drained.as_secs_f64()
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATED {violation}")?;
        }
        match &self.ledger {
            None => writeln!(f, "lost 0, doubled 0, quarantined exactly the invalid"),
            Some(path) => writeln!(f, "what was sent: {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let of = Quantiles::of((1..=200).rev().collect());
        assert_eq!((of.count, of.p50_ms, of.p99_ms, of.max_ms), (200, 100, 198, 200));
        assert_eq!(Quantiles::of(vec![7]).p99_ms, 7);
        assert_eq!(Quantiles::of(vec![]).count, 0);
    }
}
