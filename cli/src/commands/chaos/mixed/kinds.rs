//! Which faults there are, and which of them a profile has.
use super::links::LINKS;
use telltale_checker::schedule::Kind;

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// What `--faults` may call it beside its name.
    family: &'static str,
    /// Its numbers in the list of faults.
    pub(super) numbers: &'static str,
    /// Short enough for a minute in all.
    smoke: bool,
}

const WORKERS: &[&str] = &["validate", "annotate", "store"];
const PROCESSES: &[&str] = &["bridge", "validate", "annotate", "store"];
const NATS: &[&str] = &["nats"];
const POSTGRES: &[&str] = &["postgres"];
const WIRES: &[&str] = &[LINKS[0].0, LINKS[1].0, LINKS[2].0, LINKS[3].0, LINKS[4].0];
const NOBODY: &[&str] = &[];

const fn fault(
    name: &'static str,
    (family, numbers): (&'static str, &'static str),
    targets: &'static [&'static str],
    weight: u32,
    lasts_ms: (u64, u64),
    values: (u64, u64),
) -> Fault {
    Fault {
        kind: Kind {
            name,
            targets,
            weight,
            lasts_ms,
            values,
        },
        family,
        numbers,
        smoke: false,
    }
}

const fn in_smoke(mut fault: Fault) -> Fault {
    fault.smoke = true;
    fault
}

/// All of them, with what they are for eight minutes. A fault that freezes lasts longer than the broker waits for an
/// acknowledgement ([`super::ACK_WAIT`]).
const FAULTS: [Fault; 20] = [
    in_smoke(fault(
        "kill",
        ("process", "F1 F2 F3 F6 F11 F14"),
        PROCESSES,
        12,
        (0, 0),
        (0, 0),
    )),
    in_smoke(fault("term", ("process", "F8"), PROCESSES, 3, (0, 0), (0, 0))),
    fault("freeze", ("process", "F7"), WORKERS, 2, (6_000, 9_000), (0, 0)),
    in_smoke(fault("kill-nats", ("broker", "F15 F4"), NATS, 3, (0, 0), (0, 0))),
    fault("freeze-nats", ("broker", "F16"), NATS, 1, (6_000, 10_000), (0, 0)),
    fault(
        "fill-raw",
        ("broker", "F19"),
        &["validate"],
        1,
        (4_000, 7_000),
        (0, 0),
    ),
    fault("kill-postgres", ("database", "F33"), POSTGRES, 2, (0, 0), (0, 1)),
    in_smoke(fault(
        "terminate",
        ("database", "F38"),
        POSTGRES,
        1,
        (3_000, 6_000),
        (0, 0),
    )),
    fault("latency", ("network", "F42"), WIRES, 1, (4_000, 7_000), (20, 500)),
    fault(
        "slow",
        ("network", "F42"),
        WIRES,
        1,
        (3_000, 5_000),
        (1_000, 100_000),
    ),
    fault(
        "blackhole",
        ("network", "F42 F39"),
        WIRES,
        3,
        (4_000, 9_000),
        (0, 2),
    ),
    in_smoke(fault("cut", ("network", "F42"), WIRES, 2, (2_000, 5_000), (0, 0))),
    fault("slice", ("network", "F42"), WIRES, 1, (3_000, 5_000), (1, 3)),
    in_smoke(fault("reset", ("network", "F42"), WIRES, 2, (0, 0), (0, 0))),
    fault(
        "close-after",
        ("network", "F43"),
        WIRES,
        2,
        (3_000, 6_000),
        (1, 4_000),
    ),
    in_smoke(fault(
        "clocks",
        ("time", "F49 F37"),
        NOBODY,
        1,
        (3_000, 5_000),
        (0, 0),
    )),
    fault("burst", ("load", "F51"), NOBODY, 1, (3_000, 5_000), (10, 10)),
    fault("large", ("load", "F51"), NOBODY, 1, (3_000, 5_000), (0, 0)),
    fault("storm", ("load", "F52"), &["bridge"], 1, (0, 0), (1_000, 1_000)),
    fault(
        "flood",
        ("load", "F53"),
        NOBODY,
        1,
        (3_000, 6_000),
        (2_000, 2_000),
    ),
];

/// Kinds for `--faults`: names, families and numbers; none are all. `Err` is a word that is none.
pub(super) fn chosen(words: &[String], smoke: bool) -> Result<Vec<Fault>, String> {
    let is = |fault: &Fault, word: &str| {
        let word = word.to_ascii_lowercase();
        let mut numbers = fault.numbers.split_whitespace();
        fault.kind.name == word
            || fault.family == word
            || numbers.any(|number| number.eq_ignore_ascii_case(&word))
    };
    if let Some(word) = words
        .iter()
        .find(|word| !FAULTS.iter().any(|fault| is(fault, word)))
    {
        return Err(format!(
            "no fault is called `{word}`; there are process, broker, database, network, time, load, {}",
            FAULTS.map(|fault| fault.kind.name).join(", ")
        ));
    }
    let wanted = |fault: &&Fault| {
        if words.is_empty() {
            fault.smoke || !smoke
        } else {
            words.iter().any(|word| is(fault, word))
        }
    };
    Ok(FAULTS.iter().filter(wanted).copied().collect())
}

/// Which faults a name of one has had: its numbers.
pub(super) fn numbers(name: &str) -> &'static str {
    let known = FAULTS.iter().find(|fault| fault.kind.name == name);
    known.map_or("", |fault| fault.numbers)
}

impl Fault {
    /// The same, so many percent as long; what happens in an instant stays so.
    #[must_use]
    pub(super) fn lasting(mut self, percent: u64) -> Self {
        let scale = |ms: u64| ms * percent / 100;
        self.kind.lasts_ms = (scale(self.kind.lasts_ms.0), scale(self.kind.lasts_ms.1));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str], smoke: bool) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let chosen = chosen(&words, smoke).unwrap();
        chosen.iter().map(|fault| fault.kind.name).collect()
    }

    #[test]
    fn faults_are_chosen_by_name_family_and_number() {
        assert_eq!(names(&["f39", "kill"], false), ["kill", "blackhole"]);
        assert_eq!(names(&["database"], true), ["kill-postgres", "terminate"]);
        assert_eq!(names(&[], false).len(), FAULTS.len());
        assert!(names(&[], true).len() < FAULTS.len());
        assert!(chosen(&["F99".to_owned()], false).unwrap_err().contains("F99"));
    }
}
