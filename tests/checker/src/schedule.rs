//! Which fault comes when: made from a seed, printed, and read back to have the same again.
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// How long it stays.
    pub lasts_ms: u64,
    /// Which.
    pub fault: String,
    /// Whom it strikes: a process, a link.
    pub target: String,
    /// How much: bytes, milliseconds, a signal; by the fault.
    pub value: u64,
}

/// A kind of fault of which a schedule may have some.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub targets: &'static [&'static str],
    /// How often, beside the others.
    pub weight: u32,
    /// Shortest and longest.
    pub lasts_ms: (u64, u64),
    /// Least and greatest.
    pub values: (u64, u64),
}

/// Faults one after another from `begin_ms` to `end_ms`, with a pause in `gap_ms` between two; none stays after
/// `end_ms`. Each kind comes once, in an order by chance, before chance alone chooses: a run that is long enough has
/// them all.
pub fn plan(seed: u64, begin_ms: u64, end_ms: u64, gap_ms: (u64, u64), kinds: &[Kind]) -> Vec<Step> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let mut first: Vec<&Kind> = kinds.iter().collect();
    let total: u32 = kinds.iter().map(|kind| kind.weight).sum();
    let mut at = begin_ms;
    if total == 0 {
        return steps;
    }
    loop {
        let kind = if first.is_empty() {
            weighted(kinds, chance.random_range(0..total))
        } else {
            first.swap_remove(chance.random_range(0..first.len()))
        };
        let lasts = chance.random_range(kind.lasts_ms.0..=kind.lasts_ms.1);
        let value = chance.random_range(kind.values.0..=kind.values.1);
        let target = match kind.targets.len() {
            0 => "",
            count => kind.targets[chance.random_range(0..count)],
        };
        let gap = chance.random_range(gap_ms.0..=gap_ms.1);
        if at + lasts > end_ms {
            return steps;
        }
        steps.push(Step {
            at_ms: at,
            lasts_ms: lasts,
            fault: kind.name.to_owned(),
            target: target.to_owned(),
            value,
        });
        at += (lasts + gap).max(1);
    }
}

fn weighted(kinds: &[Kind], mut at: u32) -> &Kind {
    for kind in kinds {
        if at < kind.weight {
            return kind;
        }
        at -= kind.weight;
    }
    kinds.last().expect("there is a kind where weights add up")
}

/// Writes a schedule, one JSON document a line.
pub fn write(steps: &[Step], mut to: impl Write) -> io::Result<()> {
    for step in steps {
        serde_json::to_writer(&mut to, step)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a schedule back.
pub fn read(from: impl BufRead) -> io::Result<Vec<Step>> {
    from.lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 3] = [
        kind("kill", &["store", "nats"], 8),
        kind("stop", &["validate"], 1),
        kind("burst", &[], 1),
    ];

    const fn kind(name: &'static str, targets: &'static [&'static str], weight: u32) -> Kind {
        Kind {
            name,
            targets,
            weight,
            lasts_ms: (0, 500),
            values: (1, 9),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let of = |seed| plan(seed, 1_000, 60_000, (100, 900), &KINDS);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_schedule_is_read_back_as_it_was_written() {
        let steps = plan(1, 0, 10_000, (0, 100), &KINDS);
        let mut text = Vec::new();
        write(&steps, &mut text).unwrap();
        assert_eq!(read(text.as_slice()).unwrap(), steps);
    }

    #[test]
    fn every_kind_comes_and_none_stays_after_the_end() {
        for seed in 0..50 {
            let steps = plan(seed, 2_000, 12_000, (100, 200), &KINDS);
            for kind in KINDS {
                assert!(
                    steps.iter().any(|step| step.fault == kind.name),
                    "seed {seed}: no {}",
                    kind.name
                );
            }
            assert!(
                steps
                    .iter()
                    .all(|step| step.at_ms >= 2_000 && step.at_ms + step.lasts_ms <= 12_000),
                "seed {seed}"
            );
        }
    }
}
