//! From what a device sent to records: plain JSON, SenML in JSON and CBOR, CloudEvents.
//!
//! ```
//! use telltale_schemas::{Timestamp, decode::decode};
//!
//! let received = Timestamp::parse("2026-01-15T07:41:09Z").unwrap();
//! let decoded = decode(None, br#"{"road":{"temperature":-0.85}}"#, Some("t1"), received).unwrap();
//! assert_eq!(decoded.records[0].n, "road.temperature");
//! assert_eq!(decoded.records[0].v, Some(-0.85));
//!
//! let refusal = decode(None, br#"{"road":[1,2]}"#, Some("t1"), received).unwrap_err();
//! assert_eq!((refusal.reason, refusal.faults[0].pointer.as_str()), ("shape", "/road"));
//! ```
mod cloud_event;
mod plain;

use self::{cloud_event::cloud_event, plain::plain};
use crate::{
    Record, Refusal, Timestamp, cbor,
    refusal::shown,
    senml::{self, RELATIVE_BELOW, is_name_byte},
    strict::{self, DEVICE},
};
use serde_json::Value;

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
    /// Whether some record was told by its distance from the receipt: sent again, it has another time.
    pub is_relative: bool,
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
/// and property. All records have `t` as SenML means it: below 2^28 it is the distance from the receipt, so that
/// who decodes them again sees what was told. One bad record refuses all.
pub fn split(
    content_type: Option<&str>,
    payload: &[u8],
    received: Timestamp,
) -> Result<Vec<(String, Vec<Record>)>, Refusal> {
    let found = read(content_type, payload, received)?;
    found.check_size()?;
    let time = found.time.map_or(0.0, Timestamp::as_seconds);
    let mut things: Vec<(String, Vec<Record>)> = Vec::new();
    for Item {
        mut record,
        pointer,
        is_senml,
        relative,
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
        let told = relative.or(record.t).unwrap_or(time);
        if relative.is_none() && told < RELATIVE_BELOW && (record.t.is_some() || found.time.is_some()) {
            let message = format!(
                "the time of `{}` is too long ago to be written as SenML",
                shown(&thing)
            );
            return Err(Refusal::at("time", pointer.clone(), message));
        }
        record.t = Some(told);
        match things.iter_mut().find(|(name, _)| *name == thing) {
            Some((_, records)) => records.push(record),
            None => things.push((thing, vec![record])),
        }
    }
    Ok(things)
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
    Some(pointer.to_owned())
}

/// Whether [`decode`] reads that media type, or it is one that tells nothing and the first byte decides.
pub fn is_known(content_type: &str) -> bool {
    Format::of(Some(content_type), "").is_ok()
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
    /// Seconds from the receipt, where that is how its time was told.
    relative: Option<f64>,
}

/// Everything that a payload says, names still whole.
#[derive(Debug, Default)]
struct Found {
    key: Option<String>,
    time: Option<Timestamp>,
    subject: Option<String>,
    items: Vec<Item>,
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

    /// The same, found inside of something else.
    fn under(mut self, prefix: &str) -> Self {
        for item in &mut self.items {
            item.pointer.insert_str(0, prefix);
        }
        self
    }

    fn decoded(self) -> Decoded {
        let is_relative = self.items.iter().any(|item| item.relative.is_some());
        let mut records: Vec<Record> = self.items.into_iter().map(|item| item.record).collect();
        for record in &mut records {
            if record.t.and_then(Timestamp::from_seconds) == self.time {
                record.t = None;
            }
        }
        Decoded {
            key: self.key,
            time: self.time,
            is_relative,
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
                relative: resolved.relative,
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
