//! Data schemas: values of the type that they say, and bounds in order.
use super::AFFORDANCES;
use crate::{kinds::Fault, refusal::shown, td::place::Place};
use serde_json::Value;

/// What must not be more than what.
const ORDERED: [(&str, &str); 6] = [
    ("minimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
    ("exclusiveMinimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
    ("minItems", "maxItems"),
    ("minLength", "maxLength"),
];

pub(super) fn check(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    for (_, property) in whole.members_of("properties") {
        schema(&property, faults);
    }
    let inside: [(&str, &[&str]); 2] = [
        ("actions", &["input", "output"]),
        (
            "events",
            &["subscription", "data", "dataResponse", "cancellation"],
        ),
    ];
    for (kind, words) in inside {
        for (_, affordance) in whole.members_of(kind) {
            for place in words.iter().filter_map(|word| affordance.member(word)) {
                schema(&place, faults);
            }
        }
    }
    for (_, definition) in whole.members_of("schemaDefinitions") {
        schema(&definition, faults);
    }
    variables(whole, faults);
    for (_, affordance) in AFFORDANCES.iter().flat_map(|kind| whole.members_of(kind)) {
        variables(&affordance, faults);
    }
}

/// A variable of a URI is a text in the end: it cannot be an object or an array (TD 1.1 §5.3.1.2).
fn variables(place: &Place<'_>, faults: &mut Vec<Fault>) {
    for (_, variable) in place.members_of("uriVariables") {
        schema(&variable, faults);
        let kind = variable.member("type");
        if let Some(kind) = kind.filter(|kind| matches!(kind.value.as_str(), Some("object" | "array"))) {
            faults.push(kind.fault("a variable of a URI cannot be an object or an array"));
        }
    }
}

fn schema(place: &Place<'_>, faults: &mut Vec<Fault>) {
    if let Some(kind) = place.text("type") {
        let values = place.items_of("enum").into_iter().chain(place.member("const"));
        for value in values.filter(|value| !is_of(kind, value.value)) {
            let message = format!("{} is no {kind}", shown(&value.value.to_string()));
            faults.push(value.fault(message));
        }
    }
    for (low, high) in ORDERED {
        if let (Some(least), Some(most)) = (place.number(low), place.number(high))
            && least > most
        {
            let message = format!("{low} {least} is more than {high} {most}");
            faults.push(Fault::at(format!("{}/{low}", place.pointer), message));
        }
    }
    if place.flag("readOnly")
        && place.flag("writeOnly")
        && let Some(both) = place.member("writeOnly")
    {
        faults.push(both.fault("`readOnly` and `writeOnly`: nothing could be done with it"));
    }
    for inner in place.items_of("oneOf") {
        schema(&inner, faults);
    }
    for items in place
        .member("items")
        .into_iter()
        .flat_map(|items| items.one_or_several())
    {
        schema(&items, faults);
    }
    // Of an object its members; the properties of the description itself come from elsewhere.
    for (_, inner) in place.members_of("properties") {
        schema(&inner, faults);
    }
}

/// Whether a value is of that JSON Schema type.
fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        // The schema has said already that there is no such type.
        _ => true,
    }
}
