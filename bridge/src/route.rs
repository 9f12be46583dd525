//! Where an uplink goes: one grammar for HTTP paths and MQTT topics.
//!
//! `things/{thing}/readings`, `things/{thing}/events/{name}`, `things/{thing}/outcomes/{id}`, `readings`; and what is
//! subscribed to: `things/{thing}/commands/+`. Names are percent-decoded UTF-8; in a
//! topic only `/`, `+`, `#` and `%` need it (`%2F`, `%2B`, `%23`, `%25`).
use telltale_nats::Name;
use telltale_schemas::id;

/// What an uplink is, and of which thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Readings of one thing, in any of the formats that `validate` decodes.
    Readings(Name),
    /// An event of one thing: a JSON object.
    Event(Name, Name),
    /// The answer of one thing to the command of that id.
    Outcome(Name, String),
    /// Readings of many things in one pack, which the bridge splits.
    Pack,
}

/// Why a path or topic leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// None of the four shapes.
    #[error(
        "no such place; there are `things/{{thing}}/readings`, `things/{{thing}}/events/{{name}}`, `things/{{thing}}/outcomes/{{command}}` and `readings`"
    )]
    Unknown,
    /// A shape of ours around what cannot be a name.
    #[error("not a name: 1 to 64 bytes once escaped, UTF-8, no control character, not beginning with `_`")]
    Name,
}

impl Route {
    /// Parses a topic, or a path without its first `/`.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let mut parts = text.split('/');
        let shape = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        );
        match shape {
            (Some("readings"), None, ..) => Ok(Self::Pack),
            (Some("things"), Some(thing), Some("readings"), None, _) => Ok(Self::Readings(name(thing)?)),
            (Some("things"), Some(thing), Some("events"), Some(event), None) => {
                Ok(Self::Event(name(thing)?, name(event)?))
            }
            (Some("things"), Some(thing), Some("outcomes"), Some(command), None) => {
                let command = decode(command).filter(|command| id::is_id(command));
                Ok(Self::Outcome(name(thing)?, command.ok_or(RouteError::Name)?))
            }
            _ => Err(RouteError::Unknown),
        }
    }

    /// The thing that it names.
    pub fn thing(&self) -> Option<&Name> {
        match self {
            Self::Readings(thing) | Self::Event(thing, _) | Self::Outcome(thing, _) => Some(thing),
            Self::Pack => None,
        }
    }
}

/// The thing whose commands a topic filter asks for: `things/{thing}/commands/+` or `…/#`. Not for some of them: they
/// come one after the other, whatever their names.
pub(crate) fn commands(filter: &str) -> Result<Name, RouteError> {
    let parts: Vec<&str> = filter.split('/').collect();
    match parts.as_slice() {
        ["things", thing, "commands", "+" | "#"] if !thing.contains(['+', '#']) => name(thing),
        _ => Err(RouteError::Unknown),
    }
}

/// Where a command of that thing comes, and where it is answered.
pub(crate) fn topics(thing: &Name, command: &Name, id: &str) -> (String, String) {
    let (thing, command) = (encode(thing.plain()), encode(command.plain()));
    (
        format!("things/{thing}/commands/{command}"),
        format!("things/{thing}/outcomes/{}", encode(id)),
    )
}

/// What cannot stand in a topic as it is, escaped.
fn encode(plain: &str) -> String {
    plain
        .replace('%', "%25")
        .replace('/', "%2F")
        .replace('+', "%2B")
        .replace('#', "%23")
}

fn name(escaped: &str) -> Result<Name, RouteError> {
    decode(escaped)
        .as_deref()
        .and_then(|plain| Name::new(plain).ok())
        .ok_or(RouteError::Name)
}

fn decode(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (rest.next().and_then(hex)?, rest.next().and_then(hex)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(plain: &str) -> Name {
        Name::new(plain).unwrap()
    }

    #[test]
    fn a_filter_asks_for_all_commands_of_one_thing() {
        for filter in ["things/a%2Fb/commands/+", "things/a%2Fb/commands/#"] {
            assert_eq!(commands(filter), Ok(of("a/b")), "{filter}");
        }
        for filter in [
            "things/+/commands/+",
            "things/a/commands/on",
            "things/a/commands",
            "things/a/#",
            "#",
            "things/a/commands/+/+",
            "$share/g/things/a/commands/+",
        ] {
            assert_eq!(commands(filter), Err(RouteError::Unknown), "{filter}");
        }
        assert_eq!(commands("things/_a/commands/+"), Err(RouteError::Name));
    }

    #[test]
    fn a_command_s_topics_lead_back() {
        let (thing, id) = (of("a/b+#%"), "a/b+#%:k/1");
        let (command, outcome) = topics(&thing, &of("on/off"), id);
        assert_eq!(command, "things/a%2Fb%2B%23%25/commands/on%2Foff");
        assert_eq!(Route::parse(&outcome), Ok(Route::Outcome(thing, id.into())));
    }

    #[test]
    fn the_four_shapes_are_understood() {
        for (text, route) in [
            ("readings", Route::Pack),
            ("things/t1/readings", Route::Readings(of("t1"))),
            (
                "things/t1/events/door_open",
                Route::Event(of("t1"), of("door_open")),
            ),
            ("things/urn:dev:1/readings", Route::Readings(of("urn:dev:1"))),
            ("things/a%2Fb%2b%23%25/readings", Route::Readings(of("a/b+#%"))),
            ("things/Br%C3%BCcke/readings", Route::Readings(of("Brücke"))),
            ("things/Brücke/readings", Route::Readings(of("Brücke"))),
            ("things/a.b/readings", Route::Readings(of("a.b"))),
            ("things/readings/readings", Route::Readings(of("readings"))),
            (
                "things/t1/outcomes/t1:a%2Fb.c",
                Route::Outcome(of("t1"), "t1:a/b.c".into()),
            ),
            ("things/../readings", Route::Readings(of(".."))),
        ] {
            assert_eq!(Route::parse(text), Ok(route), "{text}");
        }
    }

    #[test]
    fn another_shape_leads_nowhere() {
        for text in [
            "",
            "/",
            "readings/",
            "/readings",
            "things",
            "things/t1",
            "things/t1/",
            "things/t1/readings/",
            "things/t1/events",
            "things/t1/events/a/b",
            "things/a/b/readings",
            "things/a/outcomes",
            "things/a/commands/on",
            "Things/t1/readings",
            "$SYS/x",
        ] {
            assert_eq!(Route::parse(text), Err(RouteError::Unknown), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("things/{}/readings", "x".repeat(65));
        for text in [
            "things//readings",
            "things/_pack/readings",
            "things/%5Fpack/readings",
            "things/%/readings",
            "things/%4/readings",
            "things/%zz/readings",
            "things/%FF/readings",
            "things/a%00/readings",
            "things/a%0D%0AX/readings",
            "things/a\u{7f}/readings",
            "things/t/events/",
            "things/t/outcomes/",
            "things/t/outcomes/a%0Ab",
            &long,
        ] {
            assert_eq!(Route::parse(text), Err(RouteError::Name), "{text}");
        }
    }
}
