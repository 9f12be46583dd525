//! From what a device sent to records: plain JSON, SenML in JSON and CBOR, CloudEvents.
use crate::{
    Record, Refusal, Timestamp, cbor, id,
    refusal::{push_segment, shown},
    senml::{self, RECORDS_MAX, is_name_byte},
    strict::{self, DEVICE},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

/// Longest name of a property in bytes.
pub const PROPERTY_MAX: usize = 128;
/// Most that the records of one message may come to, once names and units are repeated in each.
const RESOLVED_MAX: usize = 512 * 1024;
/// The property of a name that is the thing's own.
const VALUE: &str = "value";

/// What a payload says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The publisher's own id: of a CloudEvent alone.
    pub key: Option<String>,
    /// When it was measured, the newest of its records; `None` where the payload has no time, so that it counts
    /// from its receipt.
    pub time: Option<Timestamp>,
    /// The thing that a CloudEvent names.
    pub subject: Option<String>,
    /// In the order of time. `t` is there only where it differs from `time`.
    pub records: Vec<Record>,
}

/// Whether that can be the name of a property: SenML's alphabet, 1 to 128 bytes.
pub fn is_property(name: &str) -> bool {
    (1..=PROPERTY_MAX).contains(&name.len()) && name.bytes().all(is_name_byte)
}

/// Decodes one message.
///
/// `content_type` decides; absent, empty or `application/x-www-form-urlencoded` (what `curl -d` sends) the first
/// byte does. `thing` is what a SenML name loses at its front; `None` leaves names whole. Times that are relative
/// count from `received`.
pub fn decode(
    content_type: Option<&str>,
    payload: &[u8],
    thing: Option<&str>,
    received: Timestamp,
) -> Result<Decoded, Refusal> {
    let mut found = read(content_type, payload, received)?;
    if let (Some(subject), Some(thing)) = (&found.subject, thing)
        && subject != thing
    {
        let message = format!(
            "subject `{}` is another thing than `{}`",
            shown(subject),
            shown(thing)
        );
        return Err(Refusal::at("subject", "/subject", message));
    }
    if let Some(thing) = thing {
        for item in found.items.iter_mut().filter(|item| item.is_senml) {
            let name = std::mem::take(&mut item.record.n);
            strip(&name, thing).clone_into(&mut item.record.n);
            if item.record.n.len() > PROPERTY_MAX {
                let message = format!("`{}` is longer than {PROPERTY_MAX} bytes", shown(&name));
                return Err(Refusal::at("name", item.pointer.clone(), message));
            }
        }
    }
    found.check_size()?;
    Ok(found.decoded())
}

/// Decodes what a gateway sent for several things, and splits it: each name at its last `/` or `:`, into thing
/// and property. All records have their absolute `t`. One bad record refuses all.
pub fn split(
    content_type: Option<&str>,
    payload: &[u8],
    received: Timestamp,
) -> Result<Vec<(String, Vec<Record>)>, Refusal> {
    let found = read(content_type, payload, received)?;
    found.check_size()?;
    let time = found.time.unwrap_or(received).as_seconds();
    let mut things: Vec<(String, Vec<Record>)> = Vec::new();
    for Item {
        mut record,
        pointer,
        is_senml,
    } in found.items
    {
        let wrong = |message: String| Refusal::at("name", pointer.clone(), message);
        let (thing, property) = match (&found.subject, record.n.rsplit_once(['/', ':'])) {
            (Some(subject), _) if is_senml => (subject.clone(), strip(&record.n, subject).to_owned()),
            (Some(subject), _) => (subject.clone(), record.n.clone()),
            (None, Some((thing, property))) => (thing.to_owned(), property.to_owned()),
            (None, None) if is_senml => (record.n.clone(), VALUE.to_owned()),
            (None, None) => return Err(wrong(format!("`{}` names no thing", shown(&record.n)))),
        };
        if thing.is_empty() || !is_property(&property) {
            return Err(wrong(format!("`{}` is no thing and property", shown(&record.n))));
        }
        record.n = property;
        record.t = record.t.or(Some(time));
        match things.iter_mut().find(|(name, _)| *name == thing) {
            Some((_, records)) => records.push(record),
            None => things.push((thing, vec![record])),
        }
    }
    Ok(things)
}

/// What is left of a full SenML name under its thing.
fn strip<'a>(name: &'a str, thing: &str) -> &'a str {
    match name.strip_prefix(thing) {
        Some("") => VALUE,
        Some(rest) => match rest.strip_prefix(['/', ':', '.']) {
            Some("") => VALUE,
            Some(property) => property,
            None => name,
        },
        None => name,
    }
}

/// A record, where it stood, and whether its name is a full SenML one.
#[derive(Debug)]
struct Item {
    record: Record,
    pointer: String,
    is_senml: bool,
}

/// Everything that a payload says, names still whole.
#[derive(Debug, Default)]
struct Found {
    key: Option<String>,
    time: Option<Timestamp>,
    subject: Option<String>,
    items: Vec<Item>,
    /// Where in the payload the pointers of `items` begin.
    within: &'static str,
}

impl Found {
    fn check_size(&self) -> Result<(), Refusal> {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        // Labels, numbers, quotes: no record has more than this beside its texts.
        let size =
            |record: &Record| record.n.len() + text(&record.u) + text(&record.vs) + text(&record.vd) + 96;
        let sum: usize = self.items.iter().map(|item| size(&item.record)).sum();
        if sum <= RESOLVED_MAX {
            return Ok(());
        }
        let message = format!("{sum} bytes of records are more than {RESOLVED_MAX}");
        Err(Refusal::at("size", "", message))
    }

    fn decoded(self) -> Decoded {
        let mut records: Vec<Record> = self.items.into_iter().map(|item| item.record).collect();
        for record in &mut records {
            if record.t.and_then(Timestamp::from_seconds) == self.time {
                record.t = None;
            }
        }
        Decoded {
            key: self.key,
            time: self.time,
            subject: self.subject,
            records,
        }
    }
}

/// How a payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    Senml,
    SenmlCbor,
    CloudEvent,
}

impl Format {
    /// By the media type; `None` where it tells nothing.
    fn of(content_type: Option<&str>, pointer: &str) -> Result<Option<Self>, Refusal> {
        let media_type = content_type
            .and_then(|full| full.split(';').next())
            .unwrap_or_default()
            .trim();
        Ok(Some(match media_type.to_ascii_lowercase().as_str() {
            "" | "application/x-www-form-urlencoded" => return Ok(None),
            "application/json" | "text/json" => Self::Plain,
            "application/senml+json" => Self::Senml,
            "application/senml+cbor" => Self::SenmlCbor,
            "application/cloudevents+json" => Self::CloudEvent,
            _ => {
                let message = format!("content type `{}` is not known", shown(media_type));
                return Err(Refusal::at("content_type", pointer, message));
            }
        }))
    }

    /// By what the document is.
    fn of_value(value: &Value) -> Self {
        match value {
            Value::Array(_) => Self::Senml,
            Value::Object(members) if members.contains_key("specversion") => Self::CloudEvent,
            _ => Self::Plain,
        }
    }
}

fn read(content_type: Option<&str>, payload: &[u8], received: Timestamp) -> Result<Found, Refusal> {
    let (format, value) = document(Format::of(content_type, "")?, payload)?;
    match format {
        Format::Plain => plain(&value, None),
        Format::Senml | Format::SenmlCbor => pack(&value, received),
        Format::CloudEvent => cloud_event(&value, received),
    }
}

/// The document in a payload, and its format where that was not told.
fn document(format: Option<Format>, payload: &[u8]) -> Result<(Format, Value), Refusal> {
    let first = payload
        .iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    match (format, first) {
        (Some(Format::SenmlCbor), _) => Ok((Format::SenmlCbor, cbor::parse(payload)?)),
        (Some(format), _) => Ok((format, strict::parse(payload, &DEVICE)?)),
        // Not after white space: that is no array of CBOR's.
        (None, Some(0x80..=0x9f)) if payload.first() == first => {
            Ok((Format::SenmlCbor, cbor::parse(payload)?))
        }
        (None, Some(b'[' | b'{')) => {
            let value = strict::parse(payload, &DEVICE)?;
            Ok((Format::of_value(&value), value))
        }
        (None, None) => Err(Refusal::at("json", "", "an empty payload")),
        (None, Some(byte)) => {
            let message = format!("byte 0x{byte:02x} begins neither JSON nor SenML CBOR");
            Err(Refusal::at("json", "", message))
        }
    }
}

fn pack(value: &Value, now: Timestamp) -> Result<Found, Refusal> {
    let items: Vec<Item> = senml::resolve_indexed(value, now)?
        .into_iter()
        .map(|resolved| {
            let own = value.get(resolved.index).and_then(|entry| entry.get("n"));
            let field = if own.is_some() { "/n" } else { "" };
            Item {
                record: resolved.record,
                pointer: format!("/{}{field}", resolved.index),
                is_senml: true,
            }
        })
        .collect();
    let newest = items.last().and_then(|item| item.record.t);
    Ok(Found {
        time: newest.and_then(Timestamp::from_seconds),
        items,
        ..Found::default()
    })
}

fn plain(value: &Value, time: Option<Timestamp>) -> Result<Found, Refusal> {
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
        });
    }
    Ok(())
}

fn cloud_event(value: &Value, received: Timestamp) -> Result<Found, Refusal> {
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
    let found = event.data(time, received)?;
    Ok(Found {
        key: Some(key.to_owned()),
        time: found.time.or(time),
        subject: event.text("subject")?.map(str::to_owned),
        items: found.items,
        within: if members.contains_key("data") {
            "/data"
        } else {
            "/data_base64"
        },
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
                within(format, value).map_err(|refusal| refusal.under("/data"))
            }
            (None, Some(encoded)) => {
                let bytes = encoded.as_str().and_then(|text| STANDARD.decode(text).ok());
                let bytes = bytes.ok_or_else(|| wrong("data_base64", "not base64".to_owned()))?;
                document(format, &bytes)
                    .and_then(|(format, value)| within(format, &value))
                    .map_err(|refusal| refusal.under("/data_base64"))
            }
        }
    }
}

fn wrong(attribute: &str, message: String) -> Refusal {
    let mut pointer = String::new();
    push_segment(&mut pointer, attribute);
    Refusal::at("cloudevent", pointer, message)
}

/// Where the record of that index in [`decode`]'s answer stood: a JSON Pointer to the SenML record, or to the
/// value in plain JSON. Reads the payload again; for what is refused after decoding.
pub fn pointer(
    content_type: Option<&str>,
    payload: &[u8],
    received: Timestamp,
    index: usize,
) -> Option<String> {
    let found = read(content_type, payload, received).ok()?;
    let item = found.items.get(index)?;
    let pointer = if item.is_senml {
        item.pointer.strip_suffix("/n").unwrap_or(&item.pointer)
    } else {
        &item.pointer
    };
    Some(format!("{}{pointer}", found.within))
}
