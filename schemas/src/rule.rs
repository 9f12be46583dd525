//! A rule: what `process` computes from readings. An entry of the bucket `rules`.
use crate::{duration, kinds::Fault, refusal::push_segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The bucket's name.
pub const BUCKET: &str = "rules";
/// Longest CEL text, in bytes.
pub const CEL_MAX: usize = 4_096;
/// Events that only stages raise.
const RESERVED: [&str; 4] = ["quarantine_overflow", "access_refused", "audit", "quality"];

/// A rule, as people write it. Exactly one of `when`, `window`, `on_change`, `anomaly` and `virtual` is there; go by
/// what [`crate::check::rule`] accepts, and by no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique at its site: `[a-z0-9_-]`, 1 to 64 characters.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The things that it hears, by globs over their names; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<String>,
    /// Which records take part.
    #[serde(default, rename = "use", skip_serializing_if = "Use::is_good")]
    pub take: Use,
    /// CEL: whether it applies to a reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How long `when` must have been true.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// CEL: when the alarm is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// How bad it is; makes it an alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// CEL: the alarm's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What follows, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Action>,
    /// Aggregates over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What changed, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
    /// How unlikely a value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<Anomaly>,
    /// A sensor that is computed from others.
    #[serde(default, rename = "virtual", skip_serializing_if = "Option::is_none")]
    pub computed: Option<Virtual>,
}

/// Which records take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Those that did not fail (q 4) and are not missing (q 9).
    #[default]
    Good,
    /// Every one.
    All,
}

impl Use {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
    const fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }

    /// Whether a record of that quality takes part.
    pub const fn takes(self, flag: Option<crate::Flag>) -> bool {
        matches!(self, Self::All) || !matches!(flag, Some(crate::Flag::Fail | crate::Flag::Missing))
    }
}

/// How bad an alarm is (the words of ITU-T X.733, and `info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Before it is a fault.
    Warning,
    /// A fault that hinders nothing.
    Minor,
    /// A fault.
    Major,
    /// At once.
    Critical,
}

impl Severity {
    /// The word in documents and events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// What follows from a reading. Each text in `detail` and `input` is CEL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Action {
    /// An event of the reading's thing.
    Event {
        /// Its name.
        event: String,
        /// The particulars.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        detail: Map<String, Value>,
    },
    /// A command.
    Command {
        /// The property or action.
        command: String,
        /// To whom; to the reading's thing if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thing: Option<String>,
        /// What it is to be set to, or called with.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        input: Value,
        /// How long after the reading was stored it may be carried out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<String>,
        /// How long after the reading was stored it may be delivered; at once if absent. Shorter than `expires`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<String>,
        /// 0 to 9, larger first among the commands that wait for the thing; 5 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<u8>,
    },
    /// A computed record of the reading's thing.
    Derive {
        /// The record's name.
        derive: String,
        /// CEL.
        value: String,
        /// The record's unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
}

/// Aggregates of one property over windows of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The record.
    pub of: String,
    /// How long each window is.
    pub every: String,
    /// How long after the one before each begins; `every` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide: Option<String>,
    /// What is computed.
    pub functions: Vec<Function>,
}

/// What can be computed over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// The mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many.
    Count,
    /// All together.
    Sum,
    /// The standard deviation of these values (of a population).
    Stddev,
    /// The earliest.
    First,
    /// The latest.
    Last,
}

impl Function {
    /// The word in documents and in the names of records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Stddev => "stddev",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// What changed, and no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnChange {
    /// The record.
    pub of: String,
    /// A change of at most so much is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadband: Option<f64>,
    /// After so long the value is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<String>,
}

/// A windowed Gaussian detector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    /// The record.
    pub of: String,
    /// Values in the window.
    pub window: usize,
    /// Values after which mean and deviation are computed again.
    pub step: usize,
}

/// A sensor that is computed from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Virtual {
    /// Whose record it is.
    pub thing: String,
    /// The record's name.
    pub name: String,
    /// The record's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// By the name in `value`: `<thing>/<record>`.
    pub inputs: BTreeMap<String, String>,
    /// An older input counts as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// CEL, or a function that is built in.
    pub value: String,
}

impl Rule {
    /// Whether it raises an alarm and clears it, rather than acts on every reading.
    pub const fn is_alarm(&self) -> bool {
        self.hold.is_some() || self.clear.is_some() || self.severity.is_some() || self.key.is_some()
    }

    /// Whether it hears that thing.
    pub fn hears(&self, thing: &str) -> bool {
        self.things.is_empty() || self.things.iter().any(|glob| matches(glob, thing))
    }
}

/// Whether a name is what a glob says: `*` for any characters, `?` for one.
pub fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how much of the name it has eaten so far.
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(from) => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((place, eaten)) = star else {
                    return false;
                };
                star = Some((place, eaten + 1));
                at = place + 1;
                from = eaten + 1;
            }
        }
    }
    glob.iter().skip(at).all(|c| *c == '*')
}

/// What a schema cannot say: bytes of a text, names that are ours, durations that last.
pub(crate) fn check_meaning(rule: &Value, faults: &mut Vec<Fault>) {
    for word in ["when", "clear", "key"] {
        let text = rule.get(word).and_then(Value::as_str).unwrap_or_default();
        if text.len() > CEL_MAX {
            let message = format!("{} bytes of CEL are more than {CEL_MAX}", text.len());
            faults.push(Fault::at(format!("/{word}"), message));
        }
    }
    for pointer in [
        "/for",
        "/window/every",
        "/window/slide",
        "/on_change/at_most",
        "/virtual/max_age",
    ] {
        lasts(rule, pointer, faults);
    }
    let actions = rule.get("then").and_then(Value::as_array);
    for (n, action) in actions.into_iter().flatten().enumerate() {
        for member in ["expires", "start"] {
            lasts(rule, &format!("/then/{n}/{member}"), faults);
        }
        begins_before_its_end(action, n, faults);
        let event = action.get("event").and_then(Value::as_str);
        if let Some(event) = event.filter(|event| RESERVED.contains(event)) {
            let mut pointer = format!("/then/{n}");
            push_segment(&mut pointer, "event");
            faults.push(Fault::at(
                pointer,
                format!("only a stage raises `{event}`; name it otherwise"),
            ));
        }
    }
}

fn lasts(rule: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    let Some(text) = rule.pointer(pointer).and_then(Value::as_str) else {
        return;
    };
    if duration::parse(text).is_none_or(|duration| duration.is_zero()) {
        faults.push(Fault::at(pointer, format!("`{text}` is no duration that lasts")));
    }
}

/// A command that could only begin when it is over would never be carried out.
fn begins_before_its_end(action: &Value, n: usize, faults: &mut Vec<Fault>) {
    let text = |member| action.get(member).and_then(Value::as_str);
    let (Some(start), Some(expires)) = (text("start"), text("expires")) else {
        return;
    };
    if duration::parse(start) >= duration::parse(expires) {
        let message = format!("`{start}` is not before it expires, after `{expires}`");
        faults.push(Fault::at(format!("/then/{n}/start"), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_a_name_with_stars_and_question_marks() {
        for (glob, name) in [
            ("road-*", "road-7"),
            ("*", ""),
            ("*-7", "road-7-7"),
            ("r?ad", "road"),
            ("a*b*c", "a1b2b3c"),
            ("é?", "éa"),
            ("**", "x"),
        ] {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [
            ("road-*", "road"),
            ("r?ad", "rad"),
            ("a*b", "abc"),
            ("", "a"),
            ("a", ""),
        ] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }
}
