//! `schemas/examples`: each `ok-` is accepted and survives its Rust type; each `bad-` is refused in its place.
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fs, path::PathBuf};
use telltale_schemas::{
    Command, Derivation, Envelope, Event, Kind, Observation, Outcome, Quarantine, Reading, Record,
    Registration,
    check::{self, FILES},
    kinds::Fault,
    rule::Rule,
    td,
    thing::Entry,
};

/// A schema's word, and what it says and what Rust makes of a document.
struct Subject {
    word: &'static str,
    check: fn(&Value) -> Vec<Fault>,
    round_trip: fn(&Value) -> Value,
}

fn round_trip<T: Serialize + DeserializeOwned>(document: &Value) -> Value {
    let text = document.to_string();
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
    serde_json::to_value(read).unwrap()
}

fn of_kind<D: telltale_schemas::Document>() -> Subject {
    Subject {
        word: D::KIND.word(),
        check: |document| {
            let faults = check::envelope(D::KIND, document);
            if faults.is_empty() {
                assert_eq!(check::data(D::KIND, &document["data"]), []);
            }
            faults
        },
        round_trip: round_trip::<Envelope<D>>,
    }
}

fn subjects() -> Vec<Subject> {
    vec![
        of_kind::<Reading>(),
        of_kind::<Observation>(),
        of_kind::<Derivation>(),
        of_kind::<Event>(),
        of_kind::<Command>(),
        of_kind::<Outcome>(),
        of_kind::<Registration>(),
        of_kind::<Quarantine>(),
        Subject {
            word: "envelope",
            check: check::message,
            round_trip: round_trip::<Value>,
        },
        Subject {
            word: "record",
            check: check::record,
            round_trip: round_trip::<Record>,
        },
        Subject {
            word: "thing",
            check: check::thing_entry,
            round_trip: round_trip::<Entry>,
        },
        Subject {
            word: "rule",
            check: check::rule,
            round_trip: round_trip::<Rule>,
        },
        Subject {
            word: "thing-description",
            check: td::check,
            round_trip: round_trip::<Value>,
        },
    ]
}

/// The examples of that schema whose names begin so.
fn examples(word: &str, prefix: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(word);
    let mut found: Vec<(String, Value)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| {
            let name = format!("{word}/{}", entry.file_name().to_string_lossy());
            let text = fs::read(entry.path()).unwrap();
            (name, serde_json::from_slice(&text).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn each_ok_example_is_accepted_and_survives_its_rust_type() {
    for subject in subjects() {
        let examples = examples(subject.word, "ok-");
        assert!(examples.len() >= 2, "{} has two good examples", subject.word);
        for (name, document) in examples {
            assert_eq!((subject.check)(&document), [], "{name}");
            let back = (subject.round_trip)(&document);
            // Numbers are compared as doubles: `1` and `1.0` are one value.
            assert_eq!(as_doubles(back), as_doubles(document), "{name}");
        }
    }
}

#[test]
fn each_bad_example_is_refused_in_its_place() {
    for subject in subjects() {
        let examples = examples(subject.word, "bad-");
        assert!(examples.len() >= 2, "{} has two bad examples", subject.word);
        for (name, example) in examples {
            let faults = (subject.check)(&example["document"]);
            let pointer = example["pointer"]
                .as_str()
                .unwrap_or_else(|| panic!("{name} has no pointer"));
            assert!(
                faults.iter().any(|fault| fault.pointer == pointer),
                "{name} is not refused at `{pointer}`, but for {faults:?}"
            );
        }
    }
}

#[test]
fn what_a_newer_worker_adds_passes_an_older_one() {
    let (name, document) = examples("envelope", "ok-newer").remove(0);
    let reading: Envelope<Reading> = serde_json::from_value(document).expect(&name);
    assert_eq!(reading.data.value("surface_temperature"), Some(-0.85));
}

#[test]
fn each_schema_has_examples_and_each_folder_a_schema() {
    let words: Vec<String> = subjects().iter().map(|subject| subject.word.to_owned()).collect();
    for (file, _) in FILES {
        let word = file.strip_suffix(".v1.schema.json").unwrap();
        assert!(words.iter().any(|known| known == word), "{file} has no examples");
    }
    assert_eq!(words.len(), FILES.len());
    for kind in Kind::ALL {
        assert!(words.iter().any(|known| known == kind.word()), "{kind:?}");
    }
}

fn as_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(as_doubles).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, as_doubles(value)))
            .collect(),
        other => other,
    }
}
