//! A moment, to the microsecond.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment in microseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC.
///
/// Microseconds are what PostgreSQL keeps; a finer time is cut, so that what is read back equals what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Years 0000 to 9999, what RFC 3339 can spell, in microseconds since the epoch.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The text or number is no moment that RFC 3339 can spell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time in the years 0000 to 9999")]
pub struct TimestampError(pub String);

impl Timestamp {
    /// The system's clock.
    pub fn now() -> Self {
        Self::from_offset(OffsetDateTime::now_utc())
    }

    /// `None` outside the years 0000 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        RANGE.contains(&micros).then_some(Self(micros))
    }

    /// From epoch seconds as SenML has them (RFC 8428 §4.5.3), rounded to the microsecond.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        // Apart, because one product of all would round once more: a moment of a microsecond comes back as it
        // went until the year 2242.
        let whole = seconds.floor();
        let micros = ((seconds - whole) * 1e6).round();
        if !whole.is_finite() || whole.abs() > 1e12 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded on the line above")]
        Self::from_micros(whole as i64 * 1_000_000 + micros as i64)
    }

    /// From the `time` crate's type, cut to the microsecond.
    pub fn from_offset(at: OffsetDateTime) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "years up to 9999 fit in 64 bits of microseconds"
        )]
        let micros = at.unix_timestamp_nanos().div_euclid(1000) as i64;
        Self(micros.clamp(*RANGE.start(), *RANGE.end()))
    }

    /// For `tokio-postgres` and `async-nats`, which speak the `time` crate.
    pub fn to_offset(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .expect("a Timestamp is within the years 0000 to 9999")
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Epoch seconds, as SenML writes them.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Parses RFC 3339 with any offset.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError(text.into()))?;
        i64::try_from(at.unix_timestamp_nanos().div_euclid(1000))
            .ok()
            .and_then(Self::from_micros)
            .ok_or_else(|| TimestampError(text.into()))
    }

    /// This moment moved by that many microseconds, held within the spellable years.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(*RANGE.start(), *RANGE.end()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.to_offset();
        let (date, clock) = (at.date(), at.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second()
        )?;
        let mut fraction = clock.microsecond();
        if fraction > 0 {
            let mut width = 6;
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            write!(f, ".{fraction:0width$}")?;
        }
        f.write_str("Z")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse(text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_without_needless_zeros() {
        for (given, written) in [
            ("2026-01-15T07:41:09.25Z", "2026-01-15T07:41:09.25Z"),
            ("2026-01-15T08:41:09+01:00", "2026-01-15T07:41:09Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("2026-01-15T07:41:09.1234567Z", "2026-01-15T07:41:09.123456Z"),
        ] {
            assert_eq!(Timestamp::parse(given).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-01-15",
            "2026-13-01T00:00:00Z",
            "2026-01-15T07:41:09",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        assert_eq!(Timestamp::from_seconds(f64::NAN), None);
        assert_eq!(Timestamp::from_seconds(1e300), None);
    }
}
