//! An entry of the `things` bucket: what is expected of a thing, and what is known about it.
//!
//! Where a thing has a Thing Description, `policy` and `annotation` are what the writer of the entry made of it;
//! the workers read these two and skip the description.
use crate::{
    Timestamp,
    quality::{Location, Quality},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One thing, as it stands in the bucket; without the last two members also as `telltale thing put` takes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The thing's name, unescaped; unique over all sites.
    pub thing: String,
    /// What `validate` goes by.
    #[serde(default, skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
    /// What `annotate` adds: `foi` (feature of interest, a URI), `location` (GeoJSON), `platform` (what it is
    /// mounted on, a URI), and whatever else is there, as it stands. Of `properties` (by name, each
    /// `{"observed": URI, "ucum": code}`) a reading gets those that it has records of.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotation: Map<String, Value>,
    /// The W3C Thing Description as its author gave it, without the `registration` that we add when we serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub td: Option<Value>,
    /// Since when it is registered, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registered>,
}

/// A registration's times (W3C WoT Discovery §6.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// When the thing was registered first.
    pub created: Timestamp,
    /// When its entry was changed last.
    pub modified: Timestamp,
    /// When it is taken away unless it is registered again: `modified` and `ttl`, added by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// For how many seconds it asked to be registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<f64>,
}

/// What is expected of a thing's readings. Workers go by a policy that [`crate::check::thing_entry`] accepts, and by
/// no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long before its receipt a reading may have been measured: `7d`, `36h`, `90m`, `30s`; 7 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
    /// How far ahead of its receipt a reading's time may be; 5 minutes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<String>,
    /// Seconds within which its next reading is expected; it is stale after three times as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<f64>,
    /// Payloads carry a time or a number of their own, so that equal bytes are one reading: without an id of its
    /// own, a message that comes over NATS is named by the hash of its payload.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sequenced: bool,
    /// `properties` are all that the thing has: what is in none of them fails the test `undeclared`; it is stored
    /// and flagged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub declared: bool,
    /// By property name, as records have it: `a.b` for member `b` of an object `a`. What is said of `a` alone
    /// declares all that is inside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Property>,
}

impl Policy {
    /// Whether it says nothing, so that only the defaults hold.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says of anything where it may be.
    pub fn places_something(&self) -> bool {
        let mut qualities = self
            .properties
            .values()
            .filter_map(|property| property.quality.as_ref());
        qualities.any(|quality| quality.location.is_some())
    }

    /// Whether it has tests that need the records before or after.
    pub fn needs_neighbours(&self) -> bool {
        let mut qualities = self
            .properties
            .values()
            .filter_map(|property| property.quality.as_ref());
        qualities.any(|quality| {
            let has_speed = |location: &Location| location.max_speed.is_some();
            quality.needs_neighbours() || quality.location.as_ref().is_some_and(has_speed)
        })
    }

    /// Where the thing of that latitude may be; said of the latitude, or of the object around it.
    pub fn location_of(&self, latitude: &str) -> Option<&Location> {
        let of = |name: &str| self.properties.get(name)?.quality.as_ref()?.location.as_ref();
        of(latitude).or_else(|| of(latitude.rsplit_once('.')?.0))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What is expected of one property.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// A value of another type is quarantined.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ValueType>,
    /// The unit that the device sends where it names none, and that bounds, `enum` and `missing` are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Less fails the test `gross_range`; it is stored and flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// More fails the test `gross_range`; it is stored and flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// As much or less fails the test `gross_range`; it is stored and flagged.
    #[serde(default, rename = "exclusiveMinimum", skip_serializing_if = "Option::is_none")]
    pub exclusive_minimum: Option<f64>,
    /// As much or more fails the test `gross_range`; it is stored and flagged.
    #[serde(default, rename = "exclusiveMaximum", skip_serializing_if = "Option::is_none")]
    pub exclusive_maximum: Option<f64>,
    /// The values that it can have, numbers, texts and booleans; all if empty. Another fails the test `enum`; it is
    /// stored and flagged.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// The device reports it, and nobody may write it.
    #[serde(default, rename = "readOnly", skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// It can be written, and the device never reports it: if it does, that fails the test `write_only`; it is
    /// stored and flagged.
    #[serde(default, rename = "writeOnly", skip_serializing_if = "is_false")]
    pub write_only: bool,
    /// Values that mean «no value».
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Value>,
    /// Tests by QARTOD beside `minimum` and `maximum`; what fails is stored and flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Box<Quality>>,
}

impl Property {
    /// How many of a record's units one of this property's is: records are in primary units, while bounds and thresholds
    /// are in the unit that the property names.
    pub fn scale(&self) -> f64 {
        let in_primary = |value| crate::units::to_primary(self.unit.as_deref()?, value);
        match (in_primary(1.0), in_primary(0.0)) {
            (Some((_, one)), Some((_, zero))) => one - zero,
            _ => 1.0,
        }
    }
}

/// The JSON Schema types that a record's value can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// `v`.
    Number,
    /// `v` without a fraction.
    Integer,
    /// `vs`.
    String,
    /// `vb`.
    Boolean,
}

/// What a schema cannot say: units that are known, durations that are, and a minimum below its maximum.
pub(crate) fn check_meaning(entry: &Value, faults: &mut Vec<crate::kinds::Fault>) {
    use crate::{duration, kinds::Fault, refusal::push_segment, units};
    let Some(policy) = entry.get("policy") else {
        return;
    };
    for word in ["late", "ahead"] {
        let text = policy.get(word).and_then(Value::as_str);
        if let Some(text) = text.filter(|text| duration::parse(text).is_none()) {
            faults.push(Fault::at(
                format!("/policy/{word}"),
                format!("`{text}` is no duration"),
            ));
        }
    }
    let properties = policy.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let mut pointer = "/policy/properties".to_owned();
        push_segment(&mut pointer, name);
        let unit = property.get("unit").and_then(Value::as_str);
        if let Some(unit) = unit.filter(|unit| units::to_primary(unit, 0.0).is_none()) {
            faults.push(Fault::at(
                format!("{pointer}/unit"),
                format!("unit `{unit}` is not known"),
            ));
        }
        if let Some(quality) = property.get("quality") {
            crate::quality::check_meaning(quality, &format!("{pointer}/quality"), faults);
        }
        let number = |word: &str| property.get(word).and_then(Value::as_f64);
        for low in ["minimum", "exclusiveMinimum"] {
            for high in ["maximum", "exclusiveMaximum"] {
                if let (Some(least), Some(most)) = (number(low), number(high))
                    && least > most
                {
                    let message = format!("{low} {least} is more than {high} {most}");
                    faults.push(Fault::at(format!("{pointer}/{low}"), message));
                }
            }
        }
    }
}
