//! Thing Descriptions of others: which of them we take, and that what we serve is one by the schema of the W3C.
use crate::others;
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use std::fs;
use telltale_schemas::{
    Timestamp, check,
    td::{
        self,
        forms::{self, Bases, Nats, Use},
    },
    thing::Registered,
};

/// The W3C's own schema of TD 1.1.
pub(crate) fn w3c() -> Option<Validator> {
    let text = fs::read(others::set("td")?.join("td-1.1.schema.json"))
        .expect("the schema is beside the descriptions");
    let schema = serde_json::from_slice(&text).expect("the schema is JSON");
    let options = jsonschema::options().with_draft(Draft::Draft7);
    let validator = options.should_validate_formats(true).offline().build(&schema);
    Some(validator.expect("the schema is of draft 7"))
}

#[track_caller]
pub(crate) fn assert_valid(w3c: &Validator, td: &Value, what: &str) {
    let errors: Vec<String> = w3c
        .iter_errors(td)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:?}");
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Some(data) = others::set("td") else {
        return Vec::new();
    };
    let mut files: Vec<_> = fs::read_dir(data.join(folder))
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read(file.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn valid() -> Vec<(String, Value)> {
    let files = files("valid").into_iter();
    files
        .map(|(name, text)| {
            let td = td::read(&text).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
            (name, td)
        })
        .collect()
}

/// The description with an `id`, as a directory gives one to what comes without.
fn named(mut td: Value) -> Value {
    if td.get("id").is_none() {
        td["id"] = "urn:uuid:8c1a0a2c-2f4e-4a3c-9c57-0f7a3d1b6e55".into();
    }
    td
}

pub(crate) fn registered() -> Registered {
    let at = Timestamp::parse("2026-01-15T07:41:09Z").unwrap();
    Registered {
        created: at,
        modified: at,
        expires: Some(at.plus_micros(60_000_000)),
        ttl: Some(60.0),
    }
}

pub(crate) fn subject(what: Use, name: &str) -> Option<String> {
    (!name.is_empty()).then(|| format!("{what:?}.site.thing.{name}").to_lowercase())
}

/// Bases of everything that we can speak.
pub(crate) fn everywhere() -> Bases<'static> {
    Bases {
        http: Some("http://127.0.0.1:8080"),
        mqtt: Some("mqtt://127.0.0.1:1883"),
        nats: Some(Nats {
            server: "nats://127.0.0.1:4222",
            subject: &subject,
        }),
    }
}

pub(crate) fn serve(td: &Value) -> Value {
    forms::serve(td, &everywhere(), &registered(), Timestamp::now())
}

#[test]
fn every_valid_description_of_others_is_taken_unchanged() {
    for (name, text) in files("valid") {
        let read = td::read(&text);
        let wanted: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, Ok(wanted), "{name}");
    }
}

#[test]
fn every_invalid_description_of_others_is_refused_in_its_place() {
    let places = [
        ("duplicateEnum.json", "/properties/status/enum"),
        (
            "duplicateSecurityDefinitions.json",
            "/securityDefinitions/basic_sc",
        ),
        ("emptyForm.json", "/events/overheating/forms"),
        ("emptySecDef.json", "/securityDefinitions"),
        ("invalidDataType.json", "/actions/status/input/type"),
        ("invalidOp.json", "/properties/brightness/forms/2/op/0"),
        ("invalidSecuScheme.json", "/securityDefinitions/basic_sc/scheme"),
        ("noContext.json", "/@context"),
        ("noForm2.json", "/actions/status/forms"),
        ("noHref.json", "/events/overheating/forms/0/href"),
        ("usingTM.json", "/properties/status/enum/0"),
    ];
    for (name, text) in files("invalid") {
        let place = places.iter().find(|(file, _)| *file == name);
        let (_, place) = place.unwrap_or_else(|| panic!("{name} is new: where is it wrong?"));
        let faults = td::read(&text).expect_err(&name);
        assert_eq!(
            faults.first().map(|fault| fault.pointer.as_str()),
            Some(*place),
            "{name}: {faults:?}"
        );
    }
}

#[test]
fn what_we_serve_is_a_description_by_the_schema_of_the_w3c_and_has_all_that_its_author_wrote() {
    let Some(w3c) = w3c() else { return };
    for (name, td) in valid() {
        let td = named(td);
        let mut served = serve(&td);
        assert_valid(&w3c, &served, &name);
        assert_eq!(td::check(&served), [], "{name}");
        forms::strip(&mut served, &everywhere());
        assert_eq!(served, td, "{name}");
    }
}

/// Every place in a document.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(member, &format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The document without what is in that place, and with other things in it.
fn spoiled(td: &Value, pointer: &str) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some((outer, name)) = pointer.rsplit_once('/') {
        let mut without = td.clone();
        match without.pointer_mut(outer) {
            Some(Value::Object(members)) => {
                members.remove(&name.replace("~1", "/").replace("~0", "~"));
            }
            Some(Value::Array(items)) => {
                items.remove(name.parse().unwrap());
            }
            _ => unreachable!("what is inside something is in an object or an array"),
        }
        all.push(without);
    }
    let others = json!([null, true, -7, "", "x", "a:b", [], {}, ["x"], [{}], {"x": 1}, "icon", "combo", "auto", "oauth2"]);
    for other in others.as_array().unwrap() {
        let mut with = td.clone();
        if let Some(place) = with.pointer_mut(pointer) {
            place.clone_from(other);
        }
        all.push(with);
    }
    all
}

#[test]
fn whatever_we_take_can_be_served_and_compiled() {
    let Some(w3c) = w3c() else { return };
    let (mut taken, mut refused) = (0, 0);
    for (name, td) in valid() {
        let mut pointers = Vec::new();
        places(&td, "", &mut pointers);
        for pointer in pointers {
            for spoiled in spoiled(&named(td.clone()), &pointer) {
                if !td::check(&spoiled).is_empty() {
                    refused += 1;
                    continue;
                }
                taken += 1;
                let what = format!("{name} with another `{pointer}`: {spoiled}");
                assert_valid(&w3c, &serve(&spoiled), &what);
                if spoiled.get("id").is_some() {
                    let entry = td::entry(spoiled, registered())
                        .unwrap_or_else(|faults| panic!("{what}: {faults:?}"));
                    assert_eq!(
                        check::thing_entry(&serde_json::to_value(entry).unwrap()),
                        [],
                        "{what}"
                    );
                }
            }
        }
    }
    assert!(
        taken > 1_000 && refused > 1_000,
        "{taken} taken, {refused} refused"
    );
}
