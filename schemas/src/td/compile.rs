//! What the workers go by: the policy of `validate` and the annotation of `annotate`, from a description.
//!
//! The description is what people write; the workers never read it. Whoever writes an entry of the bucket `things`
//! compiles it first, so that a worker's copy holds what it needs and no more.
pub(super) mod location;

use super::{
    place::Place,
    vocabulary::{self, Prefixes, of_property, of_thing},
};
use crate::{
    decode::is_property,
    duration,
    quality::{Quality, is_latitude},
    thing::{Policy, Property, ValueType},
    units,
};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// What follows from a description.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// What `validate` goes by. A description declares all that its thing has, so `declared` is set.
    pub policy: Policy,
    /// What `annotate` adds: `foi`, `platform` (URIs), `location` (GeoJSON), and for `properties` by name
    /// `{"observed": URI, "ucum": code}`, where the description tells them.
    pub annotation: Map<String, Value>,
}

/// Compiles a description that [`check`](super::check()) has nothing against; of any other as much as can be made of
/// it.
pub fn compile(td: &Value) -> Compiled {
    let whole = Place::root(td);
    let prefixes = Prefixes::of(td);
    let mut properties = Properties {
        prefixes: &prefixes,
        policy: Policy {
            late: span(&whole, of_thing::LATE),
            ahead: span(&whole, of_thing::AHEAD),
            interval: whole.number(of_thing::INTERVAL).filter(|seconds| *seconds > 0.0),
            sequenced: whole.flag(of_thing::SEQUENCED),
            declared: true,
            ..Policy::default()
        },
        annotation: Map::new(),
    };
    for (name, property) in whole.members_of("properties") {
        properties.add(name, &property, (false, false));
    }
    let mut annotation = Map::new();
    let uri = |term: &str| prefixes.iri(&whole, term).filter(|iri| crate::check::is_uri(iri));
    for (word, term) in [
        ("foi", "sosa:hasFeatureOfInterest"),
        ("platform", "sosa:isHostedBy"),
    ] {
        annotation.extend(uri(term).map(|iri| (word.to_owned(), iri.into())));
    }
    if let Some(Ok(location)) = location::find(&whole, &prefixes) {
        annotation.insert("location".to_owned(), location);
    }
    if !properties.annotation.is_empty() {
        annotation.insert("properties".to_owned(), properties.annotation.into());
    }
    Compiled {
        policy: properties.policy,
        annotation,
    }
}

fn span(whole: &Place<'_>, term: &str) -> Option<String> {
    let text = whole.text(term).filter(|text| is_duration(text));
    text.map(str::to_owned)
}

/// Whether it is a duration, and one that a policy can have (`json/thing.v1.schema.json`).
pub(super) fn is_duration(text: &str) -> bool {
    text.len() <= 14 && duration::parse(text).is_some()
}

struct Properties<'a> {
    prefixes: &'a Prefixes<'a>,
    policy: Policy,
    annotation: Map<String, Value>,
}

impl Properties<'_> {
    /// A property; of an object its members, under the names that their records have. `outer` is whether the object
    /// around it is `readOnly` and `writeOnly`.
    fn add(&mut self, name: &str, place: &Place<'_>, outer: (bool, bool)) {
        let hints = (
            outer.0 || place.flag("readOnly"),
            outer.1 || place.flag("writeOnly"),
        );
        let members = place.members_of("properties");
        if !members.is_empty() {
            for (member, inner) in members {
                self.add(&format!("{name}.{member}"), &inner, hints);
            }
            self.locate(name, place);
            return;
        }
        // A record cannot have another name (RFC 8428 §4.5.1), so there is nothing to expect under it.
        if !is_property(name) || self.policy.properties.contains_key(name) {
            return;
        }
        let property = property(place, hints);
        let known = self.known(place, property.unit.as_deref());
        if !known.is_empty() {
            self.annotation.insert(name.to_owned(), known.into());
        }
        self.policy.properties.insert(name.to_owned(), property);
    }

    /// What an object says of the position that it is goes to its latitude: the object itself is no record's name.
    fn locate(&mut self, name: &str, place: &Place<'_>) {
        let Some(location) = quality(place).and_then(|quality| quality.location) else {
            return;
        };
        let members = self.policy.properties.iter_mut();
        let latitude = members
            .filter(|(member, _)| member.rsplit_once('.').is_some_and(|(object, _)| object == name))
            .find(|(member, _)| is_latitude(member));
        if let Some((_, latitude)) = latitude {
            let of_latitude = latitude.quality.get_or_insert_default();
            of_latitude.location.get_or_insert(location);
        }
    }

    /// What is known of the values of a property: what they are of, and the unit of their records.
    fn known(&self, place: &Place<'_>, unit: Option<&str>) -> Map<String, Value> {
        let terms = ["sosa:observes", "sosa:observedProperty", "ssn:forProperty"];
        let observed = terms
            .iter()
            .find_map(|term| self.prefixes.iri(place, term))
            .or_else(|| {
                let types = place.member("@type")?.one_or_several();
                let mut iris = types
                    .iter()
                    .filter_map(|one| self.prefixes.expand(one.value.as_str()?));
                // That it is a property is no news.
                iris.find(|iri| {
                    !iri.ends_with("/ObservableProperty") && !iri.ends_with("/ActuatableProperty")
                })
            });
        let observed = observed.filter(|iri| crate::check::is_uri(iri));
        // Records are in primary units, whatever the device sends.
        let primary = unit
            .and_then(|unit| units::to_primary(unit, 0.0))
            .map(|(primary, _)| primary);
        let ucum = match primary {
            Some(primary) => units::ucum(primary).map(str::to_owned),
            None => told_ucum(place).map(str::to_owned),
        };
        let members = [("observed", observed), ("ucum", ucum)];
        members
            .into_iter()
            .filter_map(|(word, text)| Some((word.to_owned(), text?.into())))
            .collect()
    }
}

/// The code of the unit in UCUM, where the description tells it.
fn told_ucum<'a>(place: &Place<'a>) -> Option<&'a str> {
    let terms = ["ucum", "qudt:ucumCode", "ucum:code"];
    terms
        .iter()
        .find_map(|term| place.text(term))
        .filter(|code| code.len() <= 64)
}

fn property(place: &Place<'_>, (read_only, write_only): (bool, bool)) -> Property {
    let kind = match place.text("type") {
        Some("number") => Some(ValueType::Number),
        Some("integer") => Some(ValueType::Integer),
        Some("string") => Some(ValueType::String),
        Some("boolean") => Some(ValueType::Boolean),
        _ => None,
    };
    let has_unit = !matches!(kind, Some(ValueType::String | ValueType::Boolean));
    let unit = [place.text("unit"), told_ucum(place)]
        .into_iter()
        .flatten()
        .find_map(vocabulary::unit);
    let missing = place
        .member(of_property::MISSING)
        .map(|missing| missing.one_or_several());
    Property {
        kind,
        unit: unit.filter(|_| has_unit).map(str::to_owned),
        minimum: place.number("minimum"),
        maximum: place.number("maximum"),
        exclusive_minimum: place.number("exclusiveMinimum"),
        exclusive_maximum: place.number("exclusiveMaximum"),
        values: values(place),
        read_only,
        write_only,
        missing: missing
            .into_iter()
            .flatten()
            .map(|place| place.value.clone())
            .filter(is_scalar)
            .collect(),
        quality: quality(place).map(Box::new),
    }
}

/// Tests by QARTOD; none where they are not written as they must be.
fn quality(place: &Place<'_>) -> Option<Quality> {
    let quality = place.member(of_property::QUALITY)?;
    Quality::deserialize(quality.value).ok()
}

/// The values that a property can have: those of `enum`, the one of `const`, or those of a `oneOf` of constants. None
/// where some of them are no value of a record.
fn values(place: &Place<'_>) -> Vec<Value> {
    let listed = place.items_of("enum");
    let values: Vec<Value> = if !listed.is_empty() {
        listed.into_iter().map(|item| item.value.clone()).collect()
    } else if let Some(only) = place.member("const") {
        vec![only.value.clone()]
    } else {
        let choices = place.items_of("oneOf");
        let constants = choices.iter().map(|choice| choice.value.get("const").cloned());
        constants.collect::<Option<_>>().unwrap_or_default()
    };
    // A `null` is a value that is missing, which is always allowed.
    let values: Vec<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
    if values.iter().all(is_scalar) {
        values
    } else {
        Vec::new()
    }
}

fn is_scalar(value: &Value) -> bool {
    value.is_number() || value.is_string() || value.is_boolean()
}

/// A GeoJSON point (RFC 7946 §3.1.2): longitude before latitude.
fn point(longitude: f64, latitude: f64, altitude: Option<f64>) -> Value {
    let coordinates: Vec<f64> = [longitude, latitude].into_iter().chain(altitude).collect();
    json!({"type": "Point", "coordinates": coordinates})
}
