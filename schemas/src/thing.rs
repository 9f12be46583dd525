//! An entry of the `things` bucket: what is expected of a thing, and what is known about it.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One thing, as `telltale thing put` takes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The thing's name, unescaped; unique over all sites.
    pub thing: String,
    /// What `validate` goes by.
    #[serde(default, skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
    /// What `annotate` adds, as it stands.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotation: Map<String, Value>,
}

/// What is expected of a thing's readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long before its receipt a reading may have been measured: `7d`, `36h`, `90m`, `30s`; 7 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
    /// How far ahead of its receipt a reading's time may be; 5 minutes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<String>,
    /// By property name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Property>,
}

impl Policy {
    /// Whether it says nothing, so that only the defaults hold.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is expected of one property.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// A value of another type is quarantined.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ValueType>,
    /// The unit that the device sends where it names none, and that `minimum`, `maximum` and `missing` are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Less fails the test `gross_range`; it is stored and flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// More fails the test `gross_range`; it is stored and flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// Values that mean «no value».
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Value>,
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
        let number = |word: &str| property.get(word).and_then(Value::as_f64);
        if let (Some(minimum), Some(maximum)) = (number("minimum"), number("maximum"))
            && minimum > maximum
        {
            let message = format!("minimum {minimum} is more than maximum {maximum}");
            faults.push(Fault::at(format!("{pointer}/minimum"), message));
        }
    }
}
