//! Between CEL's values and JSON's.
use super::expression::{ITEMS_MAX, Trouble, cut};
use cel::{Value as Cel, objects::Key};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A JSON value as CEL has it; numbers are doubles. What is too long is absent.
pub fn cel(value: &Value) -> Option<Cel> {
    Some(match value {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) => Cel::Float(number.as_f64()?),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) if items.len() <= ITEMS_MAX => {
            let items: Vec<Cel> = items.iter().filter_map(cel).collect();
            Cel::List(Arc::new(items))
        }
        Value::Object(members) if members.len() <= ITEMS_MAX => {
            let members = members.iter().filter_map(|(key, value)| Some((key, cel(value)?)));
            map(members.map(|(key, value)| (key.as_str(), value)))
        }
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// A map by name.
pub fn map<'a>(members: impl Iterator<Item = (&'a str, Cel)>) -> Cel {
    let members: HashMap<Key, Cel> = members
        .map(|(key, value)| (Key::String(Arc::new(key.to_owned())), value))
        .collect();
    Cel::from(members)
}

/// A CEL value as JSON has it. A number that is none (an infinity) cannot be told.
pub fn json(value: &Cel) -> Result<Value, Trouble> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(bool) => Value::Bool(*bool),
        Cel::Int(number) => Value::from(*number),
        Cel::UInt(number) => Value::from(*number),
        Cel::Float(number) => serde_json::Number::from_f64(*number)
            .map(Value::Number)
            .ok_or_else(|| Trouble::Failed(format!("{number} is no number that can be told")))?,
        Cel::String(text) => Value::String(text.to_string()),
        Cel::List(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Cel::Map(members) => {
            // Sorted, so that the same stream makes the same bytes.
            let members: BTreeMap<String, &Cel> =
                members.map.iter().map(|(k, v)| (k.to_string(), v)).collect();
            let members = members.into_iter().map(|(key, value)| Ok((key, json(value)?)));
            Value::Object(members.collect::<Result<_, Trouble>>()?)
        }
        other => return Err(Trouble::Failed(cut(&format!("{other:?} cannot be told")))),
    })
}
