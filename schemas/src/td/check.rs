//! What a Thing Description must be: `schemas/json/thing-description.v1.schema.json`, and what no schema can say.
//!
//! Rules are those of W3C WoT TD 1.1 unless they say otherwise. What it leaves open is accepted: terms of other
//! vocabularies, units that we do not know, operations that contradict a hint.
mod data;
mod forms;
mod security;
mod terms;

use super::{LIMITS, TOKEN_MAX, place::Place, thing_name};
use crate::{
    kinds::Fault,
    refusal::{FAULTS_MAX, shown},
};
use serde_json::Value;

/// Most bytes that the schema of one property may have as JSON (DESIGN, «Limits»).
const PROPERTY_BYTES_MAX: usize = 16 * 1024;
/// The `@type` of a Thing Model, which is no description yet (TD 1.1 §9.2).
pub(super) const THING_MODEL: &str = "tm:ThingModel";

/// The kinds of affordance, by the member that they stand in.
pub(super) const AFFORDANCES: [&str; 3] = ["properties", "actions", "events"];

/// What is wrong with a Thing Description; empty if nothing is. At most 20 faults, each with its place: of a member
/// that is missing, where it should be.
pub fn check(td: &Value) -> Vec<Fault> {
    let mut faults = crate::check::thing_description(td);
    let whole = Place::root(td);
    let mut more = Vec::new();
    identity(&whole, &mut more);
    model_terms(&whole, &mut more);
    links(&whole, &mut more);
    sizes(&whole, &mut more);
    security::check(&whole, &mut more);
    forms::check(&whole, &mut more);
    data::check(&whole, &mut more);
    terms::check(&whole, &mut more);
    for fault in more {
        // What the schema says of a place comes first: the rest often follows from it.
        if !faults.iter().any(|known| known.pointer == fault.pointer) {
            faults.push(fault);
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}

/// The `id` becomes a token of subjects.
fn identity(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    let Some(id) = whole.member("id") else { return };
    let Some(text) = id.value.as_str() else { return };
    if thing_name(text).is_none() {
        faults.push(id.fault(format!(
            "`{}` cannot be the name of a thing: that is a URI of at most {TOKEN_MAX} bytes, each but letters, digits, \
             `-` and `_` counting three; or `{}` and a name that is none",
            shown(text),
            super::NAMED
        )));
    }
}

/// What only a Thing Model may have (TD 1.1 §9).
fn model_terms(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    for types in whole
        .member("@type")
        .into_iter()
        .flat_map(|types| types.one_or_several())
    {
        if types.value.as_str() == Some(THING_MODEL) {
            faults.push(types.fault("this is a Thing Model; make a thing from it first"));
        }
    }
    for (name, place) in whole.members() {
        if name.starts_with("tm:") {
            faults.push(place.fault(format!("`{}` belongs into Thing Models", shown(name))));
        }
    }
    for kind in AFFORDANCES {
        for (_, affordance) in whole.members_of(kind) {
            if let Some(reference) = affordance.member("tm:ref") {
                faults.push(reference.fault("`tm:ref` belongs into Thing Models"));
            }
        }
    }
}

/// A description is of one Thing Model at most (TD 1.1 §9.4).
fn links(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    let models = whole
        .items_of("links")
        .into_iter()
        .filter(|link| link.text("rel") == Some("type"));
    if let Some(second) = models.skip(1).find_map(|link| link.member("rel")) {
        faults.push(second.fault("a second link with rel `type`; a thing is made from one Thing Model"));
    }
}

fn sizes(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    for (_, property) in whole.members_of("properties") {
        let bytes = property.value.to_string().len();
        if bytes > PROPERTY_BYTES_MAX {
            faults.push(property.fault(format!("{bytes} bytes are more than {PROPERTY_BYTES_MAX}")));
        }
    }
    // What came over the wire was held to it already; what was made of a model or by a patch was not.
    let bytes = whole.value.to_string().len();
    if bytes > LIMITS.bytes {
        faults.push(whole.fault(format!("{bytes} bytes are more than {}", LIMITS.bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(properties: &Value) -> Value {
        json!({
            "@context": crate::td::CONTEXT,
            "title": "T",
            "securityDefinitions": {"none": {"scheme": "nosec"}},
            "security": "none",
            "properties": properties,
        })
    }

    fn property(bytes: usize) -> Value {
        json!({"description": "x".repeat(bytes), "forms": [{"href": "/p"}]})
    }

    #[test]
    fn what_is_too_large_is_refused_in_its_place() {
        assert_eq!(check(&described(&json!({"p": property(16_000)}))), []);
        let faults = check(&described(&json!({"p": property(17_000)})));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].pointer, "/properties/p");
        let many: serde_json::Map<String, Value> = (0..20)
            .map(|index| (format!("p{index}"), property(16_000)))
            .collect();
        let faults = check(&described(&many.into()));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].pointer, "", "no property, but all of them");
    }

    #[test]
    fn of_many_faults_some_are_told() {
        let many: serde_json::Map<String, Value> =
            (0..50).map(|index| (format!("p{index}"), json!({}))).collect();
        assert_eq!(check(&described(&many.into())).len(), FAULTS_MAX);
    }
}
