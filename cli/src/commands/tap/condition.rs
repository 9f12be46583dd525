//! `surface_temperature<0`: a condition over what a message carries.
use serde_json::Value;
use std::{cmp::Ordering, str::FromStr};

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    name: String,
    comparison: Comparison,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Unequal,
}

const SIGNS: [(&str, Comparison); 7] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("!=", Comparison::Unequal),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::More),
    ("=", Comparison::Equal),
];

impl FromStr for Condition {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not `<property><op><value>` with one of < <= > >= = !=");
        let at = text.find(['<', '>', '=', '!']).ok_or_else(wrong)?;
        let (name, rest) = text.split_at_checked(at).ok_or_else(wrong)?;
        let (sign, comparison) = SIGNS
            .iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(wrong)?;
        let value = rest.strip_prefix(sign).unwrap_or_default().trim();
        if name.trim().is_empty() || value.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            name: name.trim().to_owned(),
            comparison: *comparison,
            value: serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        })
    }
}

impl Condition {
    /// Whether it holds for any record of that name, or for that member of an event's detail or of the data.
    pub(super) fn holds(&self, document: &Value) -> bool {
        let data = &document["data"];
        let records = data["records"].as_array().into_iter().flatten();
        let values = records
            .filter(|record| record["n"] == self.name.as_str())
            .filter_map(|record| {
                ["v", "vs", "vb", "vd"]
                    .iter()
                    .find_map(|member| record.get(*member))
            });
        let members = [
            &data["detail"][&self.name],
            &data[&self.name],
            &document[&self.name],
        ];
        values
            .chain(members)
            .filter(|value| !value.is_null())
            .any(|value| self.compare(value))
    }

    fn compare(&self, found: &Value) -> bool {
        let order = match (found, &self.value) {
            (Value::Number(found), Value::Number(wanted)) => found
                .as_f64()
                .zip(wanted.as_f64())
                .and_then(|(found, wanted)| found.partial_cmp(&wanted)),
            (Value::String(found), Value::String(wanted)) => Some(found.cmp(wanted)),
            (found, wanted) if found == wanted => Some(Ordering::Equal),
            _ => None,
        };
        match self.comparison {
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::More => order == Some(Ordering::Greater),
            Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::Unequal => order != Some(Ordering::Equal),
        }
    }
}
