//! A rule as people wrote it, made ready: every CEL text compiled, every duration a number.
use super::{
    expression::{Expression, Scope, Trouble},
    history::Needs,
};
use crate::derive;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use telltale_schemas::{
    Flag, check, duration,
    kinds::Fault,
    record::Record,
    rule::{Action, Rule},
};

/// Members of an alarm's events that we write.
const OURS: [&str; 4] = ["alarm", "state", "severity", "since"];

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// JSON Pointer into the document.
    pub pointer: String,
    /// Line and column in the CEL text that is there, from 1.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

/// A condition with what follows from it, ready to be told readings.
#[derive(Debug)]
pub struct Condition {
    /// As it was written.
    pub rule: Rule,
    pub(super) when: Expression,
    pub(super) clear: Option<Expression>,
    pub(super) key: Option<Expression>,
    /// Microseconds.
    pub(super) hold: Option<i64>,
    pub(super) actions: Vec<Ready>,
    pub(super) needs: Needs,
    /// Whether it looks at one reading alone.
    pub(super) is_plain: bool,
}

/// An action, made ready.
#[derive(Debug)]
pub(super) enum Ready {
    Event {
        name: String,
        detail: Vec<(String, Template)>,
    },
    Command {
        name: String,
        thing: Option<String>,
        input: Template,
        /// Microseconds.
        expires: Option<i64>,
        /// Microseconds.
        start: Option<i64>,
        priority: Option<u8>,
    },
    Derive {
        name: String,
        value: Expression,
        unit: Option<String>,
    },
}

/// A value whose texts are CEL.
#[derive(Debug)]
pub(super) enum Template {
    Plain(Value),
    Cel(Expression),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

/// Reads a document and makes it ready. `None` where it is no condition but one of the derived readings.
pub fn ready(document: &Value) -> Result<(Rule, Option<Condition>), Vec<Wrong>> {
    let faults = check::rule(document);
    if !faults.is_empty() {
        return Err(faults.into_iter().map(Wrong::from).collect());
    }
    let rule: Rule = serde_json::from_value(document.clone())
        .map_err(|error| vec![Wrong::from(Fault::at("", error.to_string()))])?;
    let condition = condition(&rule)?;
    derive::check(&rule)?;
    Ok((rule, condition))
}

/// Makes a rule ready. `None` where it is no condition but one of the derived readings.
pub fn condition(rule: &Rule) -> Result<Option<Condition>, Vec<Wrong>> {
    let Some(when) = &rule.when else {
        return Ok(None);
    };
    let mut making = Making::default();
    let when = making.compile("/when", when);
    let clear = rule.clear.as_ref().map(|text| making.compile("/clear", text));
    let key = rule.key.as_ref().map(|text| making.compile("/key", text));
    let hold = rule.hold.as_deref().and_then(micros);
    let mut actions = Vec::new();
    for (n, action) in rule.then.iter().enumerate() {
        actions.push(making.action(&format!("/then/{n}"), action, rule.is_alarm()));
    }
    if !making.wrong.is_empty() {
        return Err(making.wrong);
    }
    // Where nothing was wrong, nothing is missing.
    let missing = || vec![Wrong::from(Fault::at("", "it cannot be made ready"))];
    Ok(Some(Condition {
        rule: rule.clone(),
        when: when.ok_or_else(missing)?,
        clear: clear.flatten(),
        key: key.flatten(),
        hold,
        actions: actions.into_iter().flatten().collect(),
        is_plain: making.needs.is_empty() && !rule.is_alarm(),
        needs: making.needs,
    }))
}

/// A duration of a document that was checked.
fn micros(text: &str) -> Option<i64> {
    i64::try_from(duration::parse(text)?.as_micros()).ok()
}

#[derive(Default)]
struct Making {
    wrong: Vec<Wrong>,
    needs: Needs,
}

impl Making {
    fn compile(&mut self, pointer: &str, text: &str) -> Option<Expression> {
        match Expression::compile(text) {
            Ok(expression) => {
                for window in expression.windows() {
                    let span = self.needs.entry(window.of().to_owned()).or_default();
                    *span = window.micros().max(*span);
                }
                for name in expression.previous() {
                    self.needs.entry(name.clone()).or_default();
                }
                Some(expression)
            }
            Err(wrong) => {
                self.wrong.push(Wrong {
                    pointer: pointer.to_owned(),
                    place: Some((wrong.line, wrong.column)),
                    message: wrong.message,
                });
                None
            }
        }
    }

    fn action(&mut self, pointer: &str, action: &Action, is_alarm: bool) -> Option<Ready> {
        match action {
            Action::Event { event, detail } => {
                let ours = OURS.iter().find(|word| is_alarm && detail.contains_key(**word));
                if let Some(word) = ours {
                    let message = format!("an alarm writes `{word}` itself; name it otherwise");
                    self.wrong
                        .push(Fault::at(format!("{pointer}/detail/{word}"), message).into());
                }
                Some(Ready::Event {
                    name: event.clone(),
                    detail: self.members(&format!("{pointer}/detail"), detail)?,
                })
            }
            Action::Command {
                command,
                thing,
                input,
                expires,
                start,
                priority,
            } => Some(Ready::Command {
                name: command.clone(),
                thing: thing.clone(),
                input: self.template(&format!("{pointer}/input"), input)?,
                expires: expires.as_deref().and_then(micros),
                start: start.as_deref().and_then(micros),
                priority: *priority,
            }),
            Action::Derive { derive, value, unit } => Some(Ready::Derive {
                name: derive.clone(),
                value: self.compile(&format!("{pointer}/value"), value)?,
                unit: unit.clone(),
            }),
        }
    }

    fn template(&mut self, pointer: &str, value: &Value) -> Option<Template> {
        Some(match value {
            Value::String(text) => Template::Cel(self.compile(pointer, text)?),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let items: Vec<_> = items
                    .map(|(n, item)| self.template(&format!("{pointer}/{n}"), item))
                    .collect();
                Template::List(items.into_iter().collect::<Option<_>>()?)
            }
            Value::Object(members) => Template::Object(self.members(pointer, members)?),
            plain => Template::Plain(plain.clone()),
        })
    }

    fn members(&mut self, pointer: &str, members: &Map<String, Value>) -> Option<Vec<(String, Template)>> {
        let all: Vec<_> = members
            .iter()
            .map(|(key, value)| {
                let segment = key.replace('~', "~0").replace('/', "~1");
                let made = self.template(&format!("{pointer}/{segment}"), value);
                made.map(|made| (key.clone(), made))
            })
            .collect();
        all.into_iter().collect()
    }
}

impl Template {
    /// With the values of its texts.
    pub(super) fn fill(&self, scope: &dyn Scope) -> Result<Value, Trouble> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Cel(expression) => expression.json(scope)?,
            Self::List(items) => {
                let items = items.iter().map(|item| item.fill(scope));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), item.fill(scope)?)));
                Value::Object(members.collect::<Result<_, Trouble>>()?)
            }
        })
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self {
            pointer: fault.pointer,
            place: None,
            message: fault.message,
        }
    }
}

/// The worst quality among those of these records that are named; `None` where none has one.
pub(super) fn worst(records: &[&Record], names: &BTreeSet<String>) -> Option<Flag> {
    /// 3 and 4 are worse than 1; 2 says less than 1, and 9 that there is nothing.
    const fn rank(flag: Flag) -> u8 {
        match flag {
            Flag::Pass => 0,
            Flag::NotEvaluated => 1,
            Flag::Suspect => 2,
            Flag::Fail => 3,
            Flag::Missing => 4,
        }
    }
    let flags = records
        .iter()
        .filter(|record| names.contains(&record.n))
        .filter_map(|record| record.q);
    flags.max_by_key(|flag| rank(*flag))
}
