//! Finds the place in a JSON text that a pointer means, in texts that may be broken off or worse.
use super::super::output::escaped;
use std::ops::Range;

/// Characters of a line that are shown around a fault.
const AROUND: usize = 60;

/// The text with a mark under each fault; what cannot be placed stands below.
pub(super) fn marked(text: &str, faults: &[(&str, &str)]) -> Vec<String> {
    let mut lines = Vec::new();
    let placed: Vec<Option<Range<usize>>> = faults
        .iter()
        .map(|(pointer, _)| {
            if pointer.is_empty() {
                None
            } else {
                find(text, pointer)
            }
        })
        .collect();
    if placed.iter().all(Option::is_none) {
        let shown: String = text.chars().take(super::show::SHOWN_BYTES_MAX).collect();
        lines.extend(shown.lines().map(|line| format!("   | {}", escaped(line))));
    }
    for ((pointer, message), place) in faults.iter().zip(&placed) {
        match place {
            Some(place) => lines.extend(mark(text, place, &format!("{pointer} {}", escaped(message)))),
            None => lines.push(unplaced(pointer, message)),
        }
    }
    lines
}

/// A fault without a mark.
pub(super) fn unplaced(pointer: &str, message: &str) -> String {
    let what = format!("{pointer} {}", escaped(message));
    format!("  fault     {}", what.trim())
}

fn mark(text: &str, place: &Range<usize>, what: &str) -> [String; 2] {
    let (before, rest) = text.split_at_checked(place.start).unwrap_or((text, ""));
    let (inside, after) = rest.split_at_checked(place.len()).unwrap_or((rest, ""));
    let before = before.rsplit('\n').next().unwrap_or_default();
    let inside = inside.split('\n').next().unwrap_or_default();
    let after = after.split('\n').next().unwrap_or_default();
    let skip = before.chars().count().saturating_sub(AROUND);
    let before: String = before.chars().skip(skip).collect();
    let inside: String = inside.chars().take(AROUND).collect();
    let after: String = after.chars().take(AROUND).collect();
    let (before, inside, after) = (escaped(&before), escaped(&inside), escaped(&after));
    let indent = " ".repeat(before.chars().count());
    let carets = "^".repeat(inside.chars().count().max(1));
    [
        format!("   | {before}{inside}{after}"),
        format!("   | {indent}{carets} {what}"),
    ]
}

/// Where the value that the pointer (RFC 6901) means stands; the last one where a member comes twice.
pub(in crate::commands) fn find(text: &str, pointer: &str) -> Option<Range<usize>> {
    let tokens: Vec<String> = pointer
        .strip_prefix('/')?
        .split('/')
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
        depth: 0,
    };
    scan.value(Some(&tokens)).ok().flatten()
}

/// Deeper than anything that was taken in.
const DEPTH_MAX: usize = 512;

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// The text ends, or is no JSON here.
struct Broken;

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Passes over a value; with a path, says where what it leads to stands.
    fn value(&mut self, path: Option<&[String]>) -> Result<Option<Range<usize>>, Broken> {
        self.blank();
        let start = self.at;
        if self.depth > DEPTH_MAX {
            return Err(Broken);
        }
        self.depth += 1;
        let inner = match self.peek().ok_or(Broken)? {
            b'{' => self.members(path)?,
            b'[' => self.elements(path)?,
            b'"' => {
                self.string()?;
                None
            }
            _ => {
                let ends = |byte: u8| byte.is_ascii_whitespace() || b",]}".contains(&byte);
                while self.peek().is_some_and(|byte| !ends(byte)) {
                    self.at += 1;
                }
                None
            }
        };
        self.depth -= 1;
        Ok(match path {
            Some([]) => Some(start..self.at),
            _ => inner,
        })
    }

    fn members(&mut self, path: Option<&[String]>) -> Result<Option<Range<usize>>, Broken> {
        let mut found = None;
        self.at += 1;
        loop {
            self.blank();
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(found);
                }
                Some(b',') => self.at += 1,
                Some(b'"') => {
                    let name = self.string()?;
                    self.blank();
                    if self.peek() != Some(b':') {
                        return Err(Broken);
                    }
                    self.at += 1;
                    let further = path.and_then(<[String]>::split_first);
                    let further = further.and_then(|(first, rest)| (*first == name).then_some(rest));
                    match self.value(further) {
                        Ok(place) => found = place.or(found),
                        // What was found before the text broke off is still the place.
                        Err(Broken) if found.is_some() => return Ok(found),
                        Err(Broken) => return Err(Broken),
                    }
                }
                _ => return found.map_or(Err(Broken), |found| Ok(Some(found))),
            }
        }
    }

    fn elements(&mut self, path: Option<&[String]>) -> Result<Option<Range<usize>>, Broken> {
        let wanted = path.and_then(<[String]>::split_first);
        let wanted = wanted.and_then(|(first, rest)| Some((first.parse::<usize>().ok()?, rest)));
        let mut found = None;
        self.at += 1;
        let mut number = 0;
        loop {
            self.blank();
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(found);
                }
                Some(b',') => self.at += 1,
                Some(_) => {
                    let further = wanted.and_then(|(wanted, rest)| (wanted == number).then_some(rest));
                    match self.value(further) {
                        Ok(place) => found = place.or(found),
                        Err(Broken) if found.is_some() => return Ok(found),
                        Err(Broken) => return Err(Broken),
                    }
                    number += 1;
                }
                None => return found.map_or(Err(Broken), |found| Ok(Some(found))),
            }
        }
    }

    fn string(&mut self) -> Result<String, Broken> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek().ok_or(Broken)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.bytes.get(start..self.at).ok_or(Broken)?;
        serde_json::from_slice(quoted).map_err(|_| Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_its_place_even_in_a_broken_text() {
        let text = r#"{"a":{"b":[1,{"c/d":"x"}]},"e":2"#;
        for (pointer, place) in [
            ("/a/b/1/c~1d", Some("\"x\"")),
            ("/a/b/0", Some("1")),
            ("/a/b", Some(r#"[1,{"c/d":"x"}]"#)),
            ("/e", Some("2")),
            ("/z", None),
            ("a", None),
        ] {
            assert_eq!(
                find(text, pointer).and_then(|place| text.get(place)),
                place,
                "{pointer}"
            );
        }
        assert_eq!(find(r#"{"a":1,"a":2}"#, "/a"), Some(11..12));
        for broken in ["", "{", "{\"a", "{\"a\":", "[[[[", "nul", "{\"a\\"] {
            assert_eq!(find(broken, "/b"), None);
        }
        assert_eq!(find(&"[".repeat(100_000), "/0/0"), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_fault_and_a_fault_without_place_below() {
        let text = format!("{{\"a\":\"{}\",\"b\":1}}", "x".repeat(500));
        let lines = marked(&text, &[("/b", "wrong")]);
        assert!(
            lines[0].len() < 140 && lines[1].contains("^ /b wrong"),
            "{lines:?}"
        );
        let lines = marked("{\"a\":", &[("", "broken off")]);
        assert_eq!(lines, ["   | {\"a\":", "  fault     broken off"]);
    }
}
