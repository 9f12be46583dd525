//! Reads rules from a text; what is wrong is told with line and column, of the file and of the CEL in it.
use super::super::quarantine::pointed;
use serde_json::value::RawValue;
use std::ops::Range;
use telltale_process::{derive, rules};
use telltale_schemas::{
    rule::Rule,
    strict::{self, DEVICE},
};

/// One rule of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// As it stands in the file.
    pub(super) text: String,
    pub(super) rule: Rule,
}

/// The rules of a text: one object, an array, or one object after the other. All of them are right, or what is wrong
/// comes back, each as `<file>:<line>:<column>: …`.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Document>, Vec<String>> {
    let mut wrong = Vec::new();
    let mut documents: Vec<Document> = Vec::new();
    let places =
        places(text).map_err(|error| vec![format!("{file}:{}:{}: {error}", error.line(), error.column())])?;
    for place in places {
        let Some(slice) = text.get(place.clone()) else {
            continue;
        };
        match one(slice) {
            Ok(rule) if documents.iter().any(|known| known.rule.name == rule.name) => {
                let (line, column) = position(text, place.start);
                wrong.push(format!(
                    "{file}:{line}:{column}: rule `{}` comes twice",
                    rule.name
                ));
            }
            Ok(rule) => documents.push(Document {
                text: slice.to_owned(),
                rule,
            }),
            Err(faults) => {
                let told = faults.iter().map(|fault| {
                    let (line, column) = position(text, place.start + offset(slice, fault));
                    format!("{file}:{line}:{column}: {}", tell(fault))
                });
                wrong.extend(told);
            }
        }
    }
    if wrong.is_empty() {
        Ok(documents)
    } else {
        Err(wrong)
    }
}

fn one(text: &str) -> Result<Rule, Vec<rules::Wrong>> {
    let value = strict::parse(text.as_bytes(), &DEVICE).map_err(|refusal| {
        let faults = refusal.faults.into_iter();
        faults.map(rules::Wrong::from).collect::<Vec<_>>()
    })?;
    let (rule, _) = rules::ready(&value)?;
    derive::check(&rule)?;
    Ok(rule)
}

/// Where each rule stands in the text.
fn places(text: &str) -> Result<Vec<Range<usize>>, serde_json::Error> {
    let mut places = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    while let Some(value) = values.next() {
        let raw = value?.get();
        let end = values.byte_offset();
        let start = end.saturating_sub(raw.len());
        if raw.starts_with('[') {
            let items = (0..).map_while(|n| pointed::find(raw, &format!("/{n}")));
            places.extend(items.map(|item| start + item.start..start + item.end));
        } else {
            places.push(start..end);
        }
    }
    Ok(places)
}

/// Where in the document a fault is; the nearest place above it where it is about what is missing.
fn offset(text: &str, fault: &rules::Wrong) -> usize {
    let mut pointer = fault.pointer.as_str();
    while !pointer.is_empty() {
        if let Some(place) = pointed::find(text, pointer) {
            let string = text.get(place.clone()).unwrap_or_default();
            return place.start + fault.place.map_or(0, |place| inside(string, place));
        }
        pointer = pointer.rsplit_once('/').map_or("", |(above, _)| above);
    }
    0
}

/// Where in a JSON string, as it is written, that line and column of what it says is.
fn inside(string: &str, (line, column): (usize, usize)) -> usize {
    let (mut at_line, mut at_column, mut place) = (1, 1, 1);
    while (at_line, at_column) < (line, column) {
        let rest = string.get(place..).unwrap_or_default();
        let Some(first) = rest.chars().next().filter(|c| *c != '"') else {
            break;
        };
        let length = match rest.as_bytes() {
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => first.len_utf8(),
        };
        if rest.starts_with("\\n") {
            (at_line, at_column) = (at_line + 1, 1);
        } else {
            at_column += 1;
        }
        place += length;
    }
    place
}

/// Line and column, from 1, in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

fn tell(fault: &rules::Wrong) -> String {
    let told = format!("{} {}", fault.pointer, fault.message);
    match fault.place {
        Some((line, column)) => format!("{} (line {line}, column {column} of the expression)", told.trim()),
        None => told.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_an_array_and_lines_are_all_taken() {
        let rule = |name: &str| format!(r#"{{"name":"{name}","when":"v > 0.0","then":[{{"event":"e"}}]}}"#);
        for (text, count) in [
            (rule("a"), 1),
            (format!(" [{}, {}]\n", rule("a"), rule("b")), 2),
            (format!("{}\n\n{}\n", rule("a"), rule("b")), 2),
            (String::new(), 0),
        ] {
            let read = read("f", &text).unwrap();
            assert_eq!(read.len(), count, "{text}");
            if let Some(first) = read.first() {
                assert_eq!(
                    (first.text.as_str(), first.rule.name.as_str()),
                    (rule("a").as_str(), "a")
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_in_the_file_and_in_the_expression() {
        for (text, told) in [
            (
                "{\n  \"name\": \"a\",\n  \"when\": \"v > 0.0 && foo(v)\",\n  \"then\": [{\"event\": \"e\"}]\n}",
                "f:3:23: /when there is no function `foo` (line 1, column 12 of the expression)",
            ),
            (
                "{\"name\":\"a\",\"when\":\"t == \\\"é\\\" &&\\n  bad(t)\",\"then\":[{\"event\":\"e\"}]}",
                "f:1:38: /when there is no function `bad` (line 2, column 3 of the expression)",
            ),
            (
                "{\"name\":\"a\",\"when\":\"v > 0.0\",\"then\":[{\"event\":\"e\"}]}\n{\"name\":\"b\",\"when\":\"v > 0.0\",\n \"then\":[{\"derive\":\"x\",\"value\":\"v +\"}]}",
                "f:3:36: /then/0/value",
            ),
            (
                "{\"name\":\"a\",\n\"name\":\"b\"}",
                "f:2:8: /name key `name` comes twice",
            ),
            (
                "{\"name\":\"a\",\"when\":\"v > 0.0\",\n \"wehn\":1,\"then\":[{\"event\":\"e\"}]}",
                "f:2:9: /wehn",
            ),
            ("{\"name\":\"a\",\n \"when\"}", "f:2:8: expected `:`"),
        ] {
            let wrong = read("f", text).unwrap_err();
            assert!(
                wrong.iter().any(|line| line.starts_with(told)),
                "{told}\n{wrong:?}"
            );
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        let rule = r#"{"name":"a","when":"v > 0.0","then":[{"event":"e"}]}"#;
        assert_eq!(
            read("f", &format!("{rule}\n{rule}")).unwrap_err(),
            ["f:2:1: rule `a` comes twice"]
        );
    }
}
