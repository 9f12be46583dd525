//! The JSON Schemas of `schemas/json`, compiled once.
use crate::{
    Kind,
    kinds::Fault,
    refusal::{FAULTS_MAX, cut, push_segment, shown},
};
use jsonschema::{PatternOptions, Registry, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The contract itself, file by file: name and text.
pub const FILES: [(&str, &str); 13] = [
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
    (
        "thing-description.v1.schema.json",
        include_str!("../json/thing-description.v1.schema.json"),
    ),
    ("rule.v1.schema.json", include_str!("../json/rule.v1.schema.json")),
];

/// Where the files are for each other while they are compiled; they refer to each other by file name alone, so that
/// any validator that is given the folder can follow. Nothing is ever fetched.
const BASE: &str = "telltale:/schemas/";

/// Longest message of the schema checker's that is repeated, in characters: it may quote the whole document.
const MESSAGE_MAX: usize = 200;

/// What is wrong with a whole message of that kind; empty if nothing is.
pub fn envelope(kind: Kind, document: &Value) -> Vec<Fault> {
    faults(&SCHEMAS.of(kind).envelope, document)
}

/// What is wrong with the data of that kind; empty if nothing is.
pub fn data(kind: Kind, data: &Value) -> Vec<Fault> {
    faults(&SCHEMAS.of(kind).data, data)
}

/// What is wrong with a message of ours, whatever its kind; empty if nothing is.
pub fn message(document: &Value) -> Vec<Fault> {
    let event_type = document.get("type").and_then(Value::as_str);
    match event_type.map(|event_type| (event_type, Kind::of_event_type(event_type))) {
        Some((_, Some(kind))) => envelope(kind, document),
        Some((event_type, None)) => {
            let message = format!("`{}` is no type of ours", shown(event_type));
            vec![Fault::at("/type", message)]
        }
        None => vec![Fault::at("", "a message without a `type`")],
    }
}

/// What is wrong with one resolved record; empty if nothing is.
pub fn record(record: &Value) -> Vec<Fault> {
    faults(&SCHEMAS.record, record)
}

/// What is wrong with an entry of the `things` bucket; empty if nothing is.
pub fn thing_entry(entry: &Value) -> Vec<Fault> {
    let mut faults = faults(&SCHEMAS.thing, entry);
    if faults.is_empty() {
        crate::thing::check_meaning(entry, &mut faults);
    }
    faults
}

/// What is wrong with the tests of a property, as an entry has them; empty if nothing is.
pub(crate) fn quality(quality: &Value) -> Vec<Fault> {
    let entry = serde_json::json!({"thing": "t", "policy": {"properties": {"p": {"quality": quality}}}});
    let mut faults = thing_entry(&entry);
    for fault in &mut faults {
        fault.pointer = fault.pointer.replacen("/policy/properties/p/quality", "", 1);
    }
    faults
}

/// What is wrong with an entry of the `rules` bucket, its CEL apart; empty if nothing is.
pub fn rule(rule: &Value) -> Vec<Fault> {
    let mut faults = faults(&SCHEMAS.rule, rule);
    if faults.is_empty() {
        crate::rule::check_meaning(rule, &mut faults);
    }
    faults
}

/// What the schema finds wrong with a Thing Description; [`crate::td::check`] knows the rest. The place of what is
/// missing is where it should be.
pub(crate) fn thing_description(td: &Value) -> Vec<Fault> {
    let validator = &SCHEMAS.thing_description;
    if validator.is_valid(td) {
        return Vec::new();
    }
    let errors = validator.iter_errors(td).take(FAULTS_MAX);
    let faults = errors.map(|error| {
        let mut fault = fault(&error);
        if let ValidationErrorKind::Required { property } = error.kind() {
            push_segment(&mut fault.pointer, property.as_str().unwrap_or_default());
        }
        fault
    });
    faults.collect()
}

/// Whether it is a URI (RFC 3986), with its scheme.
pub(crate) fn is_uri(text: &str) -> bool {
    SCHEMAS.uri.is_valid(&Value::from(text))
}

/// What is wrong with a value by a data schema of a Thing Description (JSON Schema draft 7, of which it is a part), or
/// why that cannot be told: the schema comes from a stranger.
pub fn against(schema: &Value, value: &Value) -> Result<Vec<Fault>, String> {
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .with_pattern_options(PatternOptions::regex())
        .offline()
        .build(schema)
        .map_err(|error| cut(&error.to_string(), MESSAGE_MAX))?;
    Ok(faults(&validator, value))
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::compile);

struct Schemas {
    kinds: Vec<OfKind>,
    record: Validator,
    thing: Validator,
    thing_description: Validator,
    rule: Validator,
    uri: Validator,
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
            record: compile("record.v1.schema.json"),
            thing: compile("thing.v1.schema.json"),
            thing_description: compile("thing-description.v1.schema.json"),
            rule: compile("rule.v1.schema.json"),
            uri: compile("thing.v1.schema.json#/$defs/annotation/properties/foi"),
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
    errors.map(|error| fault(&error)).collect()
}

fn fault(error: &ValidationError<'_>) -> Fault {
    let mut pointer = error.instance_path().as_str().to_owned();
    // What should not be there is the place, not the object that it is in.
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind()
        && let Some(member) = unexpected.first()
    {
        push_segment(&mut pointer, member);
    }
    Fault::at(pointer, cut(&error.to_string(), MESSAGE_MAX))
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
    fn a_value_is_judged_by_a_data_schema_and_a_schema_that_is_none_is_told() {
        let schema = json!({ "type": "object", "properties": { "level": { "maximum": 1 } }, "unit": "%", "forms": [] });
        assert_eq!(against(&schema, &json!({ "level": 1 })), Ok(vec![]));
        assert_eq!(
            against(&schema, &json!({ "level": 2 })).unwrap()[0].pointer,
            "/level"
        );
        for none in [
            json!({ "type": 7 }),
            json!({ "$ref": "http://127.0.0.1:1/x" }),
            json!({ "pattern": "(?=a)" }),
        ] {
            assert!(against(&none, &json!("a")).is_err(), "{none}");
        }
    }

    #[test]
    fn a_schema_refers_to_files_beside_it_alone() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        for (name, text) in FILES {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
                "{name}"
            );
            let mut found = Vec::new();
            references(&schema, &mut found);
            for reference in found {
                let file = reference.split('#').next().unwrap_or_default();
                assert!(
                    file.is_empty() || FILES.iter().any(|(known, _)| *known == file),
                    "{name}: {reference}"
                );
            }
        }
    }

    #[test]
    fn the_units_of_the_record_schema_are_those_that_we_convert_to() {
        let (_, text) = FILES[1];
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["properties"]["u"]["enum"], json!(crate::units::PRIMARY));
    }
}
