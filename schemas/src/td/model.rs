//! Thing Models (WoT TD 1.1 §9): descriptions of things from them, and the models that we bring.
//!
//! A placeholder is `{{NAME}}` in any text of a model; where the text is nothing else, what takes its place keeps its
//! type. `telltale:placeholders` of a model tells them: `{"NAME": {"description": …, "default": …}}`.
use super::{
    TERMS, check, check::AFFORDANCES, check::THING_MODEL, forms, merge, place::Place, thing_id, thing_name,
};
use crate::{
    kinds::Fault,
    refusal::{FAULTS_MAX, shown},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The member of a model that tells its placeholders.
const PLACEHOLDERS: &str = "telltale:placeholders";
/// How often a reference may lead to another.
const REFERENCES_MAX: usize = 8;

/// A model that we bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// What `telltale thing create --model` calls it.
    pub name: &'static str,
    /// The Thing Model, as JSON.
    pub text: &'static str,
}

impl Model {
    /// The Thing Model.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.text).expect("our models are JSON")
    }
}

/// The models that we bring, by name.
pub const fn models() -> &'static [Model] {
    &MODELS
}

/// The model of that name.
pub fn named(name: &str) -> Option<Model> {
    MODELS.iter().copied().find(|model| model.name == name)
}

const MODELS: [Model; 5] = [
    Model {
        name: "lamp",
        text: include_str!("../../models/lamp.tm.json"),
    },
    Model {
        name: "roadside-pillar",
        text: include_str!("../../models/roadside-pillar.tm.json"),
    },
    Model {
        name: "traffic-detector",
        text: include_str!("../../models/traffic-detector.tm.json"),
    },
    Model {
        name: "vehicle",
        text: include_str!("../../models/vehicle.tm.json"),
    },
    Model {
        name: "weather-station",
        text: include_str!("../../models/weather-station.tm.json"),
    },
];

/// A description of one thing from a model, checked.
///
/// `id` is its `id`, or the plain name of the thing ([`thing_id`]). What `tm:optional` lists is left out where one of
/// its placeholders has no value. An affordance without forms gets one at our gateway; a model without security, the
/// gateway's. Faults are of the model, or of the description that it would make.
pub fn instantiate(
    model: &Value,
    id: &str,
    title: Option<&str>,
    placeholders: &Map<String, Value>,
) -> Result<Value, Vec<Fault>> {
    let id = if thing_name(id).is_some() {
        id.to_owned()
    } else {
        thing_id(id)
    };
    let mut td = model.clone();
    let mut faults = Vec::new();
    is_model(model, &mut faults);
    let origin = own(&mut td, title);
    let mut values = defaults(&mut td);
    values.extend(
        placeholders
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    unknown(model, placeholders, &mut faults);
    resolve(&mut td, model, &mut faults);
    leave_out(&mut td, &values);
    let mut missing = BTreeSet::new();
    fill(&mut td, &values, &mut missing);
    for name in missing {
        let pointer = format!("/{PLACEHOLDERS}/{name}");
        faults.push(Fault::at(
            pointer,
            format!("placeholder `{}` has no value", shown(&name)),
        ));
    }
    if faults.is_empty() {
        finish(&mut td, &id, origin);
        faults = check(&td);
    }
    faults.truncate(FAULTS_MAX);
    if faults.is_empty() { Ok(td) } else { Err(faults) }
}

fn is_model(model: &Value, faults: &mut Vec<Fault>) {
    let whole = Place::root(model);
    let types = whole
        .member("@type")
        .map(|types| types.one_or_several())
        .unwrap_or_default();
    if !types.iter().any(|one| one.value.as_str() == Some(THING_MODEL)) {
        faults.push(Fault::at(
            "/@type",
            format!("no Thing Model: that is of type `{THING_MODEL}`"),
        ));
    }
    for link in whole.items_of("links") {
        if let Some(extends) = link
            .member("rel")
            .filter(|rel| rel.value.as_str() == Some("tm:extends"))
        {
            faults.push(extends.fault("a model that extends another is not followed; write both into one"));
        }
    }
}

/// Takes the model's own name out, and its title where the thing has another.
fn own(td: &mut Value, title: Option<&str>) -> Option<Value> {
    let members = td.as_object_mut()?;
    if let Some(title) = title {
        members.insert("title".to_owned(), title.into());
        // Titles of the model in other languages would say something else.
        members.remove("titles");
    }
    members.remove("id")
}

/// Takes the placeholders' defaults out of a model.
fn defaults(td: &mut Value) -> Map<String, Value> {
    let told = td
        .as_object_mut()
        .and_then(|members| members.remove(PLACEHOLDERS));
    let told = told.as_ref().and_then(Value::as_object).into_iter().flatten();
    told.filter_map(|(name, about)| Some((name.clone(), about.get("default")?.clone())))
        .collect()
}

/// A value for a placeholder that the model does not have is a slip of the pen.
fn unknown(model: &Value, placeholders: &Map<String, Value>, faults: &mut Vec<Fault>) {
    let mut used = BTreeSet::new();
    fill(&mut model.clone(), &Map::new(), &mut used);
    for name in placeholders.keys().filter(|name| !used.contains(*name)) {
        let known: Vec<&str> = used.iter().map(String::as_str).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let message = format!("the model has no placeholder `{}`; it has {known}", shown(name));
        faults.push(Fault::at(format!("/{PLACEHOLDERS}"), message));
    }
}

/// Puts what `tm:ref` names in its place, under what stands beside it (TD 1.1 §9.3.3); within the model alone.
fn resolve(td: &mut Value, model: &Value, faults: &mut Vec<Fault>) {
    for kind in AFFORDANCES {
        let affordances = td.get_mut(kind).and_then(Value::as_object_mut);
        for (name, affordance) in affordances.into_iter().flatten() {
            for _ in 0..REFERENCES_MAX {
                let Some(reference) = affordance
                    .as_object_mut()
                    .and_then(|members| members.remove("tm:ref"))
                else {
                    break;
                };
                let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
                let Some(target) = pointer.and_then(|pointer| model.pointer(pointer)) else {
                    let place = format!("/{kind}/{}/tm:ref", shown(name));
                    faults.push(Fault::at(
                        place,
                        "it names nothing in this model, and others are not fetched",
                    ));
                    break;
                };
                *affordance = merge::patch(target.clone(), affordance);
            }
        }
    }
}

/// Leaves out what is optional and has a placeholder without a value.
fn leave_out(td: &mut Value, values: &Map<String, Value>) {
    let optional = td
        .as_object_mut()
        .and_then(|members| members.remove("tm:optional"));
    let pointers = optional.as_ref().and_then(Value::as_array).into_iter().flatten();
    for pointer in pointers.filter_map(Value::as_str) {
        let Some((outer, name)) = pointer.rsplit_once('/') else {
            continue;
        };
        let mut missing = BTreeSet::new();
        if let Some(mut affordance) = td.pointer(pointer).cloned() {
            fill(&mut affordance, values, &mut missing);
        }
        if !missing.is_empty()
            && let Some(Value::Object(members)) = td.pointer_mut(outer)
        {
            members.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
    }
}

/// Fills placeholders in all texts, and gathers the names of those that have no value.
fn fill(value: &mut Value, values: &Map<String, Value>, missing: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if let Some(filled) = filled(text, values, missing) {
                *value = filled;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, values, missing)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| fill(member, values, missing)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a text with placeholders becomes; `None` where it has none.
fn filled(text: &str, values: &Map<String, Value>, missing: &mut BTreeSet<String>) -> Option<Value> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}")?;
        out.push_str(before);
        match values.get(name) {
            Some(value) if before.is_empty() && after.is_empty() && out.is_empty() => {
                return Some(value.clone());
            }
            Some(Value::String(value)) => out.push_str(value),
            Some(value) => out.push_str(&value.to_string()),
            None => {
                missing.insert(name.to_owned());
            }
        }
        rest = after;
    }
    if rest.len() == text.len() {
        return None;
    }
    out.push_str(rest);
    Some(out.into())
}

/// Makes a description out of what is left of a model of that name.
fn finish(td: &mut Value, id: &str, model: Option<Value>) {
    let Value::Object(members) = td else { return };
    members.insert("id".to_owned(), id.into());
    forget_type(members);
    if let Some(version) = members.get_mut("version").and_then(Value::as_object_mut) {
        let instance = version.get("model").cloned().unwrap_or_else(|| "1.0.0".into());
        version.entry("instance").or_insert(instance);
    }
    if let Some(Value::String(model)) = model {
        let link = json!({"rel": "type", "href": model, "type": "application/tm+json"});
        if let Some(Value::Array(links)) = members.get_mut("links") {
            links.push(link);
        } else {
            members.insert("links".to_owned(), json!([link]));
        }
    }
    if !members.contains_key("securityDefinitions") {
        members.insert("securityDefinitions".to_owned(), bearer_definition());
        members.insert("security".to_owned(), json!([BEARER]));
    }
    give_forms(members, id);
}

/// The name of the gateway's security in what we write.
pub(super) const BEARER: &str = "bearer_sc";

/// The gateway's security: a token that only the gateway can read.
pub(super) fn bearer_definition() -> Value {
    json!({BEARER: {"scheme": "bearer", "in": "header", "format": "opaque"}})
}

/// The context of a description that we write.
pub(super) fn own_context() -> Value {
    json!([super::CONTEXT, {"telltale": TERMS, "sosa": "http://www.w3.org/ns/sosa/"}])
}

fn forget_type(members: &mut Map<String, Value>) {
    let types = match members.remove("@type") {
        Some(Value::Array(types)) => types,
        Some(one) => vec![one],
        None => return,
    };
    let types: Vec<Value> = types
        .into_iter()
        .filter(|one| one.as_str() != Some(THING_MODEL))
        .collect();
    match types.as_slice() {
        [] => {}
        [one] => {
            members.insert("@type".to_owned(), one.clone());
        }
        several => {
            members.insert("@type".to_owned(), several.into());
        }
    }
}

/// A form at the gateway that serves the description, for each affordance that has none.
pub(super) fn give_forms(members: &mut Map<String, Value>, id: &str) {
    let path = forms::path(&thing_name(id).unwrap_or_else(|| id.to_owned()));
    for kind in AFFORDANCES {
        let affordances = members.get_mut(kind).and_then(Value::as_object_mut);
        for (name, affordance) in affordances.into_iter().flatten() {
            let Value::Object(affordance) = affordance else {
                continue;
            };
            let form = json!({"href": forms::address(&path, kind, name)});
            affordance.entry("forms").or_insert_with(|| json!([form]));
        }
    }
}
