//! Times as files write them.
use super::mapping::Time;
use jiff::{
    civil::DateTime,
    fmt::strtime,
    tz::{Offset, TimeZone},
};
use telltale_schemas::Timestamp;

/// Reads the times of one file.
#[derive(Debug, Clone)]
pub struct Clock {
    form: Form,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum Form {
    Rfc3339,
    Epoch,
    EpochMillis,
    Pattern { pattern: String, zoned: bool },
}

/// Why a time cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// Neither an offset nor a zone that this machine knows.
    #[error("zone `{0}` is not known here: give `UTC`, an offset such as `+01:00`, or an IANA name")]
    Zone(String),
    /// The text is not in the format.
    #[error("time `{text}` does not read as `{form}`")]
    Text {
        /// What stands in the file.
        text: String,
        /// What the mapping says.
        form: String,
    },
}

impl Clock {
    /// The clock of a mapping.
    pub fn new(time: &Time) -> Result<Self, ClockError> {
        let form = match time.format.as_str() {
            "rfc3339" => Form::Rfc3339,
            "epoch" => Form::Epoch,
            "epoch_ms" => Form::EpochMillis,
            pattern => Form::Pattern {
                pattern: pattern.to_owned(),
                zoned: pattern.contains("%z") || pattern.contains("%:z") || pattern.contains("%s"),
            },
        };
        let zone = zone(&time.zone).ok_or_else(|| ClockError::Zone(time.zone.clone()))?;
        Ok(Self { form, zone })
    }

    /// The moment that a text says. A local time that the clocks skipped is taken as if they had not;
    /// of one that they repeated, the first.
    pub fn read(&self, text: &str) -> Result<Timestamp, ClockError> {
        let wrong = || ClockError::Text {
            text: text.chars().take(80).collect(),
            form: self.form.name().to_owned(),
        };
        let seconds = |scale: f64| {
            let number: f64 = text.parse().ok()?;
            Timestamp::from_seconds(number / scale)
        };
        match &self.form {
            Form::Rfc3339 => Timestamp::parse(text).ok(),
            Form::Epoch => seconds(1.0),
            Form::EpochMillis => seconds(1e3),
            Form::Pattern { pattern, zoned } => self.pattern(text, pattern, *zoned),
        }
        .ok_or_else(wrong)
    }

    fn pattern(&self, text: &str, pattern: &str, zoned: bool) -> Option<Timestamp> {
        let parsed = strtime::parse(pattern, text).ok()?;
        let at = if zoned {
            parsed.to_timestamp().ok()?
        } else {
            let local = parsed
                .to_datetime()
                .or_else(|_| parsed.to_date().map(DateTime::from))
                .ok()?;
            self.zone.to_timestamp(local).ok()?
        };
        Timestamp::from_micros(at.as_microsecond())
    }
}

impl Form {
    fn name(&self) -> &str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::Epoch => "epoch",
            Self::EpochMillis => "epoch_ms",
            Self::Pattern { pattern, .. } => pattern,
        }
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" || name == "Z" {
        return Some(TimeZone::UTC);
    }
    let (sign, digits) = match name.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return TimeZone::get(name).ok(),
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..60).contains(&minutes) || !(0..24).contains(&hours) {
        return None;
    }
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some(offset.to_time_zone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: &str, text: &str) -> String {
        let time = Time {
            columns: Vec::new(),
            format: format.into(),
            zone: zone.into(),
        };
        Clock::new(&time)
            .unwrap()
            .read(text)
            .map_or_else(|e| e.to_string(), |at| at.to_string())
    }

    #[test]
    fn times_are_read_in_formats_and_zones_that_people_use() {
        for (format, zone, text, expected) in [
            (
                "%d/%m/%Y %H:%M:%S",
                "+01:00",
                "10/03/2004 18:00:00",
                "2004-03-10T17:00:00Z",
            ),
            (
                "%d/%m/%Y %H:%M:%S",
                "+01:00",
                "4/04/2005 9:00:00",
                "2005-04-04T08:00:00Z",
            ),
            (
                "%d/%m/%Y %H.%M.%S",
                "UTC",
                "10/03/2004 18.00.00",
                "2004-03-10T18:00:00Z",
            ),
            (
                "%m/%d/%y %I:%M %p",
                "-05:30",
                "3/9/04 6:05 PM",
                "2004-03-09T23:35:00Z",
            ),
            ("%Y-%m-%d", "UTC", "2004-03-10", "2004-03-10T00:00:00Z"),
            (
                "%Y-%m-%dT%H:%M:%S%.f%z",
                "UTC",
                "2004-03-10T18:00:00.25+0200",
                "2004-03-10T16:00:00.25Z",
            ),
            (
                "rfc3339",
                "UTC",
                "2004-03-10T18:00:00+01:00",
                "2004-03-10T17:00:00Z",
            ),
            ("epoch", "UTC", "1078938000.5", "2004-03-10T17:00:00.5Z"),
            ("epoch_ms", "UTC", "1078938000500", "2004-03-10T17:00:00.5Z"),
        ] {
            assert_eq!(read(format, zone, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_with_the_format() {
        assert_eq!(
            read("epoch", "UTC", "soon"),
            "time `soon` does not read as `epoch`"
        );
        assert_eq!(
            read("%d/%m/%Y", "UTC", "31/02/2004"),
            "time `31/02/2004` does not read as `%d/%m/%Y`"
        );
        let time = Time {
            columns: Vec::new(),
            format: "epoch".into(),
            zone: "Atlantis/Capital".into(),
        };
        assert!(Clock::new(&time).is_err());
    }
}
