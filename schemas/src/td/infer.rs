//! A description proposed for a device that only speaks, from what was seen of it.
//!
//! What is proposed is to be read by somebody before it holds: what was seen stands beside each property as
//! `telltale:seen`.
use super::{check::AFFORDANCES, model, thing_id, vocabulary::of_property, vocabulary::of_thing};
use crate::{Record, Timestamp, units};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Fewer numbers tell nothing about the range.
const NUMBERS_MIN: u64 = 100;
/// A property that had at most so many texts may have no others.
const CHOICES_MAX: usize = 8;
/// How often each text must have been seen, on average, for that.
const CHOICE_SEEN_MIN: u64 = 10;
/// Longest text that can be a choice, in bytes.
const CHOICE_BYTES_MAX: usize = 64;
/// Fewer readings tell nothing about the interval.
const READINGS_MIN: u64 = 10;

/// What was seen of one thing. Filled by [`Observed::reading`], or from SQL.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The thing's name.
    pub thing: String,
    /// Readings.
    pub readings: u64,
    /// When the oldest of them was measured.
    pub first: Option<Timestamp>,
    /// When the newest of them was measured.
    pub last: Option<Timestamp>,
    /// Its properties, by name.
    pub properties: BTreeMap<String, Seen>,
}

/// What was seen of one property.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Units, each with how many values had it.
    pub units: BTreeMap<String, u64>,
    /// Numbers.
    pub numbers: u64,
    /// Of these, numbers with a fraction.
    pub fractions: u64,
    /// Texts.
    pub texts: u64,
    /// Booleans.
    pub booleans: u64,
    /// Bytes.
    pub bytes: u64,
    /// The least number.
    pub minimum: Option<f64>,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// Texts that it had, a few.
    pub choices: BTreeSet<String>,
    /// Whether it had more texts than `choices` holds, or longer ones.
    pub has_more: bool,
}

impl Observed {
    /// Nothing yet, of the thing of that name.
    pub fn of(thing: impl Into<String>) -> Self {
        Self {
            thing: thing.into(),
            ..Self::default()
        }
    }

    /// One more reading.
    pub fn reading(&mut self, time: Timestamp, records: &[Record]) {
        self.readings += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        for record in records {
            self.properties
                .entry(record.n.clone())
                .or_default()
                .record(record);
        }
    }

    /// Seconds between two readings, on average; `None` where too few were seen.
    fn interval(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.last?);
        let span = last.as_seconds() - first.as_seconds();
        (self.readings >= READINGS_MIN && span > 0.0).then(|| span / (self.readings - 1) as f64)
    }
}

impl Seen {
    /// One more value. A record without one tells nothing but that the property is there.
    pub fn record(&mut self, record: &Record) {
        if let Some(number) = record.v {
            self.numbers += 1;
            self.fractions += u64::from(number.fract() != 0.0);
            self.minimum = Some(self.minimum.map_or(number, |least| least.min(number)));
            self.maximum = Some(self.maximum.map_or(number, |most| most.max(number)));
        }
        if let Some(text) = &record.vs {
            self.texts += 1;
            let is_choice = text.len() <= CHOICE_BYTES_MAX;
            if is_choice && (self.choices.len() < CHOICES_MAX || self.choices.contains(text)) {
                self.choices.insert(text.clone());
            } else {
                self.has_more = true;
            }
        }
        self.booleans += u64::from(record.vb.is_some());
        self.bytes += u64::from(record.vd.is_some());
        if let Some(unit) = &record.u {
            *self.units.entry(unit.clone()).or_default() += 1;
        }
    }

    /// The type of all its values; `None` where they are of several, or of one that a description does not have.
    fn kind(&self) -> Option<&'static str> {
        match (
            self.numbers > 0,
            self.texts > 0,
            self.booleans > 0,
            self.bytes > 0,
        ) {
            // A thermometer that happens to show whole degrees is no counter: only a count is whole by its nature.
            (true, false, false, false) if self.fractions == 0 && self.unit() == Some("count") => {
                Some("integer")
            }
            (true, false, false, false) => Some("number"),
            (false, true, false, false) | (false, false, false, true) => Some("string"),
            (false, false, true, false) => Some("boolean"),
            _ => None,
        }
    }

    /// The unit that most of its values had.
    fn unit(&self) -> Option<&str> {
        let most = self.units.iter().max_by_key(|(_, count)| **count);
        most.map(|(unit, _)| unit.as_str())
    }

    fn property(&self) -> Value {
        let mut property = Map::new();
        let mut put = |word: &str, value: Value| {
            property.insert(word.to_owned(), value);
        };
        if let Some(kind) = self.kind() {
            put("type", kind.into());
        }
        if let Some(unit) = self.unit() {
            put("unit", unit.into());
            let primary = units::to_primary(unit, 0.0).map(|(primary, _)| primary);
            if let Some(ucum) = primary.and_then(units::ucum) {
                put("ucum", ucum.into());
            }
        }
        put("readOnly", true.into());
        put("observable", true.into());
        if self.bytes > 0 && self.kind() == Some("string") {
            put("contentEncoding", "base64url".into());
        }
        if let Some((minimum, maximum)) = self.range() {
            put("minimum", minimum.into());
            put("maximum", maximum.into());
        }
        if self.is_choice() {
            put("enum", self.choices.iter().cloned().collect());
        }
        let count = self.numbers + self.texts + self.booleans + self.bytes;
        let mut seen = Map::new();
        seen.insert("count".to_owned(), count.into());
        for (word, number) in [("minimum", self.minimum), ("maximum", self.maximum)] {
            seen.extend(number.map(|number| (word.to_owned(), number.into())));
        }
        put(of_property::SEEN, seen.into());
        property.into()
    }

    /// Bounds to propose: what the unit allows, else what was seen and as much again on both sides, in round numbers.
    fn range(&self) -> Option<(f64, f64)> {
        let (least, most) = (self.minimum?, self.maximum?);
        let within = |low: f64, high: f64| (low <= least && most <= high).then_some((low, high));
        let by_unit = match self.unit() {
            Some("%RH" | "%EL" | "%") => within(0.0, 100.0),
            Some("lat") => within(-90.0, 90.0),
            Some("lon") => within(-180.0, 180.0),
            Some("pH") => within(0.0, 14.0),
            _ => None,
        };
        let span = most - least;
        if by_unit.is_some() || self.numbers < NUMBERS_MIN || !span.is_finite() || span <= 0.0 {
            return by_unit;
        }
        let step = 10f64.powf(span.log10().floor());
        let low = ((least - span) / step).floor() * step;
        let high = ((most + span) / step).ceil() * step;
        // What was never below zero is most often something that cannot be.
        let low = if least >= 0.0 { low.max(0.0) } else { low };
        (low.is_finite() && high.is_finite()).then(|| (tidy(low), tidy(high)))
    }

    fn is_choice(&self) -> bool {
        let needed = CHOICE_SEEN_MIN * u64::try_from(self.choices.len()).unwrap_or(u64::MAX);
        self.kind() == Some("string") && !self.choices.is_empty() && !self.has_more && self.texts >= needed
    }
}

/// Without the digits that a multiplication leaves: 0.30000000000000004 is 0.3.
fn tidy(number: f64) -> f64 {
    format!("{number:.12e}").parse().unwrap_or(number)
}

/// Proposes a description: each property that was seen, with type, unit, bounds and choices where enough was seen.
///
/// It has a form at the gateway that serves it for each property, and the gateway's security.
pub fn infer(observed: &Observed) -> Value {
    let id = thing_id(&observed.thing);
    let mut td = Map::new();
    let mut put = |word: &str, value: Value| {
        td.insert(word.to_owned(), value);
    };
    put("@context", model::own_context());
    put("id", id.as_str().into());
    put("title", observed.thing.as_str().into());
    put("description", described(observed).into());
    put("securityDefinitions", model::bearer_definition());
    put("security", json!([model::BEARER]));
    if let Some(interval) = observed.interval() {
        put(of_thing::INTERVAL, tidy_seconds(interval).into());
    }
    let properties = observed.properties.iter();
    let properties: Map<String, Value> = properties
        .map(|(name, seen)| (name.clone(), seen.property()))
        .collect();
    put(AFFORDANCES[0], properties.into());
    model::give_forms(&mut td, &id);
    td.into()
}

/// An interval as somebody would write it: two digits.
fn tidy_seconds(seconds: f64) -> f64 {
    format!("{seconds:.1e}").parse().unwrap_or(seconds)
}

fn described(observed: &Observed) -> String {
    let span = observed.first.zip(observed.last);
    let span = span
        .map(|(first, last)| format!(" from {first} to {last}"))
        .unwrap_or_default();
    let noun = if observed.readings == 1 {
        "reading"
    } else {
        "readings"
    };
    format!("Proposed from {} {noun}{span}.", observed.readings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::td::check;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_768_000_000_000_000 + second * 1_000_000).unwrap()
    }

    fn road() -> Observed {
        let mut observed = Observed::of("road-17");
        for second in 0..200_u32 {
            let records = [
                Record {
                    v: Some(-5.0 + 0.1 * f64::from(second)),
                    u: Some("Cel".into()),
                    ..Record::named("surface")
                },
                Record {
                    v: Some(40.0),
                    u: Some("%RH".into()),
                    ..Record::named("humidity")
                },
                Record {
                    v: Some(f64::from(second)),
                    u: Some("count".into()),
                    ..Record::named("cars")
                },
                Record {
                    vs: Some(if second % 2 == 0 { "dry" } else { "wet" }.into()),
                    ..Record::named("state")
                },
                Record {
                    vs: Some(format!("line {second}")),
                    ..Record::named("log")
                },
                Record {
                    vb: Some(true),
                    ..Record::named("door.open")
                },
            ];
            observed.reading(at(60 * i64::from(second)), &records);
        }
        observed
    }

    #[test]
    fn what_was_seen_is_proposed_with_its_type_unit_and_bounds() {
        let td = infer(&road());
        assert_eq!(check(&td), []);
        assert_eq!(td["id"], "urn:telltale:thing:road-17");
        assert_eq!(td["telltale:interval"], 60.0);
        let of = |name: &str, word: &str| td["properties"][name][word].clone();
        assert_eq!(of("surface", "type"), "number");
        assert_eq!(of("surface", "unit"), "Cel");
        assert_eq!(of("surface", "readOnly"), true);
        assert_eq!(
            (of("surface", "minimum"), of("surface", "maximum")),
            (json!(-30.0), json!(40.0)),
            "-5 to 14.9, and as much again on both sides"
        );
        assert_eq!(of("surface", "telltale:seen")["count"], 200);
        assert_eq!(
            (of("humidity", "minimum"), of("humidity", "maximum")),
            (json!(0.0), json!(100.0))
        );
        assert_eq!(
            (of("cars", "type"), of("cars", "minimum")),
            ("integer".into(), json!(0.0))
        );
        assert_eq!(of("state", "enum"), json!(["dry", "wet"]));
        assert_eq!(
            (of("log", "type"), of("log", "enum")),
            ("string".into(), Value::Null)
        );
        assert_eq!(of("door.open", "type"), "boolean");
        assert_eq!(
            of("door.open", "forms")[0]["href"],
            "/things/road-17/properties/door.open"
        );
    }

    #[test]
    fn of_little_that_was_seen_little_is_proposed() {
        let mut observed = Observed::of("urn:dev:1");
        let record = |v| Record {
            v: Some(v),
            ..Record::named("t")
        };
        observed.reading(at(0), &[record(1.5)]);
        observed.reading(
            at(1),
            &[
                record(2.5),
                Record {
                    vs: Some("x".into()),
                    ..Record::named("mixed")
                },
            ],
        );
        observed.reading(
            at(2),
            &[Record {
                vb: Some(true),
                ..Record::named("mixed")
            }],
        );
        let td = infer(&observed);
        assert_eq!(check(&td), []);
        assert_eq!(td["id"], "urn:dev:1");
        assert!(td.get("telltale:interval").is_none());
        let property = &td["properties"]["t"];
        assert_eq!(property["type"], "number");
        assert!(property.get("minimum").is_none() && property.get("unit").is_none());
        assert!(td["properties"]["mixed"].get("type").is_none());
    }

    #[test]
    fn of_a_thing_that_never_spoke_a_description_without_properties_is_proposed() {
        assert_eq!(check(&infer(&Observed::of("kitchen"))), []);
    }
}
