//! Whether a command can be carried out: who gives it, what the thing's description says of it, and its times.
use serde_json::Value;
use telltale_schemas::{Command, Envelope, Timestamp, check};

/// What is known of a command that can be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Whether carrying it out twice is as good as once: an action that is called `idempotent`, or a property, which
    /// is only set to a value.
    pub idempotent: bool,
}

/// Why it cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody answers for it.
    #[error("it does not say who gives it: `publisher` is missing; set it to the name of whoever asks")]
    NoIssuer,
    /// The thing is not registered here, or only by a policy.
    #[error("thing `{0}` has no description at this site; register it with `telltale thing create`")]
    NoDescription(String),
    /// It has no such action or property.
    #[error("the description of thing `{thing}` has no action and no property `{name}`")]
    Unknown {
        /// The thing.
        thing: String,
        /// The name.
        name: String,
    },
    /// A property that cannot be written.
    #[error("property `{0}` is read-only")]
    ReadOnly(String),
    /// What it is called with is not what the description demands.
    #[error("{0}")]
    Input(String),
    /// It would begin only when it is over.
    #[error("it is not to start before {start}, but expires at {expires}")]
    Never {
        /// Not before.
        start: Timestamp,
        /// Nor after.
        expires: Timestamp,
    },
    /// Too late.
    #[error("it expired before it could be queued")]
    Expired,
}

impl Refused {
    /// One word, for the metric.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NoIssuer => "no_issuer",
            Self::NoDescription(_) => "no_description",
            Self::Unknown { .. } => "unknown",
            Self::ReadOnly(_) => "read_only",
            Self::Input(_) => "input",
            Self::Never { .. } => "never_due",
            Self::Expired => "expired",
        }
    }
}

/// Judges a command by its thing's description.
pub fn judge(
    command: &Envelope<Command>,
    td: Option<&Value>,
    expires: Timestamp,
    now: Timestamp,
) -> Result<Right, Refused> {
    if command.publisher.as_deref().unwrap_or_default().is_empty() {
        return Err(Refused::NoIssuer);
    }
    if expires <= now {
        return Err(Refused::Expired);
    }
    if let Some(start) = command.data.start.filter(|start| expires <= *start) {
        return Err(Refused::Never { start, expires });
    }
    let td = td.ok_or_else(|| Refused::NoDescription(command.subject.clone()))?;
    let described = |kind: &str| td.get(kind).and_then(|all| all.get(&command.data.name));
    match (described("actions"), described("properties")) {
        (Some(action), None) => invoke(action, &command.data),
        (None, Some(property)) => write(property, &command.data),
        // The subject does not tell which is meant.
        (Some(action), Some(property)) => {
            invoke(action, &command.data).or_else(|_| write(property, &command.data))
        }
        (None, None) => Err(Refused::Unknown {
            thing: command.subject.clone(),
            name: command.data.name.clone(),
        }),
    }
}

fn invoke(action: &Value, command: &Command) -> Result<Right, Refused> {
    match action.get("input") {
        Some(schema) => fits(schema, &command.input)?,
        None if command.input.is_null() => {}
        None => {
            return Err(Refused::Input(format!(
                "action `{}` takes no input",
                command.name
            )));
        }
    }
    Ok(Right {
        idempotent: action.get("idempotent") == Some(&Value::Bool(true)),
    })
}

fn write(property: &Value, command: &Command) -> Result<Right, Refused> {
    if property.get("readOnly") == Some(&Value::Bool(true)) {
        return Err(Refused::ReadOnly(command.name.clone()));
    }
    fits(property, &command.input)?;
    Ok(Right { idempotent: true })
}

fn fits(schema: &Value, input: &Value) -> Result<(), Refused> {
    let faults = check::against(schema, input)
        .map_err(|why| Refused::Input(format!("the description's own schema cannot be used: {why}")))?;
    match faults.first() {
        None => Ok(()),
        Some(fault) if fault.pointer.is_empty() => Err(Refused::Input(format!("input: {}", fault.message))),
        Some(fault) => Err(Refused::Input(format!(
            "input{}: {}",
            fault.pointer, fault.message
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    fn td() -> Value {
        json!({
            "actions": {
                "reboot": {},
                "dim": { "idempotent": true, "input": { "type": "object", "required": ["level"],
                    "properties": { "level": { "type": "integer", "maximum": 100 } } } },
            },
            "properties": {
                "on": { "type": "boolean" },
                "power": { "type": "number", "readOnly": true },
            },
        })
    }

    fn command(name: &str, input: Value) -> Envelope<Command> {
        let mut envelope = Envelope::new("l:1", "/s/gateway", "l", at(0), Command::new(name, input));
        envelope.publisher = Some("alice".to_owned());
        envelope
    }

    fn verdict(command: &Envelope<Command>) -> Result<Right, Refused> {
        judge(command, Some(&td()), at(60), at(1))
    }

    #[test]
    fn what_the_description_offers_is_right_and_says_whether_it_may_be_done_twice() {
        for (name, input, idempotent) in [
            ("reboot", Value::Null, false),
            ("dim", json!({"level": 80}), true),
            ("on", json!(true), true),
        ] {
            assert_eq!(verdict(&command(name, input)), Ok(Right { idempotent }), "{name}");
        }
    }

    #[test]
    fn what_it_does_not_offer_is_refused_with_the_reason() {
        for (name, input, word, text) in [
            ("melt", Value::Null, "unknown", "`melt`"),
            ("power", json!(1), "read_only", "`power`"),
            ("reboot", json!(1), "input", "no input"),
            ("dim", json!({"level": 101}), "input", "input/level: 101"),
            ("dim", Value::Null, "input", "input: "),
            ("on", json!("yes"), "input", "\"yes\""),
        ] {
            let refused = verdict(&command(name, input)).unwrap_err();
            assert_eq!(refused.word(), word, "{name}");
            assert!(refused.to_string().contains(text), "{name}: {refused}");
        }
        let refused = judge(&command("on", json!(true)), None, at(60), at(1)).unwrap_err();
        assert_eq!(refused.word(), "no_description");
        let nobodys = Envelope {
            publisher: None,
            ..command("on", json!(true))
        };
        assert_eq!(verdict(&nobodys), Err(Refused::NoIssuer));
    }

    #[test]
    fn what_is_over_or_never_due_is_refused() {
        let mut one = command("on", json!(true));
        assert_eq!(judge(&one, Some(&td()), at(60), at(60)), Err(Refused::Expired));
        one.data.start = Some(at(60));
        assert_eq!(verdict(&one).unwrap_err().word(), "never_due");
        one.data.start = Some(at(59));
        assert!(verdict(&one).is_ok());
    }
}
