//! SenML (RFC 8428): packs, in JSON and CBOR, to resolved records and back.
use crate::{
    Record, Refusal, Timestamp, cbor,
    refusal::{push_segment, shown},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// Most records of one message.
pub const RECORDS_MAX: usize = 1_000;
/// Below this a time is relative to now, from it on seconds since 1970 (RFC 8428 §4.5.3): 2^28.
pub(crate) const RELATIVE_BELOW: f64 = 268_435_456.0;
/// The one version that we understand.
const VERSION: u64 = 10;
/// Longest full name in bytes: a thing, a separator, and a property with room to spare.
const NAME_MAX: usize = 256;
/// Longest unit in bytes. The registry's are short; a long `bu` would be repeated by each record.
const UNIT_MAX: usize = 64;

/// A resolved record, and where in its pack it stood.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) record: Record,
    pub(crate) index: usize,
    /// Seconds from now, where that is how its time was told.
    pub(crate) relative: Option<f64>,
}

/// Resolves a pack: full names in `n`, absolute seconds in `t`, units as they were sent, in the order of time.
///
/// Reasons: `senml`, `version`, `name`, `unit`, `time`, `number`, `records`.
pub fn resolve(pack: &Value, now: Timestamp) -> Result<Vec<Record>, Refusal> {
    let resolved = resolve_indexed(pack, now)?;
    Ok(resolved.into_iter().map(|resolved| resolved.record).collect())
}

/// The same for `application/senml+cbor`; pointers name fields by their JSON labels.
///
/// Reasons: those of [`resolve`], and `cbor`, `size`, `depth`, `duplicate_key`.
pub fn resolve_cbor(bytes: &[u8], now: Timestamp) -> Result<Vec<Record>, Refusal> {
    resolve(&cbor::parse(bytes)?, now)
}

pub(crate) fn resolve_indexed(pack: &Value, now: Timestamp) -> Result<Vec<Resolved>, Refusal> {
    let Value::Array(entries) = pack else {
        return Err(Refusal::at("senml", "", "a SenML pack is an array"));
    };
    let entries = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| match entry {
            Value::Object(fields) => Ok(Entry { fields, index }),
            _ => Err(Refusal::at(
                "senml",
                format!("/{index}"),
                "a SenML record is an object",
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // A pack of another version may mean other things by its other fields, so this comes first.
    entries.iter().try_for_each(Entry::check_version)?;
    let mut base = Base::default();
    let mut resolved = Vec::with_capacity(entries.len().min(RECORDS_MAX));
    for entry in &entries {
        base.update(entry)?;
        let Some((record, relative)) = entry.resolve(&base, now.as_seconds())? else {
            continue;
        };
        if resolved.len() == RECORDS_MAX {
            let message = format!("more than {RECORDS_MAX} records");
            return Err(Refusal::at("records", format!("/{}", entry.index), message));
        }
        resolved.push(Resolved {
            record,
            index: entry.index,
            relative,
        });
    }
    if resolved.is_empty() {
        return Err(Refusal::at("records", "", "no record"));
    }
    // Stable: of two records of one moment the one that stood first stays first.
    resolved.sort_by(|a, b| {
        a.record
            .t
            .unwrap_or_default()
            .total_cmp(&b.record.t.unwrap_or_default())
    });
    Ok(resolved)
}

/// What later records inherit.
#[derive(Default)]
struct Base {
    name: String,
    time: f64,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
}

impl Base {
    fn update(&mut self, entry: &Entry<'_>) -> Result<(), Refusal> {
        if let Some(name) = entry.text("bn")? {
            entry.check_length("name", "bn", name, NAME_MAX)?;
            name.clone_into(&mut self.name);
        }
        if let Some(unit) = entry.unit("bu")? {
            self.unit = (!unit.is_empty()).then(|| unit.to_owned());
        }
        self.time = entry.number("bt")?.unwrap_or(self.time);
        self.value = entry.number("bv")?.or(self.value);
        self.sum = entry.number("bs")?.or(self.sum);
        Ok(())
    }
}

/// One element of a pack.
struct Entry<'a> {
    fields: &'a Map<String, Value>,
    index: usize,
}

const BASE_FIELDS: [&str; 6] = ["bn", "bt", "bu", "bv", "bs", "bver"];

impl<'a> Entry<'a> {
    fn check_version(&self) -> Result<(), Refusal> {
        match self.fields.get("bver") {
            None => Ok(()),
            Some(version) if version.as_u64() == Some(VERSION) => Ok(()),
            Some(Value::Number(version)) => {
                let message = format!("version {version} of SenML is not understood, only {VERSION}");
                Err(self.refuse("version", "bver", message))
            }
            Some(_) => Err(self.refuse("senml", "bver", "not a number")),
        }
    }

    /// The record and its offset from now, if it is told; `None` where there are base fields only.
    fn resolve(&self, base: &Base, now: f64) -> Result<Option<(Record, Option<f64>)>, Refusal> {
        // RFC 8428 §4.4: what is not understood is ignored, unless its name says that it must not be.
        if let Some(field) = self.fields.keys().find(|field| field.ends_with('_')) {
            let message = format!("field `{}` must be understood, and is not", shown(field));
            return Err(self.refuse("senml", field, message));
        }
        let is_base = |field: &String| BASE_FIELDS.contains(&field.as_str());
        if !self.fields.is_empty() && self.fields.keys().all(is_base) {
            return Ok(None);
        }
        let mut record = Record::named(self.name(base)?);
        let (seconds, relative) = self.time(base, now)?;
        record.t = Some(seconds);
        record.u = self.unit("u")?.map(str::to_owned).filter(|unit| !unit.is_empty());
        record.u = record.u.or_else(|| base.unit.clone());
        record.ut = self.number("ut")?;
        record.s = self.with_base("s", base.sum)?;
        self.value(&mut record, base)?;
        Ok(Some((record, relative)))
    }

    fn name(&self, base: &Base) -> Result<String, Refusal> {
        let own = self.text("n")?.unwrap_or_default();
        self.check_length("name", "n", own, NAME_MAX)?;
        let name = format!("{}{own}", base.name);
        self.check_length("name", "n", &name, NAME_MAX)?;
        if is_name(&name) {
            return Ok(name);
        }
        let field = if own.is_empty() && self.fields.contains_key("bn") {
            "bn"
        } else {
            "n"
        };
        let message = if name.is_empty() {
            "a record without a name".to_owned()
        } else {
            format!("`{}` is no SenML name", shown(&name))
        };
        Err(self.refuse("name", field, message))
    }

    fn time(&self, base: &Base, now: f64) -> Result<(f64, Option<f64>), Refusal> {
        let sum = base.time + self.number("t")?.unwrap_or_default();
        let relative = (sum < RELATIVE_BELOW).then_some(sum);
        let seconds = relative.map_or(sum, |offset| now + offset);
        if Timestamp::from_seconds(seconds).is_some() {
            return Ok((seconds, relative));
        }
        let field = if self.fields.contains_key("t") { "t" } else { "bt" };
        Err(self.refuse(
            "time",
            field,
            format!("{sum} seconds are outside the years 0000 to 9999"),
        ))
    }

    fn value(&self, record: &mut Record, base: &Base) -> Result<(), Refusal> {
        record.vs = self.text("vs")?.map(str::to_owned);
        record.vb = match self.fields.get("vb") {
            None => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => return Err(self.refuse("senml", "vb", "not a boolean")),
        };
        record.vd = self.text("vd")?.map(str::to_owned);
        if let Some(data) = &record.vd
            && URL_SAFE_NO_PAD.decode(data).is_err()
        {
            let message = format!("`{}` is not base64url without padding", shown(data));
            return Err(self.refuse("senml", "vd", message));
        }
        let others = [record.vs.is_some(), record.vb.is_some(), record.vd.is_some()];
        let others = others.into_iter().filter(|is_there| *is_there).count();
        let is_number = self.fields.contains_key("v") || others == 0;
        // A base value is added to numbers alone.
        record.v = if is_number {
            self.with_base("v", base.value)?
        } else {
            None
        };
        match others + usize::from(record.v.is_some()) {
            1 => Ok(()),
            0 if record.s.is_some() => Ok(()),
            0 => Err(self.refuse_all("a record without a value")),
            _ => Err(self.refuse_all("a record has only one of v, vs, vb, vd")),
        }
    }

    /// A field plus its base field, a missing one of which counts as zero.
    fn with_base(&self, field: &str, base: Option<f64>) -> Result<Option<f64>, Refusal> {
        let own = self.number(field)?;
        if own.is_none() && base.is_none() {
            return Ok(None);
        }
        let sum = own.unwrap_or_default() + base.unwrap_or_default();
        if sum.is_finite() {
            Ok(Some(sum))
        } else {
            Err(self.refuse("number", field, "larger than a double can be"))
        }
    }

    fn number(&self, field: &str) -> Result<Option<f64>, Refusal> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(self.refuse("senml", field, "not a number")),
        }
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, Refusal> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse("senml", field, "not a text")),
        }
    }

    fn unit(&self, field: &str) -> Result<Option<&'a str>, Refusal> {
        let unit = self.text(field)?;
        self.check_length("unit", field, unit.unwrap_or_default(), UNIT_MAX)?;
        Ok(unit)
    }

    fn check_length(&self, reason: &'static str, field: &str, text: &str, max: usize) -> Result<(), Refusal> {
        if text.len() <= max {
            return Ok(());
        }
        let message = format!("`{}` is longer than {max} bytes", shown(text));
        Err(self.refuse(reason, field, message))
    }

    fn refuse(&self, reason: &'static str, field: &str, message: impl Into<String>) -> Refusal {
        let mut pointer = format!("/{}", self.index);
        if self.fields.contains_key(field) {
            push_segment(&mut pointer, field);
        }
        Refusal::at(reason, pointer, message)
    }

    fn refuse_all(&self, message: &str) -> Refusal {
        Refusal::at("senml", format!("/{}", self.index), message)
    }
}

/// Whether that is a full SenML name (RFC 8428 §4.5.1), of at most 256 bytes.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(is_name_byte)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// The alphabet of SenML names.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b'/' | b'_')
}

/// The pack (`application/senml+json`, resolved form) that says the same as these records of a thing.
///
/// A record without value and sum (`q` 9) has no form in SenML, and is left out. What SenML does not allow in
/// a name is written `:XX` in hex, as only a thing can have it.
pub fn to_senml(thing: &str, time: Timestamp, records: &[Record]) -> Value {
    let thing = thing_name(thing);
    let has_form = |record: &&Record| record.has_value() || record.s.is_some();
    let pack = records.iter().filter(has_form).map(|record| {
        let mut fields = Map::new();
        fields.insert("n".into(), json!(format!("{thing}/{}", record.n)));
        fields.insert("t".into(), seconds(record.t.unwrap_or_else(|| time.as_seconds())));
        let numbers = [("v", record.v), ("s", record.s), ("ut", record.ut)];
        for (label, number) in numbers {
            fields.extend(number.map(|number| (label.to_owned(), json!(number))));
        }
        for (label, text) in [("u", &record.u), ("vs", &record.vs), ("vd", &record.vd)] {
            fields.extend(text.as_ref().map(|text| (label.to_owned(), json!(text))));
        }
        fields.extend(record.vb.map(|flag| ("vb".to_owned(), json!(flag))));
        Value::Object(fields)
    });
    Value::Array(pack.collect())
}

/// Whole seconds without a needless `.0`.
fn seconds(t: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a Timestamp's seconds fit, and others are written as they are"
    )]
    let whole = t as i64;
    if t.fract() == 0.0 && t.abs() < 1e15 {
        json!(whole)
    } else {
        json!(t)
    }
}

fn thing_name(thing: &str) -> String {
    let mut name = String::with_capacity(thing.len());
    for byte in thing.bytes() {
        if is_name_byte(byte) {
            name.push(byte.into());
        } else {
            name.extend([':', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        name
    } else {
        // The first character of a name must be a letter or a digit.
        format!("x{name}")
    }
}

fn hex(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}
