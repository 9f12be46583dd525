//! SenML CBOR (RFC 8428 §6) to the JSON document that says the same.
//!
//! Nothing is allocated for what is only declared: an array that claims 2^32 elements costs what it brings.
use crate::{
    Refusal,
    refusal::{push_segment, shown},
    strict::DEVICE,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use minicbor::{Decoder, data::Type, decode::Error};
use serde_json::{Map, Number, Value};

/// Labels of RFC 8428, table 4: -6 to 8.
const LABELS: [&str; 15] = [
    "bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd",
];
const LABEL_MIN: i64 = -6;
/// Most values of one document, as for JSON.
const VALUES_MAX: usize = 16 * 1024;
/// Largest integer up to which every one is a double: 2^53.
const EXACT_MAX: i128 = 9_007_199_254_740_992;

/// Parses one document whose maps have SenML's labels as keys.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    if bytes.len() > DEVICE.bytes {
        let message = format!("{} bytes are more than {}", bytes.len(), DEVICE.bytes);
        return Err(Refusal::at("size", "", message));
    }
    let mut reader = Reader {
        decoder: Decoder::new(bytes),
        pointer: String::new(),
        values: 0,
    };
    let value = reader.value(0)?;
    if reader.decoder.position() < bytes.len() {
        let message = format!(
            "more bytes after the document, at byte {}",
            reader.decoder.position()
        );
        return Err(Refusal::at("cbor", "", message));
    }
    Ok(value)
}

struct Reader<'a> {
    decoder: Decoder<'a>,
    pointer: String,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.refuse("records", format!("more than {VALUES_MAX} values")));
        }
        if depth > DEVICE.depth {
            return Err(self.refuse("depth", format!("more than {} levels", DEVICE.depth)));
        }
        let kind = self.decoder.datatype().map_err(|error| self.broken(&error))?;
        match kind {
            Type::Array | Type::ArrayIndef => self.array(depth),
            Type::Map | Type::MapIndef => self.map(depth),
            Type::String | Type::StringIndef => self.text().map(Value::String),
            Type::Bytes | Type::BytesIndef => self.bytes().map(|bytes| URL_SAFE_NO_PAD.encode(bytes).into()),
            Type::Bool => self.take(Decoder::bool).map(Value::Bool),
            Type::Null => self.take(Decoder::null).map(|()| Value::Null),
            Type::F16 | Type::F32 | Type::F64 => self.float(kind),
            Type::Tag => self.tagged(depth),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int => self.integer(),
            other => Err(self.refuse("cbor", format!("{other} has no place in SenML"))),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Refusal> {
        let declared = self.take(Decoder::array)?;
        let mut items = Vec::new();
        while self.has_next(declared, items.len())? {
            let length = self.enter(&items.len().to_string());
            let item = self.value(depth + 1)?;
            self.pointer.truncate(length);
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Refusal> {
        let declared = self.take(Decoder::map)?;
        let mut fields = Map::new();
        while self.has_next(declared, fields.len())? {
            let label = self.label()?;
            let length = self.enter(&label);
            if fields.contains_key(&label) {
                return Err(self.refuse("duplicate_key", format!("label `{}` comes twice", shown(&label))));
            }
            let value = self.value(depth + 1)?;
            self.pointer.truncate(length);
            fields.insert(label, value);
        }
        Ok(Value::Object(fields))
    }

    /// Whether another item follows; takes the break of an item of indefinite length.
    fn has_next(&mut self, declared: Option<u64>, taken: usize) -> Result<bool, Refusal> {
        if let Some(declared) = declared {
            return Ok((taken as u64) < declared);
        }
        let is_break = self.decoder.datatype().map_err(|error| self.broken(&error))? == Type::Break;
        if is_break {
            self.decoder.set_position(self.decoder.position() + 1);
        }
        Ok(!is_break)
    }

    /// A key: SenML's own are small integers, others are texts. An integer that is none of SenML's is kept as
    /// its digits, so that it is ignored, but not twice.
    fn label(&mut self) -> Result<String, Refusal> {
        let kind = self.decoder.datatype().map_err(|error| self.broken(&error))?;
        if matches!(kind, Type::String | Type::StringIndef) {
            return self.text();
        }
        let number = self.take(Decoder::i64)?;
        let index = usize::try_from(number.saturating_sub(LABEL_MIN)).ok();
        let label = index.and_then(|index| LABELS.get(index));
        Ok(label.map_or_else(|| number.to_string(), |label| (*label).to_owned()))
    }

    fn text(&mut self) -> Result<String, Refusal> {
        let pieces = self
            .decoder
            .str_iter()
            .and_then(Iterator::collect::<Result<Vec<&str>, _>>);
        let text = pieces.map_err(|error| self.broken(&error))?.concat();
        if text.contains('\0') {
            return Err(self.refuse("cbor", "U+0000 in a text cannot be stored".to_owned()));
        }
        Ok(text)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Refusal> {
        let pieces = self
            .decoder
            .bytes_iter()
            .and_then(Iterator::collect::<Result<Vec<&[u8]>, _>>);
        Ok(pieces.map_err(|error| self.broken(&error))?.concat())
    }

    fn integer(&mut self) -> Result<Value, Refusal> {
        let number = i128::from(self.take(Decoder::int)?);
        #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
        let is_exact = number.abs() <= EXACT_MAX || (number as f64) as i128 == number;
        if !is_exact {
            return Err(self.refuse("number", format!("a double cannot hold the integer {number}")));
        }
        let whole = i64::try_from(number).map(Number::from);
        match whole.or_else(|_| u64::try_from(number).map(Number::from)) {
            Ok(whole) => Ok(Value::Number(whole)),
            // CBOR's negative integers go down to -2^64.
            Err(_) => self.double(number as f64),
        }
    }

    fn float(&mut self, kind: Type) -> Result<Value, Refusal> {
        let float = match kind {
            Type::F16 => self.take(Decoder::f16).map(f64::from),
            Type::F32 => self.take(Decoder::f32).map(f64::from),
            _ => self.take(Decoder::f64),
        }?;
        self.double(float)
    }

    fn double(&self, double: f64) -> Result<Value, Refusal> {
        let number = Number::from_f64(double).map(Value::Number);
        number.ok_or_else(|| self.refuse("number", format!("{double} is not a number of JSON")))
    }

    /// Decimal fractions (tag 4) are the one tag of SenML.
    fn tagged(&mut self, depth: usize) -> Result<Value, Refusal> {
        let tag = self.take(Decoder::tag)?.as_u64();
        if tag != 4 {
            return Err(self.refuse("cbor", format!("tag {tag} has no place in SenML")));
        }
        if self.take(Decoder::array)? != Some(2) {
            return Err(self.refuse("cbor", "a decimal fraction is an array of two".to_owned()));
        }
        debug_assert!(depth <= DEVICE.depth, "a fraction nests no deeper");
        let (exponent, mantissa) = (self.take(Decoder::i64)?, self.take(Decoder::i64)?);
        let decimal: f64 = format!("{mantissa}e{exponent}").parse().unwrap_or(f64::INFINITY);
        self.double(decimal)
    }

    fn take<T>(&mut self, read: impl FnOnce(&mut Decoder<'a>) -> Result<T, Error>) -> Result<T, Refusal> {
        read(&mut self.decoder).map_err(|error| self.broken(&error))
    }

    /// Goes down to that key or index; gives back the length that leads up again.
    fn enter(&mut self, segment: &str) -> usize {
        let length = self.pointer.len();
        push_segment(&mut self.pointer, segment);
        length
    }

    fn broken(&self, error: &Error) -> Refusal {
        self.refuse("cbor", format!("at byte {}: {error}", self.decoder.position()))
    }

    fn refuse(&self, reason: &'static str, message: String) -> Refusal {
        Refusal::at(reason, self.pointer.clone(), message)
    }
}
