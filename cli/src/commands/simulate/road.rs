//! A road, as its things would describe it: the same seed gives the same things, ids and values.
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value, json};
use std::f64::consts::TAU;
use telltale_schemas::thing::{Entry, Policy, Property, ValueType};

/// What stands at the road, or drives on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Surface and air.
    Weather,
    /// A loop in a lane.
    Traffic,
    /// A street lamp.
    Lamp,
    /// An emergency call pillar.
    Pillar,
    /// A connected vehicle.
    Vehicle,
}

/// Of ten things in a row these.
const MIX: [Kind; 10] = [
    Kind::Weather,
    Kind::Traffic,
    Kind::Lamp,
    Kind::Vehicle,
    Kind::Traffic,
    Kind::Lamp,
    Kind::Traffic,
    Kind::Pillar,
    Kind::Lamp,
    Kind::Vehicle,
];

/// A day in readings: values go round once in that many.
const DAY: f64 = 1_440.0;

/// One thing of the road.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// Its name, also its topic's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    index: usize,
}

/// How often what goes wrong, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Lost on the way: never sent.
    pub drop: f64,
    /// Bytes broken on the way.
    pub garble: f64,
    /// Sent twice under one id.
    pub duplicate: f64,
    /// A sensor that says nothing: null in place of a value.
    pub missing: f64,
}

/// One reading, as it leaves its device.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The publisher's own id.
    pub key: String,
    /// The payload; none where it is lost on the way.
    pub payload: Option<Vec<u8>>,
    /// How often it is sent.
    pub copies: u8,
}

/// The road and its chances.
#[derive(Debug, Clone)]
pub struct Road {
    seed: u64,
    /// In front of the number in each key.
    run: String,
    faults: Faults,
}

impl std::str::FromStr for Faults {
    type Err = String;
    /// `drop=1%,garble=0.1%`
    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not `<fault>=<share>`"))?;
            let share = share.trim();
            let (digits, scale) = share
                .strip_suffix('%')
                .map_or((share, 1.0), |digits| (digits, 100.0));
            let share = digits
                .parse::<f64>()
                .map_err(|_| format!("`{share}` is no share"))?
                / scale;
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("`{part}` is not between 0% and 100%"));
            }
            match name.trim() {
                "drop" => faults.drop = share,
                "garble" => faults.garble = share,
                "duplicate" => faults.duplicate = share,
                "missing" => faults.missing = share,
                other => return Err(format!("`{other}` is none of drop, garble, duplicate, missing")),
            }
        }
        Ok(faults)
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Weather => "road-weather",
            Self::Traffic => "traffic",
            Self::Lamp => "lamp",
            Self::Pillar => "pillar",
            Self::Vehicle => "vehicle",
        }
    }

    /// Property, unit, least, most; no unit for what is none.
    fn properties(self) -> &'static [(&'static str, &'static str, f64, f64)] {
        match self {
            Self::Weather => &[
                ("surface_temperature", "Cel", -40.0, 80.0),
                ("air_temperature", "Cel", -40.0, 60.0),
                ("air_humidity", "%RH", 0.0, 100.0),
                ("wind_speed", "m/s", 0.0, 75.0),
            ],
            Self::Traffic => &[
                ("speed", "km/h", 0.0, 250.0),
                ("flow", "1/min", 0.0, 120.0),
                ("occupancy", "%", 0.0, 100.0),
            ],
            Self::Lamp => &[("level", "%", 0.0, 100.0), ("power", "W", 0.0, 400.0)],
            Self::Pillar => &[("battery", "%EL", 0.0, 100.0)],
            Self::Vehicle => &[
                ("speed", "km/h", 0.0, 250.0),
                ("lat", "lat", -90.0, 90.0),
                ("lon", "lon", -180.0, 180.0),
            ],
        }
    }
}

/// The things of a road of that length.
pub fn things(count: usize) -> impl Iterator<Item = Thing> {
    (0..count).zip(MIX.iter().cycle()).map(|(index, kind)| Thing {
        name: format!(
            "{}-{:03}",
            kind.word(),
            index / MIX.len() * MIX.iter().filter(|k| *k == kind).count()
                + MIX[..index % MIX.len()].iter().filter(|k| *k == kind).count()
                + 1
        ),
        kind: *kind,
        index,
    })
}

impl Thing {
    fn km(&self) -> f64 {
        12.0 + self.index as f64 * 0.4
    }

    /// Where it stands: along a road beside the Mediterranean.
    fn position(&self) -> (f64, f64) {
        let along = self.index as f64 * 0.4 / 60.0;
        (round(6.9 + along, 5), round(43.55 + 0.1 * (along * 3.0).sin(), 5))
    }

    /// What is registered for it.
    pub fn entry(&self) -> Entry {
        let mut properties = std::collections::BTreeMap::new();
        for (name, unit, minimum, maximum) in self.kind.properties() {
            let property = Property {
                kind: Some(ValueType::Number),
                unit: Some((*unit).to_owned()),
                minimum: Some(*minimum),
                maximum: Some(*maximum),
                ..Property::default()
            };
            properties.insert((*name).to_owned(), property);
        }
        if self.kind == Kind::Pillar {
            let door = Property {
                kind: Some(ValueType::Boolean),
                ..Property::default()
            };
            properties.insert("door_open".to_owned(), door);
        }
        let mut annotation = Map::new();
        annotation.insert("foi".into(), format!("urn:road:A8:km{:.1}", self.km()).into());
        annotation.insert("kind".into(), self.kind.word().into());
        if self.kind != Kind::Vehicle {
            let (lon, lat) = self.position();
            annotation.insert(
                "location".into(),
                json!({"type": "Point", "coordinates": [lon, lat]}),
            );
        }
        Entry {
            thing: self.name.clone(),
            policy: Policy {
                properties,
                ..Policy::default()
            },
            annotation,
            ..Entry::default()
        }
    }
}

impl Road {
    /// A road; `run` stands in front of the number in each key.
    pub fn new(seed: u64, run: impl Into<String>, faults: Faults) -> Self {
        Self {
            seed,
            run: run.into(),
            faults,
        }
    }

    /// What a thing sends as its `n`-th reading, whatever was sent before.
    pub fn reading(&self, thing: &Thing, n: u64) -> Sent {
        let index = thing.index as u64;
        // One stream of chances for each reading: the order in which they are made changes nothing.
        let mixed =
            self.seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ n.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut chance = StdRng::seed_from_u64(mixed);
        let mut values = values(thing, n, &mut chance);
        if chance.random_bool(self.faults.missing)
            && let Some(first) = values.values_mut().next()
        {
            *first = Value::Null;
        }
        let mut payload = Value::Object(values).to_string().into_bytes();
        if chance.random_bool(self.faults.garble) {
            let at = chance.random_range(0..payload.len());
            // Half a reading arrives: whatever it is, it is no JSON.
            payload.truncate(at);
            payload.push(b'\xff');
        }
        Sent {
            key: format!("{}-{n}", self.run),
            payload: (!chance.random_bool(self.faults.drop)).then_some(payload),
            copies: 1 + u8::from(chance.random_bool(self.faults.duplicate)),
        }
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn values(thing: &Thing, n: u64, chance: &mut StdRng) -> Map<String, Value> {
    let day = TAU * (n as f64 / DAY + thing.index as f64 / 97.0);
    let mut noise = |size: f64| chance.random_range(-size..size);
    let clamp = |value: f64, least: f64, most: f64| round(value.clamp(least, most), 2);
    let values = match thing.kind {
        Kind::Weather => {
            let air = 12.0 + 9.0 * day.sin() + noise(0.4);
            json!({
                "surface_temperature": clamp(air + 4.0 * day.sin() + noise(0.3), -40.0, 80.0),
                "air_temperature": clamp(air, -40.0, 60.0),
                "air_humidity": clamp(65.0 - 25.0 * day.sin() + noise(2.0), 0.0, 100.0),
                "wind_speed": clamp(4.0 + noise(3.5), 0.0, 75.0),
            })
        }
        Kind::Traffic => {
            let load = (0.5 + 0.45 * day.sin() + noise(0.05)).clamp(0.0, 1.0);
            json!({
                "speed": clamp(118.0 - 60.0 * load * load + noise(6.0), 0.0, 250.0),
                "flow": clamp(38.0 * load + noise(3.0), 0.0, 120.0),
                "occupancy": clamp(32.0 * load + noise(1.0), 0.0, 100.0),
            })
        }
        Kind::Lamp => {
            let level: f64 = if day.sin() < -0.2 { 100.0 } else { 0.0 };
            json!({"level": level, "power": clamp(level * 1.4 + noise(1.0).abs(), 0.0, 400.0)})
        }
        Kind::Pillar => json!({
            "battery": clamp(92.0 + 6.0 * day.sin() + noise(0.2), 0.0, 100.0),
            "door_open": noise(1.0) > 0.995,
        }),
        Kind::Vehicle => {
            let (lon, lat) = thing.position();
            let along = (n % 2_000) as f64 * 0.0003;
            json!({
                "speed": clamp(95.0 + 20.0 * day.sin() + noise(10.0), 0.0, 250.0),
                "lat": round(lat + 0.1 * along.sin(), 5),
                "lon": round(lon + along, 5),
            })
        }
    };
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_ids_and_values_in_any_order() {
        let faults: Faults = "drop=10%, garble=0.1,duplicate=5%,missing=5%".parse().unwrap();
        let road = Road::new(7, "7", faults);
        let all: Vec<Thing> = things(30).collect();
        let forwards: Vec<Sent> = all
            .iter()
            .flat_map(|thing| (0..50).map(|n| road.reading(thing, n)))
            .collect();
        let mut backwards: Vec<Sent> = all
            .iter()
            .rev()
            .flat_map(|thing| (0..50).rev().map(|n| road.reading(thing, n)))
            .collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let other = Road::new(8, "7", faults);
        assert_ne!(road.reading(&all[0], 0), other.reading(&all[0], 0));
    }

    #[test]
    fn faults_come_about_as_often_as_they_are_asked_for() {
        let road = Road::new(1, "r", "drop=10%,garble=10%,duplicate=10%".parse().unwrap());
        let thing = things(1).next().unwrap();
        let all: Vec<Sent> = (0..2_000).map(|n| road.reading(&thing, n)).collect();
        let dropped = all.iter().filter(|sent| sent.payload.is_none()).count();
        let twice = all.iter().filter(|sent| sent.copies == 2).count();
        let is_json = |payload: &Vec<u8>| serde_json::from_slice::<Value>(payload).is_ok();
        let garbled = all
            .iter()
            .filter_map(|sent| sent.payload.as_ref())
            .filter(|p| !is_json(p))
            .count();
        for count in [dropped, twice, garbled] {
            assert!((130..=270).contains(&count), "{count}");
        }
        for text in ["drop", "drop=2", "drop=-1%", "lose=1%", "drop=x%"] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_thing_is_registered_with_what_it_sends() {
        let all: Vec<Thing> = things(1_000).collect();
        assert_eq!(
            all.iter().map(|thing| &thing.name).collect::<BTreeSet<_>>().len(),
            1_000
        );
        for thing in &all[..10] {
            let entry = thing.entry();
            let faults = telltale_schemas::check::thing_entry(&serde_json::to_value(&entry).unwrap());
            assert_eq!(faults, []);
            let road = Road::new(1, "r", Faults::default());
            for n in 0..100 {
                let payload = road.reading(thing, n * 29).payload.unwrap();
                let values: Map<String, Value> = serde_json::from_slice(&payload).unwrap();
                for (name, value) in values {
                    let property = &entry.policy.properties[&name];
                    let Some(value) = value.as_f64() else { continue };
                    assert!(
                        (property.minimum.unwrap()..=property.maximum.unwrap()).contains(&value),
                        "{name} {value}"
                    );
                }
            }
        }
    }
}
