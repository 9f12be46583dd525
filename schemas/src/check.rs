//! The JSON Schemas of `schemas/json`, compiled once.
use crate::{
    Kind,
    kinds::Fault,
    refusal::{FAULTS_MAX, shown},
};
use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The contract itself, file by file: name and text.
pub const FILES: [(&str, &str); 11] = [
    (
        "envelope.v1.schema.json",
        include_str!("../json/envelope.v1.schema.json"),
    ),
    (
        "record.v1.schema.json",
        include_str!("../json/record.v1.schema.json"),
    ),
    (
        "thing.v1.schema.json",
        include_str!("../json/thing.v1.schema.json"),
    ),
    (
        "reading.v1.schema.json",
        include_str!("../json/reading.v1.schema.json"),
    ),
    (
        "observation.v1.schema.json",
        include_str!("../json/observation.v1.schema.json"),
    ),
    (
        "derivation.v1.schema.json",
        include_str!("../json/derivation.v1.schema.json"),
    ),
    (
        "event.v1.schema.json",
        include_str!("../json/event.v1.schema.json"),
    ),
    (
        "command.v1.schema.json",
        include_str!("../json/command.v1.schema.json"),
    ),
    (
        "outcome.v1.schema.json",
        include_str!("../json/outcome.v1.schema.json"),
    ),
    (
        "registration.v1.schema.json",
        include_str!("../json/registration.v1.schema.json"),
    ),
    (
        "quarantine.v1.schema.json",
        include_str!("../json/quarantine.v1.schema.json"),
    ),
];

/// Where the files live for each other. Nothing is ever fetched from there.
const BASE: &str = "telltale:/schemas/";

/// What is wrong with a whole message of that kind; empty if nothing is.
pub fn envelope(kind: Kind, document: &Value) -> Vec<Fault> {
    faults(&SCHEMAS.of(kind).envelope, document)
}

/// What is wrong with the data of that kind; empty if nothing is.
pub fn data(kind: Kind, data: &Value) -> Vec<Fault> {
    faults(&SCHEMAS.of(kind).data, data)
}

/// What is wrong with an entry of the `things` bucket; empty if nothing is.
pub fn thing_entry(entry: &Value) -> Vec<Fault> {
    let mut faults = faults(&SCHEMAS.thing, entry);
    if faults.is_empty() {
        crate::thing::check_meaning(entry, &mut faults);
    }
    faults
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::compile);

struct Schemas {
    kinds: Vec<OfKind>,
    thing: Validator,
}

struct OfKind {
    envelope: Validator,
    data: Validator,
}

impl Schemas {
    fn compile() -> Self {
        let files = FILES.map(|(name, text)| {
            let schema: Value = serde_json::from_str(text).expect("our schema files are JSON");
            (format!("{BASE}{name}"), schema)
        });
        let registry = Registry::new()
            .extend(files)
            .and_then(jsonschema::RegistryBuilder::prepare)
            .expect("our schema files refer to each other only");
        let compile = |name: &str| {
            jsonschema::options()
                .with_registry(&registry)
                .with_pattern_options(PatternOptions::regex())
                .should_validate_formats(true)
                .offline()
                .build(&json!({ "$ref": format!("{BASE}{name}") }))
                .expect("our schema files are JSON Schema 2020-12")
        };
        let of = |kind: Kind| OfKind {
            envelope: compile(&format!("{}.v1.schema.json", kind.word())),
            data: compile(&format!("{}.v1.schema.json#/$defs/data", kind.word())),
        };
        Self {
            kinds: Kind::ALL.into_iter().map(of).collect(),
            thing: compile("thing.v1.schema.json"),
        }
    }

    fn of(&self, kind: Kind) -> &OfKind {
        let at = Kind::ALL.iter().position(|other| *other == kind);
        let of_kind = at.and_then(|at| self.kinds.get(at));
        of_kind.expect("compiled for each of Kind::ALL")
    }
}

fn faults(validator: &Validator, document: &Value) -> Vec<Fault> {
    // Most documents are right, and finding that out is much cheaper than collecting what is wrong.
    if validator.is_valid(document) {
        return Vec::new();
    }
    let errors = validator.iter_errors(document).take(FAULTS_MAX);
    errors
        .map(|error| Fault::at(error.instance_path().as_str(), shown(&error.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_compile_and_refuse_nonsense() {
        for kind in Kind::ALL {
            assert!(!envelope(kind, &json!({})).is_empty(), "{kind:?}");
            assert!(!data(kind, &json!([])).is_empty(), "{kind:?}");
        }
        assert!(!thing_entry(&json!({})).is_empty());
        assert!(thing_entry(&json!({ "thing": "t" })).is_empty());
        assert_eq!(
            data(Kind::Reading, &json!({ "records": [{ "n": "a", "v": 1 }] })),
            []
        );
    }

    #[test]
    fn the_units_of_the_record_schema_are_those_that_we_convert_to() {
        let (_, text) = FILES[1];
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["properties"]["u"]["enum"], json!(crate::units::PRIMARY));
    }
}
