//! Where an uplink goes: one grammar for HTTP paths and MQTT topics.
//!
//! `things/{thing}/readings`, `things/{thing}/events/{name}`, `readings`. Names are percent-decoded UTF-8; in a
//! topic only `/`, `+`, `#` and `%` need it (`%2F`, `%2B`, `%23`, `%25`).
use telltale_nats::Name;

/// What an uplink is, and of which thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Readings of one thing, in any of the formats that `validate` decodes.
    Readings(Name),
    /// An event of one thing: a JSON object.
    Event(Name, Name),
    /// Readings of many things in one pack, which the bridge splits.
    Pack,
}

/// Why a path or topic leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// None of the three shapes.
    #[error(
        "no such place; there are `things/{{thing}}/readings`, `things/{{thing}}/events/{{name}}` and `readings`"
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
            _ => Err(RouteError::Unknown),
        }
    }

    /// The thing that it names.
    pub fn thing(&self) -> Option<&Name> {
        match self {
            Self::Readings(thing) | Self::Event(thing, _) => Some(thing),
            Self::Pack => None,
        }
    }
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
    fn the_three_shapes_are_understood() {
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
            &long,
        ] {
            assert_eq!(Route::parse(text), Err(RouteError::Name), "{text}");
        }
    }
}
