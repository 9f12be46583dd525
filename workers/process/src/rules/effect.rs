//! What follows from a reading, as messages.
use super::{
    alarm::Basis,
    document::{Condition, Ready, worst},
    expression::{Scope, Trouble},
    scope::Instant,
};
use crate::heard::{Follows, Said};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use telltale_runtime::{Draft, Made};
use telltale_schemas::{Command, Derivation, Event, Record, Timestamp};

/// Largest detail or input of one message, in bytes of JSON.
const DATA_MAX: usize = 64 * 1024;

/// One message to be, with its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Effect {
    Event {
        name: String,
        detail: Map<String, Value>,
    },
    Command {
        name: String,
        thing: Option<String>,
        input: Value,
        /// Microseconds.
        expires: Option<i64>,
        /// Microseconds.
        #[serde(default)]
        start: Option<i64>,
        #[serde(default)]
        priority: Option<u8>,
    },
    Derive {
        record: Record,
    },
}

/// What follows at that instant, each with its number in the document; and why the others do not.
pub(super) fn all(
    condition: &Condition,
    at: &Instant<'_>,
    only_events: bool,
) -> (Vec<(usize, Effect)>, Vec<Trouble>) {
    let (mut effects, mut troubles) = (Vec::new(), Vec::new());
    for (n, action) in condition.actions.iter().enumerate() {
        if only_events && !matches!(action, Ready::Event { .. }) {
            continue;
        }
        match one(action, at, &mut troubles) {
            Ok(effect) => effects.push((n, effect)),
            Err(trouble) => troubles.push(trouble),
        }
    }
    (effects, troubles)
}

fn one(action: &Ready, at: &Instant<'_>, troubles: &mut Vec<Trouble>) -> Result<Effect, Trouble> {
    match action {
        Ready::Event { name, detail } => {
            let mut filled = Map::new();
            for (key, template) in detail {
                match template.fill(at) {
                    Ok(value) => drop(filled.insert(key.clone(), value)),
                    // The event is worth more than a particular of it.
                    Err(Trouble::Absent(_)) => {}
                    Err(trouble) => troubles.push(trouble),
                }
            }
            Ok(Effect::Event {
                name: name.clone(),
                detail: within(filled)?,
            })
        }
        Ready::Command {
            name,
            thing,
            input,
            expires,
            start,
            priority,
        } => Ok(Effect::Command {
            name: name.clone(),
            thing: thing.clone(),
            input: within(input.fill(at)?)?,
            expires: *expires,
            start: *start,
            priority: *priority,
        }),
        Ready::Derive { name, value, unit } => {
            let mut record = Record::named(name.clone());
            record.u.clone_from(unit);
            record.q = worst(at.records, value.names());
            match value.json(at as &dyn Scope)? {
                Value::Number(number) => record.v = number.as_f64(),
                Value::String(text) => record.vs = Some(within(text)?),
                Value::Bool(truth) => record.vb = Some(truth),
                other => return Err(Trouble::Failed(format!("a record cannot be {other}"))),
            }
            Ok(Effect::Derive { record })
        }
    }
}

fn within<T: Serialize>(data: T) -> Result<T, Trouble> {
    let bytes = serde_json::to_vec(&data).map_or(usize::MAX, |text| text.len());
    if bytes > DATA_MAX {
        return Err(Trouble::Failed(format!("{bytes} bytes are more than {DATA_MAX}")));
    }
    Ok(data)
}

/// The id of the `n`th message under that name.
pub(super) fn id(name: &str, n: usize) -> String {
    if n == 0 {
        name.to_owned()
    } else {
        format!("{name}.{n}")
    }
}

/// The message itself: `name` is its id but for its number, `at` its time.
pub(super) fn message(
    effect: Effect,
    n: usize,
    rule: &str,
    name: &str,
    at: Timestamp,
    basis: &Basis,
    particulars: &Map<String, Value>,
) -> Follows {
    let draft = match effect {
        Effect::Event { name, mut detail } => {
            detail.extend(particulars.clone());
            Draft::new(Said::from(Event { name, detail }))
        }
        Effect::Command {
            name,
            thing,
            input,
            expires,
            start,
            priority,
        } => {
            // What waited for a while is as much nearer to its end.
            let waited = at.as_micros().saturating_sub(basis.at.as_micros());
            let after = |micros: i64| basis.stored.plus_micros(waited.saturating_add(micros));
            let mut command = Command::new(name, input);
            command.start = start.map(after);
            command.priority = priority;
            let mut draft = Draft::new(Said::from(command));
            if let Some(thing) = thing {
                draft = draft.about(thing);
            }
            if let Some(micros) = expires {
                draft = draft.expires(after(micros));
            }
            draft
        }
        Effect::Derive { record } => Draft::new(Said::from(Derivation {
            records: vec![record],
            rule: Some(rule.to_owned()),
        })),
    };
    Made {
        cause: Arc::clone(&basis.cause),
        draft: draft.keyed(id(name, n)).at(at),
    }
}
