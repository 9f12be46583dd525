//! Why bytes are refused.
use crate::kinds::Fault;
use std::fmt;

/// Most faults that one refusal names; more would make a quarantine entry larger than what it keeps.
pub const FAULTS_MAX: usize = 20;
/// Longest piece of what was found that a message repeats, in characters.
const SHOWN_MAX: usize = 80;

/// Why bytes are refused: one reason, and the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word of `[a-z0-9_]`: the last token of a quarantine subject.
    pub reason: &'static str,
    /// What was wrong, and where; at least one, at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
}

impl Refusal {
    /// For one fault at that JSON Pointer.
    pub fn at(reason: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            faults: vec![Fault::at(pointer, message)],
        }
    }

    /// The same, found inside of something else: every pointer begins with that one.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for fault in &mut self.faults {
            fault.pointer.insert_str(0, prefix);
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        for fault in &self.faults {
            write!(f, "; {}", fault.message)?;
            if !fault.pointer.is_empty() {
                write!(f, " at `{}`", fault.pointer)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// What was found, short enough for a message and without control characters.
pub(crate) fn shown(text: &str) -> String {
    cut(text, SHOWN_MAX)
}

/// At most that many characters, none of which moves a terminal's cursor, breaks a line of a log, or turns the
/// direction of what follows.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    let clean = |c: char| match c {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut out: String = text.chars().take(chars_max).map(clean).collect();
    if text.chars().nth(chars_max).is_some() {
        out.push('…');
    }
    out
}

/// One more segment of a JSON Pointer, escaped (RFC 6901), and cut where a device sent an endless name.
pub(crate) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    for c in shown(segment).chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_moves_no_cursor() {
        assert_eq!(
            shown("a\u{1b}[31mb\r\n\u{202e}c"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}c"
        );
        assert_eq!(shown(&"é".repeat(100)).chars().count(), SHOWN_MAX + 1);
        assert_eq!(shown("°C"), "°C");
    }

    #[test]
    fn a_pointer_is_escaped_and_begins_where_it_was_found() {
        let mut pointer = String::new();
        push_segment(&mut pointer, "a/b~c");
        let refusal = Refusal::at("shape", pointer, "`a/b~c` is an array").under("/data");
        assert_eq!(refusal.faults[0].pointer, "/data/a~1b~0c");
        assert_eq!(
            refusal.to_string(),
            "shape; `a/b~c` is an array at `/data/a~1b~0c`"
        );
    }
}
