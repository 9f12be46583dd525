//! Our Thing Models: each makes a thing that is a description by the schema of the W3C, and that readings fit.
use crate::td::{assert_valid, serve, w3c};
use serde_json::{Map, Value, json};
use telltale_schemas::{
    td::{
        self,
        infer::Observed,
        model::{instantiate, models, named},
    },
    thing::ValueType,
};

fn values(values: Value) -> Map<String, Value> {
    serde_json::from_value(values).unwrap()
}

/// Of each model one thing with as little told as can be, and one with all.
fn things() -> Vec<(&'static str, Value)> {
    let mut things = Vec::new();
    for model in models() {
        let name = model.name;
        let whole = model.value();
        let told: Map<String, Value> = whole["telltale:placeholders"]
            .as_object()
            .unwrap()
            .keys()
            .map(|placeholder| {
                let value = match placeholder.as_str() {
                    "FEATURE" => json!("urn:road:A8:km42"),
                    "LATITUDE" => json!(43.61622),
                    "LONGITUDE" => json!(7.05235),
                    _ => json!(7),
                };
                (placeholder.clone(), value)
            })
            .collect();
        for (title, told) in [(None, Map::new()), (Some("The one at the bridge"), told)] {
            let td = instantiate(&whole, "lamp 7", title, &told);
            things.push((name, td.unwrap_or_else(|faults| panic!("{name}: {faults:?}"))));
        }
    }
    things
}

#[test]
fn there_are_models_of_what_stands_beside_a_road_and_drives_on_it() {
    let names: Vec<&str> = models().iter().map(|model| model.name).collect();
    assert_eq!(
        names,
        [
            "lamp",
            "roadside-pillar",
            "traffic-detector",
            "vehicle",
            "weather-station"
        ]
    );
    assert_eq!(named("lamp").map(|model| model.name), Some("lamp"));
    assert_eq!(named("toaster"), None);
}

#[test]
fn each_model_makes_descriptions_by_the_schema_of_the_w3c() {
    for (name, td) in things() {
        assert_eq!(td["id"], "urn:telltale:thing:lamp%207", "{name}");
        let link = json!({"rel": "type", "href": format!("urn:telltale:model:{name}"), "type": "application/tm+json"});
        assert_eq!(td["links"], json!([link]), "{name}");
        let text = td.to_string();
        assert!(!text.contains("{{") && !text.contains("\"tm:"), "{name}: {text}");
        if let Some(w3c) = w3c() {
            assert_valid(&w3c, &td, name);
            assert_valid(&w3c, &serve(&td), name);
        }
    }
}

#[test]
fn what_is_proposed_for_a_device_that_only_speaks_is_a_description_by_the_schema_of_the_w3c() {
    let Some(w3c) = w3c() else { return };
    let proposed = td::infer(&Observed::of("kitchen"));
    assert_valid(&w3c, &serve(&proposed), "kitchen");
}

#[test]
fn each_unit_of_a_model_is_known_and_each_property_declared() {
    for (name, td) in things() {
        let compiled = td::compile(&td);
        assert!(compiled.policy.declared, "{name}");
        for (property, told) in td["properties"].as_object().unwrap() {
            let policy = compiled.policy.properties.get(property);
            let policy = policy.unwrap_or_else(|| panic!("{name}: {property}"));
            assert_eq!(
                policy.unit.is_some(),
                told.get("unit").is_some(),
                "{name}: {property}"
            );
            assert!(policy.kind.is_some(), "{name}: {property}");
        }
    }
}

#[test]
fn a_thing_from_a_model_has_what_it_was_told() {
    let model = named("weather-station").unwrap().value();
    let told =
        values(json!({"LATITUDE": 43.6, "LONGITUDE": 7.1, "FEATURE": "urn:road:A8:km42", "MISSING": -200}));
    let td = instantiate(&model, "urn:dev:road:17", Some("Bridge 17"), &told).unwrap();
    assert_eq!(
        (&td["title"], &td["@type"]),
        (&json!("Bridge 17"), &json!("sosa:Platform"))
    );
    let compiled = td::compile(&td);
    let temperature = &compiled.policy.properties["surface_temperature"];
    assert_eq!(
        (temperature.kind, temperature.maximum),
        (Some(ValueType::Number), Some(80.0))
    );
    assert_eq!(temperature.missing, [json!(-200)], "a number stays one");
    assert_eq!(compiled.annotation["foi"], "urn:road:A8:km42");
    assert_eq!(
        compiled.annotation["location"],
        json!({"type": "Point", "coordinates": [7.1, 43.6]})
    );
    assert_eq!(
        compiled.annotation["properties"]["surface_temperature"],
        json!({"observed": "http://vocab.nerc.ac.uk/standard_name/surface_temperature", "ucum": "Cel"})
    );
}

#[test]
fn a_thing_that_was_told_no_place_has_none() {
    let td = instantiate(&named("lamp").unwrap().value(), "lamp-7", None, &Map::new()).unwrap();
    assert!(td.get("location").is_none());
    assert!(td::compile(&td).annotation.get("location").is_none());
    assert_eq!(td["properties"]["power"]["maximum"], 400, "a default");
}

#[test]
fn what_is_wrong_with_a_model_or_its_values_is_told_with_its_place() {
    let lamp = named("lamp").unwrap().value();
    let model = |more: Value| {
        let bare = json!({"@context": td::CONTEXT, "@type": "tm:ThingModel", "title": "M {{A}}"});
        td::merge::patch(bare, &more)
    };
    let told = json!({"A": "x"});
    for (model, id, told, place) in [
        (
            lamp.clone(),
            "l",
            json!({"LATITUDE": 7.0, "LONGITUDE": 143.0, "POWR": 3}),
            "/telltale:placeholders",
        ),
        (
            lamp.clone(),
            "l",
            json!({"LATITUDE": 143.0, "LONGITUDE": 7.0}),
            "/location/coordinates/1",
        ),
        (lamp.clone(), "_l", json!({}), "/id"),
        (lamp, &"l".repeat(65), json!({}), "/id"),
        (model(json!({})), "l", json!({}), "/telltale:placeholders/A"),
        (model(json!({"@type": "Thing"})), "l", told.clone(), "/@type"),
        (
            model(json!({"links": [{"rel": "tm:extends", "href": "x"}]})),
            "l",
            told.clone(),
            "/links/0/rel",
        ),
        (
            model(json!({"properties": {"p": {"tm:ref": "#/nowhere"}}})),
            "l",
            told,
            "/properties/p/tm:ref",
        ),
    ] {
        let faults = instantiate(&model, id, None, &values(told)).expect_err(place);
        assert!(
            faults.iter().any(|fault| fault.pointer == place),
            "{place}: {faults:?}"
        );
    }
}

#[test]
fn a_reference_inside_a_model_is_followed_and_what_stands_beside_it_wins() {
    let model = json!({
        "@context": td::CONTEXT,
        "@type": ["tm:ThingModel"],
        "title": "Two of a kind",
        "tm:optional": ["/properties/c"],
        "properties": {
            "a": {"type": "number", "unit": "Cel", "maximum": 60},
            "b": {"tm:ref": "#/properties/a", "maximum": 80, "unit": null},
            "c": {"const": "{{C}}"},
        },
    });
    let td = instantiate(&model, "urn:dev:1", None, &Map::new()).unwrap();
    let property = &td["properties"]["b"];
    assert_eq!(
        (&property["type"], &property["maximum"]),
        (&json!("number"), &json!(80))
    );
    assert!(property.get("unit").is_none());
    assert!(td.get("@type").is_none());
    assert!(
        td["properties"].get("c").is_none(),
        "optional, and without its value"
    );
}
