//! Descriptions that others wrote, and the schema that the W3C publishes.
use super::site::{DISCOVERY, Site, TD, escaped};
use jsonschema::Validator;
use serde_json::Value;
use std::{fs, path::PathBuf};

/// The W3C's schema of Thing Descriptions 1.1, where it is at hand.
pub(super) fn schema() -> Option<Validator> {
    let path = telltale_tests::data("td/td-1.1.schema.json")?;
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    Some(
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap(),
    )
}

/// The files of a folder, by name.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Some(folder) = telltale_tests::data(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    paths.into_iter().map(named).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_valid_description_of_others_is_taken_found_and_given_back_as_it_was() {
    let site = Site::start().await;
    let (Some(schema), valid) = (schema(), files("td/valid")) else {
        return;
    };
    assert!(valid.len() >= 20, "{}", valid.len());
    for (name, bytes) in valid {
        let original: Value = serde_json::from_slice(&bytes).unwrap();
        let created = site.http.post("/things", &[TD], &bytes).unwrap();
        assert_eq!(created.status, 201, "{name}: {created:?}");
        let location = created.header("location").next().unwrap();
        let served = site.get(location);
        assert_eq!(served.status, 200, "{name}");
        let faults: Vec<_> = schema.iter_errors(&served.body).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
        let contexts = served.body["@context"].as_array().unwrap();
        assert!(contexts.contains(&DISCOVERY.into()), "{name}: {contexts:?}");
        let id = served.body["id"].as_str().unwrap().to_owned();
        let mut back = site.unserved(served.body);
        if original.get("id").is_none() {
            back.as_object_mut().unwrap().remove("id");
        }
        // One context is the same by itself and in an array; which it was, is lost once another is beside it.
        let mut wanted = original.clone();
        if let Some([only]) = original["@context"].as_array().map(Vec::as_slice) {
            wanted["@context"] = only.clone();
        }
        assert_eq!(back, wanted, "{name}");

        let query = escaped(&format!("$[?@.id == '{id}'].title"));
        let found = site.get(&format!("/search/jsonpath?query={query}"));
        assert_eq!(found.body[0], original["title"], "{name}: {found:?}");
        if original.get("id").is_some() {
            let again = site.http.post("/things", &[TD], &bytes).unwrap();
            assert_eq!(again.status, 409, "{name}");
            let deleted = site.send("DELETE", location, &[], &Value::Null);
            assert_eq!(deleted.status, 204, "{name}: several have the same id");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invalid_description_of_others_is_refused_with_its_place() {
    let site = Site::start().await;
    for (name, bytes) in files("td/invalid") {
        let refused = site.http.post("/things", &[TD], &bytes).unwrap();
        assert_eq!(refused.status, 400, "{name}: {refused:?}");
        assert_eq!(refused.content_type, "application/problem+json");
        let first = &refused.body["errors"][0];
        assert!(
            first["pointer"].is_string() && first["message"].is_string(),
            "{name}: {refused:?}"
        );
        assert!(refused.body["validationErrors"][0]["field"].is_string(), "{name}");
    }
    assert_eq!(site.get("/things").text, "[]");
}
