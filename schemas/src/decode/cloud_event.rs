//! CloudEvents in structured mode.
use super::{Format, Found, document, pack, plain::plain};
use crate::{
    Refusal, Timestamp, id,
    refusal::{push_segment, shown},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

pub(super) fn cloud_event(value: &Value, received: Timestamp) -> Result<Found, Refusal> {
    let Value::Object(members) = value else {
        return Err(Refusal::at("cloudevent", "", "a CloudEvent is an object"));
    };
    let event = Event { members };
    event.check()?;
    let key = event.text("id")?.unwrap_or_default();
    if !id::is_key(key) {
        let message = format!("`{}` is not 1 to 128 printable ASCII characters", shown(key));
        return Err(Refusal::at("id", "/id", message));
    }
    let time = match event.text("time")? {
        None => None,
        Some(text) => Some(Timestamp::parse(text).map_err(|_| {
            Refusal::at(
                "time",
                "/time",
                format!("`{}` is not an RFC 3339 time", shown(text)),
            )
        })?),
    };
    let mut found = event.data(time, received)?;
    if time.is_some() {
        // They count from the event's time, which is the same whenever it comes.
        found.items.iter_mut().for_each(|item| item.relative = None);
    }
    Ok(Found {
        key: Some(key.to_owned()),
        time: found.time.or(time),
        subject: event.text("subject")?.map(str::to_owned),
        items: found.items,
    })
}

/// A CloudEvent in structured mode.
struct Event<'a> {
    members: &'a Map<String, Value>,
}

impl<'a> Event<'a> {
    fn check(&self) -> Result<(), Refusal> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let strange = self
            .members
            .keys()
            .find(|name| !is_name(name) && *name != "data_base64");
        if let Some(name) = strange {
            let message = format!("`{}` is no attribute's name", shown(name));
            return Err(wrong(name, message));
        }
        match self.text("specversion")? {
            Some("1.0") => {}
            other => {
                let message = format!("specversion is `{}`, not `1.0`", shown(other.unwrap_or_default()));
                return Err(wrong("specversion", message));
            }
        }
        for name in ["id", "source", "type"] {
            if self.text(name)?.is_none() {
                return Err(Refusal::at(
                    "cloudevent",
                    "",
                    format!("a CloudEvent without `{name}`"),
                ));
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.members.get(name) {
            // JSON's null is an absent attribute (CloudEvents JSON format §2.2).
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(wrong(
                name,
                format!("`{name}` is not a text with something in it"),
            )),
        }
    }

    fn data(&self, time: Option<Timestamp>, received: Timestamp) -> Result<Found, Refusal> {
        let format = Format::of(self.text("datacontenttype")?, "/datacontenttype")?;
        let now = time.unwrap_or(received);
        let within = |format: Format, value: &Value| match format {
            Format::Plain => plain(value, time),
            Format::Senml | Format::SenmlCbor => pack(value, now),
            Format::CloudEvent => Err(Refusal::at("cloudevent", "", "a CloudEvent in a CloudEvent")),
        };
        match (self.members.get("data"), self.members.get("data_base64")) {
            (Some(Value::Null) | None, None) => {
                Err(Refusal::at("cloudevent", "", "a CloudEvent without data"))
            }
            (Some(_), Some(_)) => Err(wrong("data_base64", "both `data` and `data_base64`".to_owned())),
            (Some(value), None) => {
                let format = format.unwrap_or_else(|| Format::of_value(value));
                if format == Format::SenmlCbor {
                    return Err(wrong("data", "CBOR comes in `data_base64`".to_owned()));
                }
                let found = within(format, value).map_err(|refusal| refusal.under("/data"))?;
                Ok(found.under("/data"))
            }
            (None, Some(encoded)) => {
                let bytes = encoded.as_str().and_then(|text| STANDARD.decode(text).ok());
                let bytes = bytes.ok_or_else(|| wrong("data_base64", "not base64".to_owned()))?;
                let found = document(format, &bytes).and_then(|(format, value)| within(format, &value));
                let found = found.map_err(|refusal| refusal.under("/data_base64"))?;
                Ok(found.under("/data_base64"))
            }
        }
    }
}

fn wrong(attribute: &str, message: String) -> Refusal {
    let mut pointer = String::new();
    push_segment(&mut pointer, attribute);
    Refusal::at("cloudevent", pointer, message)
}
