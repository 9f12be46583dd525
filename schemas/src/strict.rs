//! JSON from strangers: one pass, with limits, that refuses what a lenient parser would change in silence.
//!
//! `serde_json` keeps the last of two equal keys, rounds `9007199254740993`, and tells no JSON Pointer. Here
//! both are refused, and so are depth, size, U+0000 (which PostgreSQL cannot hold), lone surrogates, a byte
//! order mark and anything after the document. What is accepted is what `serde_json` would have returned.
use crate::{
    Refusal,
    refusal::{push_segment, shown},
};
use serde_json::{Map, Number, Value};

/// What a document may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes.
    pub bytes: usize,
    /// Most containers inside each other.
    pub depth: usize,
}

/// For what a device sends: 256 KiB, 32 levels.
pub const DEVICE: Limits = Limits {
    bytes: 256 * 1024,
    depth: 32,
};

/// Most values in one document: a thousand records with all their labels, and no more. A value costs memory
/// far beyond its two bytes of text.
const VALUES_MAX: usize = 16 * 1024;

/// Parses one document.
///
/// Reasons: `size`, `utf8`, `json`, `depth`, `duplicate_key`, `number`, `records` (too many values).
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Value, Refusal> {
    if bytes.len() > limits.bytes {
        let message = format!("{} bytes are more than {}", bytes.len(), limits.bytes);
        return Err(Refusal::at("size", "", message));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Scanner::new(text, limits.depth).document(),
        Err(error) => Err(not_utf8(bytes, error.valid_up_to(), limits)),
    }
}

/// Finds out in which place the text stops to be UTF-8, by parsing as far as it is.
fn not_utf8(bytes: &[u8], valid: usize, limits: &Limits) -> Refusal {
    let text = bytes
        .get(..valid)
        .and_then(|valid| std::str::from_utf8(valid).ok());
    let mut scanner = Scanner::new(text.unwrap_or_default(), limits.depth);
    let refusal = scanner.document().err();
    let pointer = refusal.and_then(|refusal| refusal.faults.into_iter().next());
    let pointer = pointer.map(|fault| fault.pointer).unwrap_or_default();
    Refusal::at("utf8", pointer, format!("byte {valid} is not UTF-8"))
}

/// Where in the document the scanner is.
enum Segment {
    Key(String),
    Index(usize),
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Segment>,
    depth_max: usize,
    values: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, depth_max: usize) -> Self {
        Self {
            text,
            at: 0,
            path: Vec::new(),
            depth_max,
            values: 0,
        }
    }

    fn document(&mut self) -> Result<Value, Refusal> {
        self.space();
        let value = self.value()?;
        self.space();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(self.refuse(
                "json",
                format!("more text after the document, at byte {}", self.at),
            )),
        }
    }

    fn value(&mut self) -> Result<Value, Refusal> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.refuse("records", format!("more than {VALUES_MAX} values")));
        }
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn object(&mut self) -> Result<Value, Refusal> {
        self.enter()?;
        let mut map = Map::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?;
            self.path.push(Segment::Key(key.clone()));
            if map.contains_key(&key) {
                return Err(self.refuse("duplicate_key", format!("key `{}` comes twice", shown(&key))));
            }
            self.space();
            if !self.eat(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.space();
            let value = self.value()?;
            map.insert(key, value);
            self.path.pop();
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Object(map));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
            self.space();
        }
    }

    fn array(&mut self) -> Result<Value, Refusal> {
        self.enter()?;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.path.push(Segment::Index(items.len()));
            let item = self.value()?;
            items.push(item);
            self.path.pop();
            self.space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
            self.space();
        }
    }

    /// Takes the opening bracket. The path is as long as there are containers open, so it is the depth.
    fn enter(&mut self) -> Result<(), Refusal> {
        if self.path.len() >= self.depth_max {
            return Err(self.refuse("depth", format!("more than {} levels", self.depth_max)));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self
                .peek()
                .is_some_and(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20)
            {
                self.at += 1;
            }
            out.push_str(self.slice(start));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(self.unexpected("`\"`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Refusal> {
        let letter = self.peek();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => {
                self.at -= 1;
                return Err(self.unexpected("an escape"));
            }
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Refusal> {
        let unit = self.hex4()?;
        let code = match unit {
            0 => {
                let message = "U+0000 in a text cannot be stored".to_owned();
                return Err(self.refuse("json", message));
            }
            0xd800..=0xdbff if self.eat(b'\\') && self.eat(b'u') => match self.hex4()? {
                low @ 0xdc00..=0xdfff => 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                _ => unit,
            },
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.refuse("json", "half of a surrogate pair".to_owned()))
    }

    fn hex4(&mut self) -> Result<u32, Refusal> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.unexpected("a hex digit"));
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<Number, Refusal> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') && self.digits() == 0 {
            return Err(self.unexpected("a digit"));
        }
        let whole = self.at;
        if self.eat(b'.') && self.digits() == 0 {
            return Err(self.unexpected("a digit"));
        }
        let fraction = self.at;
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        let text = self.slice(start);
        let is_integer = whole == fraction && fraction == self.at;
        let integer = text.get(..whole - start).unwrap_or_default();
        // `1.0` and `1` are the same number, and so are their exactness rules.
        let is_whole = fraction == self.at
            && self
                .text
                .get(whole..fraction)
                .is_some_and(|rest| rest.bytes().all(|b| b == b'.' || b == b'0'));
        number(text, is_integer, is_whole.then_some(integer))
            .map_err(|message| self.refuse("number", message))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Refusal> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.unexpected("a value"))
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// From there to here. Both are places beside ASCII, so between characters.
    fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn unexpected(&self, wanted: &str) -> Refusal {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the end".to_owned(),
            Some('\u{feff}') => "a byte order mark".to_owned(),
            Some(c) => format!("`{}`", shown(c.encode_utf8(&mut [0; 4]))),
        };
        self.refuse(
            "json",
            format!("{wanted} was expected at byte {}, not {found}", self.at),
        )
    }

    fn refuse(&self, reason: &'static str, message: String) -> Refusal {
        let mut pointer = String::new();
        for segment in &self.path {
            match segment {
                Segment::Key(key) => push_segment(&mut pointer, key),
                Segment::Index(index) => push_segment(&mut pointer, &index.to_string()),
            }
        }
        Refusal::at(reason, pointer, message)
    }
}

/// The number that a text is. `integer` has its digits before the point, where only zeros stand behind it.
fn number(text: &str, is_integer: bool, integer: Option<&str>) -> Result<Number, String> {
    let double = text.parse::<f64>().ok().filter(|double| double.is_finite());
    let Some(double) = double else {
        return Err(format!("number {} is larger than a double can be", shown(text)));
    };
    let significand = text.split(['e', 'E']).next().unwrap_or_default();
    if double == 0.0 && significand.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        return Err(format!("number {} is smaller than a double can be", shown(text)));
    }
    // From 2^53 on not every integer is a double; `{:.0}` writes all the digits of the one that is nearest.
    if let Some(integer) = integer
        && double.abs() >= 9_007_199_254_740_992.0
        && format!("{double:.0}") != integer
    {
        return Err(format!("a double cannot hold the integer {}", shown(text)));
    }
    let whole = is_integer.then(|| {
        let unsigned = text.parse::<u64>().ok().map(Number::from);
        unsigned.or_else(|| text.parse::<i64>().ok().filter(|n| *n != 0).map(Number::from))
    });
    whole
        .flatten()
        .or_else(|| Number::from_f64(double))
        .ok_or_else(|| format!("{} is no number", shown(text)))
}
