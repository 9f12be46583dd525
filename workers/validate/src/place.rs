//! Where in the payload a fault is. Only for what is refused: it reads the payload again.
use crate::{origin::Origin, policy::Part};
use serde_json::Value;
use telltale_nats::header;
use telltale_runtime::delivery::Raw;
use telltale_schemas::decode;

/// JSON Pointer to a part of the record of that index; to the record where the part has no place of its own.
pub(crate) fn of(raw: &Raw, origin: &Origin, index: usize, part: Part) -> String {
    let content_type = raw.header(header::CONTENT_TYPE);
    let Some(record) = decode::pointer(content_type, &raw.payload, origin.received, index) else {
        return String::new();
    };
    let Ok(document) = serde_json::from_slice::<Value>(&raw.payload) else {
        return record;
    };
    let labels: &[&str] = match part {
        Part::Value => &["v", "vs", "vb", "vd", "s"],
        Part::Unit => &["u"],
        Part::Time => &["t"],
    };
    match document.pointer(&record) {
        // A SenML record; plain JSON would have been flattened further.
        Some(Value::Object(members)) => match labels.iter().find(|label| members.contains_key(**label)) {
            Some(label) => format!("{record}/{label}"),
            None => record,
        },
        _ if part == Part::Time => {
            let is_event = document.get("specversion").is_some();
            let places: &[&str] = if is_event {
                &["/data/time", "/time"]
            } else {
                &["/time"]
            };
            let place = places.iter().find(|place| document.pointer(place).is_some());
            place.map_or(record, |place| (*place).to_owned())
        }
        _ => record,
    }
}
