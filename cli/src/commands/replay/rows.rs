//! A file's rows as readings.
use super::{
    clock::{Clock, ClockError},
    mapping::{Column, FileFormat, Mapping},
};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};
use telltale_nats::Name;
use telltale_schemas::{Timestamp, id, thing::ValueType};

/// One row, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// From 1; the heading counts.
    pub line: u64,
    /// Whose reading it is.
    pub thing: String,
    /// Names the row for ever.
    pub key: String,
    /// When it was measured.
    pub time: Timestamp,
    /// Property and value; `null` for a text that means «no value».
    pub values: Map<String, Value>,
    /// How many of the values mean «no value».
    pub missing: usize,
}

impl Row {
    /// The reading's id.
    pub fn id(&self) -> String {
        id::of(&self.thing, &self.key)
    }

    /// As a device would send it.
    pub fn body(&self) -> Value {
        let mut body = self.values.clone();
        body.insert("time".into(), self.time.to_string().into());
        Value::Object(body)
    }
}

/// Why a row cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not CSV, or not JSON.
    #[error("line {line}: {why}")]
    Form {
        /// From 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// A time that is none.
    #[error("line {line}")]
    Time {
        /// From 1.
        line: u64,
        /// What is wrong.
        #[source]
        source: ClockError,
    },
    /// The file broke off.
    #[error("the file cannot be read on")]
    Read(#[from] io::Error),
}

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or may not be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Where it should be.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Its heading is none.
    #[error("the heading cannot be read")]
    Heading(#[from] csv::Error),
    /// The mapping speaks of columns that it does not have.
    #[error("no column `{0}` in the file")]
    Column(String),
    /// The mapping's zone is unknown.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// Neither mapping nor suffix say what it is.
    #[error("`{0}`: say `format = \"csv\"` or `\"ndjson\"` in the mapping")]
    Format(String),
}

/// Reads a file row by row.
#[derive(Debug)]
pub struct Rows<'a> {
    mapping: &'a Mapping,
    clock: Clock,
    file_hash: String,
    source: Source,
    unmapped: BTreeSet<String>,
    /// Rows without any value in them.
    pub blank: u64,
}

#[derive(Debug)]
enum Source {
    Csv {
        reader: Box<csv::Reader<File>>,
        heading: Vec<String>,
    },
    Ndjson {
        lines: io::Lines<BufReader<File>>,
        line: u64,
    },
}

/// SHA-256 of a file, the first half, in hexadecimal.
fn hash(path: &Path) -> io::Result<String> {
    use std::fmt::Write as _;
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hasher.update(chunk.get(..n).unwrap_or_default()),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .take(8)
        .fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        }))
}

impl<'a> Rows<'a> {
    /// Opens a file, and checks that it has the columns that the mapping speaks of.
    pub fn open(path: &Path, mapping: &'a Mapping) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Read {
            path: path.display().to_string(),
            source,
        };
        let file_hash = hash(path).map_err(unreadable)?;
        let file = File::open(path).map_err(unreadable)?;
        let mut unmapped = BTreeSet::new();
        let source = match form(path, mapping).ok_or_else(|| OpenError::Format(path.display().to_string()))? {
            FileFormat::Csv => {
                let mut reader = csv::ReaderBuilder::new()
                    .delimiter(u8::try_from(mapping.delimiter).unwrap_or(b','))
                    .flexible(true)
                    .trim(csv::Trim::All)
                    .from_reader(file);
                let heading: Vec<String> = reader
                    .headers()?
                    .iter()
                    .map(|name| name.trim_start_matches('\u{feff}').to_owned())
                    .collect();
                if let Some(lacking) = mapping
                    .columns()
                    .find(|column| !heading.iter().any(|h| h == column))
                {
                    return Err(OpenError::Column(lacking.to_owned()));
                }
                unmapped.extend(
                    heading
                        .iter()
                        .filter(|name| !name.is_empty() && !mentions(mapping, name))
                        .cloned(),
                );
                Source::Csv {
                    reader: Box::new(reader),
                    heading,
                }
            }
            FileFormat::Ndjson => Source::Ndjson {
                lines: BufReader::new(file).lines(),
                line: 0,
            },
        };
        Ok(Self {
            mapping,
            clock: Clock::new(&mapping.time)?,
            file_hash,
            source,
            unmapped,
            blank: 0,
        })
    }

    /// The columns that the mapping does not speak of, as far as the file has been read.
    pub fn unmapped(&self) -> impl Iterator<Item = &str> {
        self.unmapped.iter().map(String::as_str)
    }

    fn pull(&mut self) -> Option<Result<(u64, Value), RowError>> {
        match &mut self.source {
            Source::Csv { reader, heading } => {
                let mut record = csv::StringRecord::new();
                match reader.read_record(&mut record) {
                    Ok(false) => None,
                    Err(error) => Some(Err(RowError::Form {
                        line: error.position().map_or(0, csv::Position::line),
                        why: error.to_string(),
                    })),
                    Ok(true) => {
                        let line = record.position().map_or(0, csv::Position::line);
                        let cells = heading.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                        let object = cells
                            .map(|(name, cell)| (name.clone(), Value::from(cell)))
                            .collect();
                        Some(Ok((line, Value::Object(object))))
                    }
                }
            }
            Source::Ndjson { lines, line } => {
                let text = lines.next()?;
                *line += 1;
                let line = *line;
                Some(
                    text.map_err(RowError::Read)
                        .and_then(|text| object(&text, line).map(|value| (line, value))),
                )
            }
        }
    }

    fn row(&self, line: u64, cells: &Value) -> Result<Row, RowError> {
        let wrong = |why: String| RowError::Form { line, why };
        let text = |column: &str| {
            let found = cell(cells, column).ok_or_else(|| wrong(format!("column `{column}` is empty")))?;
            Ok::<_, RowError>(plain(found))
        };
        let thing = match (&self.mapping.thing.name, &self.mapping.thing.column) {
            (Some(name), _) => name.clone(),
            (None, column) => text(column.as_deref().unwrap_or_default())?,
        };
        Name::new(&thing).map_err(|error| wrong(error.to_string()))?;
        let parts = self.mapping.time.columns.iter().map(|column| text(column));
        let time = parts.collect::<Result<Vec<_>, _>>()?.join(" ");
        let time = self
            .clock
            .read(&time)
            .map_err(|source| RowError::Time { line, source })?;
        let key = if self.mapping.key.columns.is_empty() {
            format!("{}-{line}", self.file_hash)
        } else {
            let parts = self.mapping.key.columns.iter().map(|column| text(column));
            digest(&parts.collect::<Result<Vec<_>, _>>()?)
        };
        let mut row = Row {
            line,
            thing,
            key,
            time,
            values: Map::new(),
            missing: 0,
        };
        for (column, property) in &self.mapping.properties {
            let Some(given) = cell(cells, column) else {
                continue;
            };
            let name = property.name.clone().unwrap_or_else(|| column.clone());
            let value = self.value(given, column, property).map_err(wrong)?;
            row.missing += usize::from(self.is_missing(&value, property));
            row.values.insert(name, value);
        }
        Ok(row)
    }

    /// A cell's value; `null` for a text that means «no value» in a column of another type.
    fn value(&self, given: &Value, column: &str, property: &Column) -> Result<Value, String> {
        let Value::String(text) = given else {
            return Ok(given.clone());
        };
        let means_none = self.mapping.missing(property).any(|value| value == given);
        let read = match property.kind() {
            ValueType::String => return Ok(given.clone()),
            ValueType::Number | ValueType::Integer => number(text, self.mapping.decimal),
            ValueType::Boolean => boolean(text),
        };
        match read {
            Some(value) => Ok(value),
            None if means_none => Ok(Value::Null),
            None => Err(format!("`{text}` in column `{column}` is no {:?}", property.kind()).to_lowercase()),
        }
    }

    fn is_missing(&self, value: &Value, property: &Column) -> bool {
        let equal = |other: &Value| match (value.as_f64(), other.as_f64()) {
            #[expect(clippy::float_cmp, reason = "a sentinel is written, not computed")]
            (Some(a), Some(b)) => a == b,
            _ => value == other,
        };
        value.is_null() || self.mapping.missing(property).any(equal)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, RowError>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, cells) = match self.pull()? {
                Ok(pulled) => pulled,
                Err(error) => return Some(Err(error)),
            };
            let Value::Object(members) = &cells else { continue };
            if members.is_empty() {
                self.blank += 1;
                continue;
            }
            if let Source::Ndjson { .. } = self.source {
                let new = members.keys().filter(|name| !mentions(self.mapping, name));
                self.unmapped.extend(new.cloned().collect::<Vec<_>>());
            }
            match self.row(line, &cells) {
                Ok(row) if row.values.is_empty() => self.blank += 1,
                row => return Some(row),
            }
        }
    }
}

fn form(path: &Path, mapping: &Mapping) -> Option<FileFormat> {
    let suffix = path
        .extension()
        .map(|suffix| suffix.to_string_lossy().to_lowercase());
    mapping.format.or(match suffix.as_deref() {
        Some("csv" | "tsv") => Some(FileFormat::Csv),
        Some("ndjson" | "jsonl") => Some(FileFormat::Ndjson),
        _ => None,
    })
}

fn mentions(mapping: &Mapping, name: &str) -> bool {
    mapping.columns().any(|column| {
        let first = column.strip_prefix('/').and_then(|rest| rest.split('/').next());
        column == name || first == Some(name)
    })
}

fn object(text: &str, line: u64) -> Result<Value, RowError> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(Value::Object(members)),
        Ok(_) => Err(RowError::Form {
            line,
            why: "not a JSON object".into(),
        }),
        Err(error) => Err(RowError::Form {
            line,
            why: format!("not JSON: {error}"),
        }),
    }
}

fn cell<'a>(cells: &'a Value, column: &str) -> Option<&'a Value> {
    let found = if column.starts_with('/') {
        cells.pointer(column)
    } else {
        cells.get(column)
    };
    found.filter(|value| value.as_str() != Some(""))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(text: &str, decimal: char) -> Option<Value> {
    let text = if decimal == '.' {
        text.to_owned()
    } else {
        text.replace(decimal, ".")
    };
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let number: f64 = text.parse().ok()?;
    Number::from_f64(number).map(Value::Number)
}

fn boolean(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true.into()),
        "false" | "no" | "0" => Some(false.into()),
        _ => None,
    }
}

/// One key for these values: their lengths are part of it, so that no two lists have the same.
fn digest(values: &[String]) -> String {
    use std::fmt::Write as _;
    let mut hasher = Sha256::new();
    for value in values {
        hasher.update(value.len().to_be_bytes());
        hasher.update(value);
    }
    hasher
        .finalize()
        .iter()
        .take(16)
        .fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests;
