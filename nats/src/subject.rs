//! Subjects: the only place where one is built or parsed.
//!
//! A token is `[A-Za-z0-9_=-]+`, at most 64 bytes; every other byte, and `=` itself, is written `=XX` with
//! upper-case hex. There is one spelling for one name; any other is refused.
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest token, in bytes.
pub const TOKEN_MAX: usize = 64;
/// Third token of a pack of readings on `valid`; no thing's token may begin with `_`.
pub const PACK: &str = "_pack";

/// The family of a subject, its first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// `raw.<site>.<thing>`: bytes as the device sent them.
    Raw,
    /// `valid.<site>.<thing>`.
    Valid,
    /// `annotated.<site>.<thing>`.
    Annotated,
    /// `derived.<site>.<thing>`.
    Derived,
    /// `event.<site>.<thing>.<name>`.
    Event,
    /// `command.<site>.<thing>.<name>`.
    Command,
    /// `outcome.<site>.<thing>.<name>`.
    Outcome,
    /// `thing.<site>.<thing>.<change>`.
    Thing,
    /// `quarantine.<site>.<thing>.<reason>`.
    Quarantine,
}

impl Lane {
    /// All of them, in the order of the design.
    pub const ALL: [Self; 9] = [
        Self::Raw,
        Self::Valid,
        Self::Annotated,
        Self::Derived,
        Self::Event,
        Self::Command,
        Self::Outcome,
        Self::Thing,
        Self::Quarantine,
    ];

    /// The first token.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Valid => "valid",
            Self::Annotated => "annotated",
            Self::Derived => "derived",
            Self::Event => "event",
            Self::Command => "command",
            Self::Outcome => "outcome",
            Self::Thing => "thing",
            Self::Quarantine => "quarantine",
        }
    }

    /// The stream that keeps it.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Raw => "RAW",
            Self::Valid => "VALID",
            Self::Annotated | Self::Derived => "READINGS",
            Self::Event | Self::Outcome => "EVENTS",
            Self::Command => "COMMANDS",
            Self::Thing => "THINGS",
            Self::Quarantine => "QUARANTINE",
        }
    }

    /// Whether its subjects have a fourth token.
    pub const fn has_name(self) -> bool {
        matches!(
            self,
            Self::Event | Self::Command | Self::Outcome | Self::Thing | Self::Quarantine
        )
    }

    /// The lane of that first token.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.word() == word)
    }

    /// All subjects of the lane: `annotated.>`.
    pub fn filter(self) -> String {
        format!("{}.>", self.word())
    }

    /// All subjects of the lane at one site: `annotated.a8-km42.>`.
    pub fn filter_at(self, site: &Name) -> String {
        format!("{}.{}.>", self.word(), site.token())
    }

    /// The shape of its subjects, with names in braces: `event.{site}.{thing}.{name}`.
    pub fn shape(self) -> String {
        let name = if self.has_name() { ".{name}" } else { "" };
        format!("{}.{{site}}.{{thing}}{name}", self.word())
    }

    /// All subjects of the lane about one thing, wherever it is: `annotated.*.road-weather-17`.
    pub fn filter_thing(self, thing: &Name) -> String {
        let name = if self.has_name() { ".*" } else { "" };
        format!("{}.*.{}{name}", self.word(), thing.token())
    }

    /// All subjects of the lane at one site with that last token: `event.a8-km42.*.over_limit`.
    pub fn filter_named(self, site: &Name, name: &Name) -> String {
        format!("{}.{}.*.{}", self.word(), site.token(), name.token())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a name cannot stand in a subject, or a token is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`TOKEN_MAX`] once escaped.
    #[error("`{0}` takes more than 64 bytes in a subject")]
    TooLong(String),
    /// Holds a control character, which no header can: an id that is made of the name could not be published.
    #[error("`{0}` holds a control character")]
    Control(String),
    /// Begins with `_`, which is kept for packs.
    #[error("`{0}` begins with `_`, which is kept for our own use")]
    Reserved(String),
    /// Not UTF-8 once unescaped, a byte that must be escaped, or a needless or lower-case escape.
    #[error("`{0}` is not the one spelling of a name")]
    Spelling(String),
}

/// A name as people write it, together with its one spelling as a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name {
    plain: String,
    token: Option<String>,
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.plain
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(plain: String) -> Result<Self, NameError> {
        Self::new(plain)
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

impl Name {
    /// From the plain name. Any text will do but the empty one, one that begins with `_` or holds a control
    /// character, and a too long one.
    pub fn new(plain: impl Into<String>) -> Result<Self, NameError> {
        let plain = plain.into();
        match plain.as_bytes().first() {
            None => return Err(NameError::Empty),
            Some(b'_') => return Err(NameError::Reserved(plain)),
            Some(_) => {}
        }
        if plain.chars().any(char::is_control) {
            return Err(NameError::Control(plain.escape_debug().take(80).collect()));
        }
        let escapes = plain.bytes().filter(|byte| !is_plain(*byte)).count();
        if plain.len() + 2 * escapes > TOKEN_MAX {
            return Err(NameError::TooLong(plain.chars().take(80).collect()));
        }
        let token = (escapes > 0).then(|| escape(&plain));
        Ok(Self { plain, token })
    }

    /// From a token of a subject; refuses every spelling but the one.
    pub fn from_token(token: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Spelling(token.chars().take(80).collect());
        if token.bytes().all(is_plain) {
            return Self::new(token);
        }
        let mut bytes = Vec::with_capacity(token.len());
        let mut rest = token.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'=' {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                bytes.push(high.ok_or_else(wrong)? << 4 | low.ok_or_else(wrong)?);
            } else {
                bytes.push(byte);
            }
        }
        let name = Self::new(String::from_utf8(bytes).map_err(|_| wrong())?)?;
        if name.token() == token {
            Ok(name)
        } else {
            Err(wrong())
        }
    }

    /// As people write it.
    pub fn plain(&self) -> &str {
        &self.plain
    }

    /// As a token of a subject or of a bucket's key.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or(&self.plain)
    }
}

/// Any text as one token.
pub(crate) fn escape(plain: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut token = String::with_capacity(plain.len() + 8);
    for byte in plain.bytes() {
        if is_plain(byte) {
            token.push(byte.into());
        } else {
            token.push('=');
            token.push(HEX[usize::from(byte >> 4)].into());
            token.push(HEX[usize::from(byte & 15)].into());
        }
    }
    token
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(plain: &str) -> Result<Self, NameError> {
        Self::new(plain)
    }
}

/// A subject of one of the lanes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// First token.
    pub lane: Lane,
    /// Second token.
    pub site: Name,
    /// Third token.
    pub thing: Name,
    /// Fourth token, where the lane has one.
    pub name: Option<Name>,
}

/// Why a text is no subject of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The first token is no lane.
    #[error("`{0}` is in none of our lanes")]
    Lane(String),
    /// Too few or too many tokens for the lane.
    #[error("`{0}` has the wrong number of tokens")]
    Shape(String),
    /// A token that is no name.
    #[error("in subject `{subject}`")]
    Name {
        /// The subject.
        subject: String,
        /// What is wrong with the token.
        #[source]
        source: NameError,
    },
}

impl Subject {
    /// A subject of a lane without a fourth token.
    pub fn of(lane: Lane, site: Name, thing: Name) -> Self {
        debug_assert!(!lane.has_name(), "{lane} has a fourth token");
        Self {
            lane,
            site,
            thing,
            name: None,
        }
    }

    /// A subject of a lane with a fourth token.
    pub fn named(lane: Lane, site: Name, thing: Name, name: Name) -> Self {
        debug_assert!(lane.has_name(), "{lane} has no fourth token");
        Self {
            lane,
            site,
            thing,
            name: Some(name),
        }
    }

    /// Parses what the broker delivered.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        let short = || text.chars().take(200).collect::<String>();
        let wrap = |source| SubjectError::Name {
            subject: short(),
            source,
        };
        let mut tokens = text.split('.');
        let lane = tokens
            .next()
            .and_then(Lane::of_word)
            .ok_or_else(|| SubjectError::Lane(short()))?;
        let (Some(site), Some(thing)) = (tokens.next(), tokens.next()) else {
            return Err(SubjectError::Shape(short()));
        };
        let name = tokens.next();
        if tokens.next().is_some() || name.is_some() != lane.has_name() {
            return Err(SubjectError::Shape(short()));
        }
        Ok(Self {
            lane,
            site: Name::from_token(site).map_err(wrap)?,
            thing: Name::from_token(thing).map_err(wrap)?,
            name: name.map(Name::from_token).transpose().map_err(wrap)?,
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.lane, self.site.token(), self.thing.token())?;
        match &self.name {
            Some(name) => write!(f, ".{}", name.token()),
            None => Ok(()),
        }
    }
}

/// The subject of a pack of readings, `valid.<site>._pack`.
pub fn pack(site: &Name) -> String {
    format!("{}.{}.{PACK}", Lane::Valid, site.token())
}

/// Whether the broker delivered a pack; the site's name if so.
pub fn parse_pack(text: &str) -> Option<Name> {
    let site = text.strip_prefix("valid.")?.strip_suffix("._pack")?;
    Name::from_token(site).ok()
}

/// The stream of messages for one worker alone.
pub const REDO_STREAM: &str = "REDO";

/// The subject of a message for one worker alone, `redo.<worker>`.
pub fn redo(worker: &Name) -> String {
    format!("redo.{}", worker.token())
}

/// The subject of a message that a worker has failed to handle, and is to try again: `redo.<worker>.again`.
pub fn again(worker: &Name) -> String {
    format!("redo.{}.again", worker.token())
}

/// The subject of a request, `api.<site>.<service>.<operation>`.
pub fn api(site: &Name, service: &str, operation: &str) -> String {
    format!("api.{}.{service}.{operation}", site.token())
}

/// The shape of the subject of a service's operation, with the site in braces.
pub fn api_shape(service: &str, operation: &str) -> String {
    format!("api.{{site}}.{service}.{operation}")
}

/// All requests to one service of a site.
pub fn api_filter(site: &Name, service: &str) -> String {
    format!("api.{}.{service}.*", site.token())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for (plain, token) in [
            ("road-weather-17", "road-weather-17"),
            ("urn:dev:1", "urn=3Adev=3A1"),
            ("a.b", "a=2Eb"),
            ("a=b", "a=3Db"),
            ("Brücke", "Br=C3=BCcke"),
        ] {
            let name = Name::new(plain).unwrap();
            assert_eq!(name.token(), token);
            assert_eq!(Name::from_token(token).unwrap(), name);
        }
    }

    #[test]
    fn another_spelling_is_refused() {
        for token in [
            "", "=", "=4", "=zz", "=2e", "=41", "=FF", "a b", "a.b", "*", ">", "_pack", "=5Fpack",
        ] {
            assert!(Name::from_token(token).is_err(), "{token}");
        }
        for (plain, token) in [("a\nb", "a=0Ab"), ("a\u{7f}", "a=7F"), ("a\u{85}", "a=C2=85")] {
            assert!(
                matches!(Name::new(plain), Err(NameError::Control(_))),
                "{plain:?}"
            );
            assert!(
                matches!(Name::from_token(token), Err(NameError::Control(_))),
                "{token}"
            );
        }
        assert!(Name::new("x".repeat(65)).is_err());
        assert!(Name::new(".".repeat(22)).is_err());
        assert!(Name::new("x".repeat(64)).is_ok());
    }

    #[test]
    fn a_subject_is_parsed_as_it_was_built() {
        for text in ["raw.a8.t1", "event.a8.urn=3At.over_limit", "quarantine.a8.t.json"] {
            assert_eq!(Subject::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "raw",
            "raw.a",
            "raw.a.b.c",
            "event.a.b",
            "raw..x",
            "raw.a.b ",
            "api.a.b.c",
            "RAW.a.b",
            "",
        ] {
            assert!(Subject::parse(text).is_err(), "{text}");
        }
    }
}
