//! Sizes and times as people write them.
use serde::{Deserialize, de};
use std::{fmt, str::FromStr, time::Duration};

/// Bytes, written `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// A time, written `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// Why a text is no size or time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a whole number and a unit ({units})")]
pub struct MeasureError {
    text: String,
    units: &'static str,
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// In milliseconds. `ms` stands before `s`, which it ends with.
const SPANS: [(&str, u64); 5] = [
    ("ms", 1),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
];

impl Size {
    /// Of so many bytes.
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// In bytes, as the broker's configuration has it.
    pub(super) fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl Span {
    /// Of that length, to the millisecond.
    pub const fn of(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

fn parse(text: &str, units: &[(&str, u64)], names: &'static str) -> Result<u64, MeasureError> {
    let found = units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*factor)
    });
    found.ok_or_else(|| MeasureError {
        text: text.chars().take(40).collect(),
        units: names,
    })
}

/// In the largest unit that divides it.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let largest = units
        .iter()
        .filter(|(_, factor)| value.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| *factor);
    let (unit, factor) = largest.expect("the smallest unit divides everything");
    write!(f, "{}{unit}", value / factor)
}

impl FromStr for Size {
    type Err = MeasureError;
    fn from_str(text: &str) -> Result<Self, MeasureError> {
        parse(text, &SIZES, "B, KiB, MiB, GiB").map(Self)
    }
}

impl FromStr for Span {
    type Err = MeasureError;
    fn from_str(text: &str) -> Result<Self, MeasureError> {
        parse(text, &SPANS, "ms, s, m, h, d").map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPANS)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_written_as_they_are_read() {
        for text in ["1B", "512MiB", "2GiB", "1025KiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["100ms", "2m", "24h", "7d", "90d", "1s"].map(|text| (text, text.replace("24h", "1d"))) {
            assert_eq!(text.0.parse::<Span>().unwrap().to_string(), text.1);
        }
        for text in ["", "1", "1.5GiB", "GiB", "-1B", "1 B", "99999999999GiB", "1w"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
