//! Quality control of a property by IOOS QARTOD's tests: what is configured, and what a stage finds out later.
//!
//! What one message can tell (`gross_range`, the box of `location`) `validate` tests, what needs neighbours `process`.
//! Numbers are in the unit of the property (`Property::unit`), else as the records have them.
use crate::{Flag, Record, Timestamp, duration, kinds::Fault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::HashMap, time::Duration};

/// QARTOD's names of the tests, as they stand in a record's `failed`.
pub mod test {
    /// A value outside of what can be, or of what is usual.
    pub const GROSS_RANGE: &str = "gross_range";
    /// Too large a step from the value before, for the time between them.
    pub const RATE_OF_CHANGE: &str = "rate_of_change";
    /// The same for too long.
    pub const FLAT_LINE: &str = "flat_line";
    /// Far from the values before and after.
    pub const SPIKE: &str = "spike";
    /// Nothing came for too long before.
    pub const GAP: &str = "gap";
    /// A position where the thing cannot be, or that it cannot have come to.
    pub const LOCATION: &str = "location";
}

/// The event that carries verdicts which came after the message was stored: `{"of": [`[`Amendment`]`…]}`.
pub const EVENT: &str = "quality";
/// Most amendments in one event.
pub const AMENDMENTS_MAX: usize = 200;

/// The tests of one property; each that is absent is not made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// One value against spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gross_range: Option<GrossRange>,
    /// A value against the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_of_change: Option<RateOfChange>,
    /// A value against those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat_line: Option<FlatLine>,
    /// A value against the one before and the one after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike: Option<Spike>,
    /// The time since the record before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Latitude and longitude; of an object that has both, or of the latitude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

impl Quality {
    /// Whether some test of the property's own values needs those before or after.
    pub fn needs_neighbours(&self) -> bool {
        self.rate_of_change.is_some()
            || self.flat_line.is_some()
            || self.spike.is_some()
            || self.gap.is_some()
    }
}

/// Spans of values, bounds inclusive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrossRange {
    /// Outside of it: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_span: Option<[f64; 2]>,
    /// Outside of it: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect_span: Option<[f64; 2]>,
}

/// How fast a value may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateOfChange {
    /// Units per second; more: 3.
    pub threshold: f64,
}

/// For how long a value may stay as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatLine {
    /// Values whose range is less than this are the same, in units.
    pub tolerance: f64,
    /// The same for so long: 3. A duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<String>,
    /// The same for so long: 4. A duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<String>,
}

/// How far a value may be from its neighbours, in units.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    /// How far is measured; `average` if absent.
    #[serde(default)]
    pub method: Method,
    /// More: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<f64>,
    /// More: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<f64>,
}

/// How far a value is from its neighbours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// From the average of the one before and the one after.
    #[default]
    Average,
    /// The smaller of both steps, where it goes up and down, or down and up; else nothing.
    Differential,
}

/// How long nothing may come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Longer: 3. A duration.
    pub max: String,
}

/// Where a thing may be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// West, south, east, north in degrees, inclusive; outside: 4. West may be more than east, across the 180th meridian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f64; 4]>,
    /// Metres per second from the position before; faster: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_speed: Option<f64>,
}

impl GrossRange {
    /// What the test says of a value.
    pub fn judge(&self, value: f64) -> Flag {
        let outside = |span: Option<[f64; 2]>| span.is_some_and(|[low, high]| !(low..=high).contains(&value));
        if outside(self.fail_span) {
            Flag::Fail
        } else if outside(self.suspect_span) {
            Flag::Suspect
        } else {
            Flag::Pass
        }
    }
}

impl Location {
    /// What the box says of a position, in degrees. One that is none at all fails, box or not.
    pub fn judge(&self, latitude: f64, longitude: f64) -> Flag {
        let is_position = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        let inside = self.bbox.is_none_or(|[west, south, east, north]| {
            let between = if west <= east {
                (west..=east).contains(&longitude)
            } else {
                longitude >= west || longitude <= east
            };
            between && (south..=north).contains(&latitude)
        });
        if is_position && inside {
            Flag::Pass
        } else {
            Flag::Fail
        }
    }
}

/// That duration; a policy that was checked has no other.
pub fn span(text: &str) -> Duration {
    duration::parse(text).unwrap_or(Duration::MAX)
}

/// Whether it names the latitude of something: `position.lat`, `Vehicle.CurrentLocation.Latitude`.
pub fn is_latitude(name: &str) -> bool {
    is_member(name, &["lat", "latitude"])
}

fn is_longitude(name: &str) -> bool {
    is_member(name, &["lon", "lng", "long", "longitude"])
}

fn is_member(name: &str, words: &[&str]) -> bool {
    let (_, last) = split(name);
    words.iter().any(|word| last.eq_ignore_ascii_case(word))
}

/// The object that it is inside of, and the last word.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// Latitude and longitude of one moment, by their places among the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The latitude.
    pub latitude: usize,
    /// The longitude.
    pub longitude: usize,
}

/// The positions among records that have a number both for latitude and for longitude, of the same object and moment.
pub fn positions(records: &[Record]) -> Vec<Position> {
    let key = |record: &'_ Record| (split(&record.n).0.to_owned(), record.t.map(f64::to_bits));
    let mut longitudes = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        if is_longitude(&record.n) && record.v.is_some() {
            longitudes.entry(key(record)).or_insert(index);
        }
    }
    if longitudes.is_empty() {
        return Vec::new();
    }
    let latitudes = records.iter().enumerate();
    latitudes
        .filter(|(_, record)| is_latitude(&record.n) && record.v.is_some())
        .filter_map(|(latitude, record)| {
            let longitude = longitudes.remove(&key(record))?;
            Some(Position { latitude, longitude })
        })
        .collect()
}

/// A verdict on a record that is stored already. Of two on the same record the worse flag holds, and the tests of both:
/// so the order in which they are heard is no matter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Amendment {
    /// Of the message.
    pub id: String,
    /// When the record was measured.
    pub time: Timestamp,
    /// Its place among the records of the message.
    pub ordinal: u16,
    /// The property.
    pub n: String,
    /// Its quality now.
    pub q: Flag,
    /// The tests that failed, all of them.
    #[serde(default)]
    pub failed: Vec<String>,
}

impl Amendment {
    /// Takes another verdict on the same record in.
    pub fn join(&mut self, other: &Self) {
        self.q = self.q.worse(other.q);
        for test in &other.failed {
            if !self.failed.contains(test) {
                self.failed.push(test.clone());
            }
        }
    }
}

/// What a schema cannot say: durations that are some, and spans and thresholds in their order.
pub(crate) fn check_meaning(quality: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    let at = |path: &str| quality.pointer(path);
    for path in ["/flat_line/suspect", "/flat_line/fail", "/gap/max"] {
        let text = at(path).and_then(Value::as_str);
        if let Some(text) = text.filter(|text| duration::parse(text).is_none_or(|span| span.is_zero())) {
            faults.push(Fault::at(
                format!("{pointer}{path}"),
                format!("`{text}` is no duration of more than nothing: `50m`"),
            ));
        }
    }
    let number = |path: &str| at(path).and_then(Value::as_f64);
    let seconds = |path: &str| {
        at(path)?
            .as_str()
            .and_then(duration::parse)
            .map(|span| span.as_secs_f64())
    };
    let ordered = [
        ("/gross_range/fail_span/0", "/gross_range/fail_span/1"),
        ("/gross_range/suspect_span/0", "/gross_range/suspect_span/1"),
        ("/gross_range/fail_span/0", "/gross_range/suspect_span/0"),
        ("/gross_range/suspect_span/1", "/gross_range/fail_span/1"),
        ("/spike/suspect", "/spike/fail"),
        ("/location/bbox/1", "/location/bbox/3"),
    ]
    .map(|(low, high)| (low, number(low), high, number(high)));
    let flat = ("/flat_line/suspect", "/flat_line/fail");
    let flat = (flat.0, seconds(flat.0), flat.1, seconds(flat.1));
    for (low, least, high, most) in ordered.into_iter().chain([flat]) {
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            let message = format!("{least} is more than {most}, which is at `{high}`");
            faults.push(Fault::at(format!("{pointer}{low}"), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: &str, v: Option<f64>, t: Option<f64>) -> Record {
        Record {
            v,
            t,
            ..Record::named(n)
        }
    }

    #[test]
    fn latitude_and_longitude_of_one_object_and_moment_are_a_position() {
        let records = [
            record("position.lon", Some(7.0), None),
            record("position.lat", Some(43.0), None),
            record("position.lat", Some(43.1), Some(1.0)),
            record("Vehicle.CurrentLocation.Latitude", Some(43.2), None),
            record("Vehicle.CurrentLocation.Longitude", Some(7.2), None),
            record("lat", Some(1.0), None),
            record("other.lon", Some(1.0), None),
            record("gone.lat", None, None),
            record("gone.lon", Some(1.0), None),
        ];
        let found = positions(&records);
        let pairs: Vec<_> = found.iter().map(|p| (p.latitude, p.longitude)).collect();
        assert_eq!(pairs, [(1, 0), (3, 4)]);
    }

    #[test]
    fn a_box_may_lie_across_the_180th_meridian_and_its_edges_are_inside() {
        let fiji = Location {
            bbox: Some([177.0, -21.0, -178.0, -12.0]),
            max_speed: None,
        };
        for (latitude, longitude, flag) in [
            (-18.0, 178.4, Flag::Pass),
            (-12.0, -178.0, Flag::Pass),
            (-18.0, 0.0, Flag::Fail),
            (-22.0, 178.4, Flag::Fail),
        ] {
            assert_eq!(fiji.judge(latitude, longitude), flag, "{latitude} {longitude}");
        }
        assert_eq!(
            Location::default().judge(91.0, 0.0),
            Flag::Fail,
            "no position at all"
        );
    }

    #[test]
    fn verdicts_join_to_the_same_in_any_order() {
        let of = |q, failed: &[&str]| Amendment {
            id: "t:1".into(),
            time: Timestamp::parse("2026-01-15T12:00:00Z").unwrap(),
            ordinal: 0,
            n: "p".into(),
            q,
            failed: failed.iter().map(|test| (*test).to_owned()).collect(),
        };
        let early = of(Flag::Suspect, &[test::RATE_OF_CHANGE]);
        let late = of(Flag::Fail, &[test::RATE_OF_CHANGE, test::SPIKE]);
        let (mut one, mut other) = (early.clone(), late.clone());
        one.join(&late);
        other.join(&early);
        other.join(&early);
        assert_eq!(one, late);
        assert_eq!(other, late);
        assert_eq!(Flag::NotEvaluated.worse(Flag::Pass), Flag::Pass);
        assert_eq!(Flag::Missing.worse(Flag::Fail), Flag::Missing);
    }
}
