//! What the workers go by once a description is compiled.
use serde_json::{Value, json};
use telltale_schemas::{
    td::{self, compile},
    thing::{Policy, ValueType},
};

fn described(more: &Value) -> Value {
    let bare = json!({
        "@context": td::CONTEXT,
        "id": "urn:dev:1",
        "title": "T",
        "securityDefinitions": {"none": {"scheme": "nosec"}},
        "security": "none",
    });
    td::merge::patch(bare, more)
}

/// The policy of a thing that has these properties.
#[track_caller]
fn policy(properties: &Value) -> Policy {
    let mut td = described(&json!({"properties": properties}));
    for property in td["properties"].as_object_mut().unwrap().values_mut() {
        property["forms"] = json!([{"href": "/p"}]);
    }
    assert_eq!(td::check(&td), []);
    compile(&td).policy
}

#[test]
fn a_property_of_a_description_becomes_one_of_the_policy() {
    let policy = policy(&json!({
        "t": {
            "type": "number", "unit": "\u{b0}C", "minimum": -40, "exclusiveMaximum": 80.5, "readOnly": true,
            "telltale:missing": [-200, "n/a", false],
        },
        "mode": {"type": "string", "enum": ["a", "b"], "writeOnly": true, "unit": "Cel"},
        "any": {"enum": ["a", null, 1]},
    }));
    let t = &policy.properties["t"];
    assert_eq!(
        (t.kind, t.unit.as_deref()),
        (Some(ValueType::Number), Some("\u{b0}C"))
    );
    assert_eq!((t.minimum, t.maximum), (Some(-40.0), None));
    assert_eq!((t.exclusive_minimum, t.exclusive_maximum), (None, Some(80.5)));
    assert!(t.read_only && !t.write_only);
    assert_eq!(t.missing, [json!(-200), json!("n/a"), json!(false)]);
    let mode = &policy.properties["mode"];
    assert_eq!(mode.values, [json!("a"), json!("b")]);
    assert!(mode.write_only && mode.unit.is_none());
    let any = &policy.properties["any"].values;
    assert_eq!(*any, [json!("a"), json!(1)], "a missing value is always allowed");
}

#[test]
fn an_object_becomes_what_its_records_are_called() {
    let policy = policy(&json!({
        "road": {"type": "object", "readOnly": true, "properties": {
            "temperature": {"type": "number", "maximum": 80},
            "wind": {"type": "object", "properties": {"speed": {"type": "number"}}},
        }},
        "free": {"type": "object"},
        "lanes": {"type": "array"},
        "no name of a record": {"type": "number"},
    }));
    let names: Vec<&str> = policy.properties.keys().map(String::as_str).collect();
    assert_eq!(names, ["free", "lanes", "road.temperature", "road.wind.speed"]);
    assert!(
        policy.properties["road.wind.speed"].read_only,
        "as the object around it"
    );
    assert_eq!(policy.properties["free"].kind, None);
}

#[test]
fn a_constant_and_a_choice_of_constants_are_values() {
    let policy = policy(&json!({
        "a": {"const": 7},
        "b": {"oneOf": [{"const": "x", "title": "X"}, {"const": "y"}]},
        "c": {"oneOf": [{"const": "x"}, {"type": "string"}]},
        "d": {"enum": [{"x": 1}, 2]},
    }));
    assert_eq!(policy.properties["a"].values, [json!(7)]);
    assert_eq!(policy.properties["b"].values, [json!("x"), json!("y")]);
    assert!(policy.properties["c"].values.is_empty());
    assert!(
        policy.properties["d"].values.is_empty(),
        "no record has an object for a value"
    );
}

#[test]
fn our_own_terms_become_the_policy_of_the_thing() {
    let td = described(&json!({
        "telltale:late": "36h", "telltale:ahead": "90s", "telltale:interval": 600, "telltale:sequenced": true,
    }));
    assert_eq!(td::check(&td), []);
    let policy = compile(&td).policy;
    assert_eq!(
        (policy.late.as_deref(), policy.ahead.as_deref()),
        (Some("36h"), Some("90s"))
    );
    assert_eq!((policy.interval, policy.sequenced), (Some(600.0), true));
    assert!(
        policy.declared && policy.properties.is_empty(),
        "nothing is what it declares"
    );
}

#[test]
fn a_unit_that_nobody_knows_is_left_alone() {
    let td = described(&json!({"properties": {
        "a": {"unit": "widgets", "maximum": 3, "forms": [{"href": "/a"}]},
        "b": {"unit": "widgets", "ucum": "{widget}", "forms": [{"href": "/b"}]},
        "c": {"unit": "mbar", "ucum": "mbar", "forms": [{"href": "/c"}]},
    }}));
    let compiled = compile(&td);
    assert_eq!(compiled.policy.properties["a"].unit, None);
    assert_eq!(compiled.policy.properties["a"].maximum, Some(3.0));
    assert_eq!(
        compiled.annotation["properties"],
        json!({"b": {"ucum": "{widget}"}, "c": {"ucum": "Pa"}}),
        "records are in primary units"
    );
}

#[test]
fn where_a_thing_is_is_found_in_the_ways_that_people_write_it() {
    let point = json!({"type": "Point", "coordinates": [7.1, 43.6]});
    for told in [
        json!({"location": {"type": "Point", "coordinates": [7.1, 43.6]}}),
        json!({"geo:lat": 43.6, "geo:long": "7.1"}),
        json!({"geo": {"lat": 43.6, "lon": 7.1}}),
        json!({"schema:geo": {"@type": "schema:GeoCoordinates", "schema:latitude": 43.6, "schema:longitude": 7.1}}),
        json!({"geo:location": {"latitude": {"@value": "43.6"}, "longitude": 7.1}}),
        json!({
            "@context": [td::CONTEXT, {"g": "http://www.w3.org/2003/01/geo/wgs84_pos#"}],
            "g:lat": 43.6, "g:long": 7.1,
        }),
    ] {
        let td = described(&told);
        assert_eq!(td::check(&td), [], "{td}");
        assert_eq!(compile(&td).annotation["location"], point, "{td}");
    }
    for told in [
        json!({"location": "in the kitchen"}),
        json!({"latitude": 43.6, "longitude": 7.1}),
        json!({"geo": {"room": 7}}),
    ] {
        let td = described(&told);
        assert_eq!(td::check(&td), [], "{td}");
        assert!(compile(&td).annotation.is_empty(), "{td}");
    }
}

#[test]
fn what_it_is_about_and_mounted_on_are_uris() {
    let td = described(&json!({
        "@context": [td::CONTEXT, {"road": "urn:road:"}],
        "sosa:hasFeatureOfInterest": {"@id": "road:A8"},
        "sosa:isHostedBy": ["urn:pole:7"],
        "properties": {
            "a": {"@type": ["Heat", "sosa:ObservableProperty", "road:Heat"], "forms": [{"href": "/a"}]},
            "b": {"sosa:observes": "road:Cold", "@type": "road:Heat", "forms": [{"href": "/b"}]},
        },
    }));
    assert_eq!(td::check(&td), []);
    assert_eq!(
        Value::from(compile(&td).annotation),
        json!({
            "foi": "urn:road:A8",
            "platform": "urn:pole:7",
            "properties": {"a": {"observed": "urn:road:Heat"}, "b": {"observed": "urn:road:Cold"}},
        })
    );
    let td = described(
        &json!({"sosa:hasFeatureOfInterest": "the road", "sosa:isHostedBy": {"rdfs:label": "pole"}}),
    );
    assert!(compile(&td).annotation.is_empty());
}

#[test]
fn tests_of_quality_go_along_and_where_an_object_may_be_is_said_of_its_latitude() {
    let tests = json!({"flat_line": {"tolerance": 0.1, "fail": "2h"}, "spike": {"suspect": 3.0}});
    let place = json!({"bbox": [7.0, 43.0, 8.0, 44.0], "max_speed": 60.0});
    let policy = policy(&json!({
        "level": {"type": "number", "telltale:quality": tests},
        "position": {"type": "object", "telltale:quality": {"location": place}, "properties": {
            "alt": {"type": "number"}, "lat": {"type": "number"}, "lon": {"type": "number"},
        }},
    }));
    let written = serde_json::to_value(&policy).unwrap();
    let of = |name: &str| &written["properties"][name]["quality"];
    assert_eq!(of("level")["flat_line"], tests["flat_line"]);
    assert_eq!(of("level")["spike"], json!({"method": "average", "suspect": 3.0}));
    assert_eq!(*of("position.lat"), json!({ "location": place }));
    assert_eq!((of("position.lon"), of("position")), (&Value::Null, &Value::Null));
    assert_eq!(
        policy
            .location_of("position.lat")
            .and_then(|place| place.max_speed),
        Some(60.0)
    );
}
