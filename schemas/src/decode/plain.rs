//! Plain JSON: an object of values.
use super::{Found, Item, is_property};
use crate::{
    Record, Refusal, Timestamp,
    refusal::{push_segment, shown},
    senml::RECORDS_MAX,
};
use serde_json::{Map, Value};

pub(super) fn plain(value: &Value, time: Option<Timestamp>) -> Result<Found, Refusal> {
    let Value::Object(members) = value else {
        return Err(Refusal::at("shape", "", "plain JSON is an object of values"));
    };
    let mut found = Found {
        time: member_time(members)?.or(time),
        ..Found::default()
    };
    flatten(members, "", "", &mut found.items)?;
    if found.items.is_empty() {
        return Err(Refusal::at("records", "", "no value"));
    }
    // Two ways to write one name, `{"a.b":1,"a":{"b":2}}`, are as ambiguous as a key that comes twice.
    let mut names: Vec<&Item> = found.items.iter().collect();
    names.sort_by(|a, b| a.record.n.cmp(&b.record.n));
    if let Some([_, twice]) = names.array_windows().find(|[a, b]| a.record.n == b.record.n) {
        let message = format!("name `{}` comes twice", shown(&twice.record.n));
        return Err(Refusal::at("duplicate_key", twice.pointer.clone(), message));
    }
    Ok(found)
}

fn member_time(members: &Map<String, Value>) -> Result<Option<Timestamp>, Refusal> {
    let time = match members.get("time") {
        None => return Ok(None),
        Some(Value::String(text)) => Timestamp::parse(text).ok(),
        Some(Value::Number(seconds)) => seconds.as_f64().and_then(Timestamp::from_seconds),
        Some(_) => None,
    };
    time.map(Some).ok_or_else(|| {
        Refusal::at(
            "time",
            "/time",
            "`time` is neither an RFC 3339 time nor seconds since 1970",
        )
    })
}

fn flatten(
    members: &Map<String, Value>,
    name: &str,
    pointer: &str,
    items: &mut Vec<Item>,
) -> Result<(), Refusal> {
    for (key, value) in members {
        if name.is_empty() && key == "time" {
            continue;
        }
        let mut pointer = pointer.to_owned();
        push_segment(&mut pointer, key);
        let name = if name.is_empty() {
            key.clone()
        } else {
            format!("{name}.{key}")
        };
        if !is_property(&name) || key.is_empty() {
            let message = format!("`{}` is no name of a property", shown(&name));
            return Err(Refusal::at("name", pointer, message));
        }
        let mut record = Record::named(name.as_str());
        match value {
            Value::Object(members) => {
                flatten(members, &name, &pointer, items)?;
                continue;
            }
            Value::Array(_) => {
                let message = format!("`{}` is an array", shown(&name));
                return Err(Refusal::at("shape", pointer, message));
            }
            Value::Number(number) => record.v = number.as_f64(),
            Value::Bool(flag) => record.vb = Some(*flag),
            Value::String(text) => record.vs = Some(text.clone()),
            Value::Null => record.missing(None),
        }
        if items.len() == RECORDS_MAX {
            return Err(Refusal::at(
                "records",
                pointer,
                format!("more than {RECORDS_MAX} values"),
            ));
        }
        items.push(Item {
            record,
            pointer,
            is_senml: false,
            relative: None,
        });
    }
    Ok(())
}
