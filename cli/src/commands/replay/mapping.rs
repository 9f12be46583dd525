//! What a file's columns mean: the TOML beside it.
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};
use telltale_nats::Name;
use telltale_schemas::thing::{Entry, Policy, Property, ValueType};

/// What a mapping file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The file's form; else its suffix decides.
    #[serde(default)]
    pub format: Option<FileFormat>,
    /// Between two cells of a CSV file.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Between a number's whole part and its fraction.
    #[serde(default = "point")]
    pub decimal: char,
    /// Whose readings they are.
    pub thing: Thing,
    /// When they were measured.
    pub time: Time,
    /// What makes a row the same row when it is sent again.
    #[serde(default)]
    pub key: Key,
    /// What is expected of all properties.
    #[serde(default)]
    pub policy: Expected,
    /// What is known about the thing.
    #[serde(default)]
    pub annotation: Map<String, Value>,
    /// By column; for NDJSON a member's name, or a JSON Pointer.
    pub properties: BTreeMap<String, Column>,
}

fn comma() -> char {
    ','
}

fn point() -> char {
    '.'
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// With a heading line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// One thing for the whole file, or one a row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// The thing's name.
    #[serde(default)]
    pub name: Option<String>,
    /// The column that names it.
    #[serde(default)]
    pub column: Option<String>,
}

/// How a row says its time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Joined by one blank before they are read.
    pub columns: Vec<String>,
    /// strptime's directives, or `rfc3339`, `epoch`, `epoch_ms`.
    #[serde(default = "rfc3339")]
    pub format: String,
    /// `UTC`, an offset (`+01:00`) or a zone's name (`Europe/Rome`); of no use where the format has `%z`.
    #[serde(default = "utc")]
    pub zone: String,
}

fn rfc3339() -> String {
    "rfc3339".into()
}

fn utc() -> String {
    "UTC".into()
}

/// What makes a row the same row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `row`: the file's hash and the line.
    #[serde(default)]
    pub from: Option<KeyFrom>,
    /// The values of these columns.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// A key that is not made from columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyFrom {
    /// The file's hash and the line.
    Row,
}

/// What is expected of all properties.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Values that mean «no value», in every column.
    #[serde(default)]
    pub missing: Vec<Value>,
    /// For readings that come without the right to backfill.
    #[serde(default)]
    pub late: Option<String>,
    /// Likewise.
    #[serde(default)]
    pub ahead: Option<String>,
}

/// One column that becomes a property.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The property; the column's own name if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// `number` if absent.
    #[serde(default, rename = "type")]
    pub kind: Option<ValueType>,
    /// What the numbers are in.
    #[serde(default)]
    pub unit: Option<String>,
    /// Less is flagged.
    #[serde(default)]
    pub minimum: Option<f64>,
    /// More is flagged.
    #[serde(default)]
    pub maximum: Option<f64>,
    /// Values that mean «no value», in this column.
    #[serde(default)]
    pub missing: Vec<Value>,
}

impl Column {
    /// What a cell is read as.
    pub fn kind(&self) -> ValueType {
        self.kind.unwrap_or(ValueType::Number)
    }
}

/// Why a mapping cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It cannot be read.
    #[error("mapping `{path}` cannot be read")]
    Read {
        /// Where it should be.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is not the TOML that it should be.
    #[error("mapping is not understood")]
    Toml(#[from] toml::de::Error),
    /// It contradicts itself.
    #[error("mapping: {0}")]
    Contradiction(String),
}

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn read(path: &Path) -> Result<Self, MappingError> {
        let text = std::fs::read_to_string(path).map_err(|source| MappingError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Parses and checks a mapping.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mapping: Self = toml::from_str(text)?;
        mapping.check().map_err(MappingError::Contradiction)?;
        Ok(mapping)
    }

    fn check(&self) -> Result<(), String> {
        match (&self.thing.name, &self.thing.column) {
            (Some(name), None) => drop(Name::new(name).map_err(|error| error.to_string())?),
            (None, Some(_)) => {}
            _ => return Err("[thing] has either `name` or `column`".into()),
        }
        if self.time.columns.is_empty() {
            return Err("[time] names no column".into());
        }
        if self.key.from.is_some() != self.key.columns.is_empty() && self.key != Key::default() {
            return Err("[key] has either `from = \"row\"` or `columns`".into());
        }
        if !self.delimiter.is_ascii() || self.delimiter == self.decimal {
            return Err("the delimiter is one ASCII character, and not the decimal's".into());
        }
        if !matches!(self.decimal, '.' | ',') {
            return Err("the decimal is `.` or `,`".into());
        }
        let mut names = std::collections::BTreeSet::new();
        for (column, property) in &self.properties {
            let name = property.name.as_deref().unwrap_or(column);
            if !is_property(name) {
                return Err(format!(
                    "`{name}` cannot be a property's name: letters, digits and -:._/ only, beginning with a letter or digit"
                ));
            }
            if matches!(name, "time" | "specversion") {
                return Err(format!("a property cannot be called `{name}`"));
            }
            if !names.insert(name) {
                return Err(format!("two columns are property `{name}`"));
            }
        }
        if names.is_empty() {
            return Err("[properties] is empty".into());
        }
        Ok(())
    }

    /// What is registered for a thing of the file.
    pub fn entry(&self, thing: &str) -> Entry {
        let property = |(column, given): (&String, &Column)| {
            let property = Property {
                kind: Some(given.kind()),
                unit: given.unit.clone(),
                minimum: given.minimum,
                maximum: given.maximum,
                missing: self.missing(given).cloned().collect(),
                ..Property::default()
            };
            (given.name.clone().unwrap_or_else(|| column.clone()), property)
        };
        Entry {
            thing: thing.into(),
            policy: Policy {
                late: self.policy.late.clone(),
                ahead: self.policy.ahead.clone(),
                properties: self.properties.iter().map(property).collect(),
                ..Policy::default()
            },
            annotation: self.annotation.clone(),
            ..Entry::default()
        }
    }

    /// The values that mean «no value» in that column.
    pub fn missing<'a>(&'a self, column: &'a Column) -> impl Iterator<Item = &'a Value> {
        self.policy.missing.iter().chain(&column.missing)
    }

    /// All columns that the mapping speaks of.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let own = self
            .thing
            .column
            .iter()
            .chain(&self.time.columns)
            .chain(&self.key.columns);
        own.chain(self.properties.keys()).map(String::as_str)
    }
}

/// SenML's alphabet of names (RFC 8428 §4.5.1), at most 128 bytes.
fn is_property(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-:._/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.v]\n";

    #[test]
    fn the_least_mapping_is_enough() {
        let mapping = Mapping::parse(LEAST).unwrap();
        assert_eq!(mapping.time.format, "rfc3339");
        assert_eq!(mapping.columns().collect::<Vec<_>>(), ["at", "v"]);
        assert_eq!(
            mapping.entry("t").policy.properties["v"].kind,
            Some(ValueType::Number)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "[thing]\n[time]\ncolumns=['at']\n[properties.v]\n",
            "[thing]\nname='_t'\n[time]\ncolumns=['at']\n[properties.v]\n",
            "[thing]\nname='t'\ncolumn='c'\n[time]\ncolumns=['at']\n[properties.v]\n",
            "[thing]\nname='t'\n[time]\ncolumns=[]\n[properties.v]\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties]\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.time]\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.'a b']\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.a]\n[properties.b]\nname='a'\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.a]\nuint='m'\n",
            "decimal=','\n[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.a]\n",
            "[thing]\nname='t'\n[time]\ncolumns=['at']\n[key]\nfrom='row'\ncolumns=['x']\n[properties.a]\n",
        ] {
            assert!(Mapping::parse(text).is_err(), "{text}");
        }
    }
}
