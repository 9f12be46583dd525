//! Quality by neighbours (IOOS QARTOD): rate of change, flat line, spike, gap, and the speed between two positions.
//!
//! What is found of the reading that is heard is set in its records, so that rules see it; that, and what is found of one
//! that was heard before, also leaves as event `quality`, for `store` to amend the rows. A stored message is never
//! rewritten. Flags only ever become worse and tests only more (`Flag::worse`), so amendments may arrive in any order.
mod flat;
mod place;
mod series;

use crate::heard::{Follows, Heard, Said};
use place::Place;
use serde::{Deserialize, Serialize};
use serde_json::json;
use series::Series;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use telltale_runtime::{Made, prelude::*};
use telltale_schemas::{
    quality::{self, AMENDMENTS_MAX, Amendment, test},
    thing::Policy,
};

/// What is remembered of things whose policies ask for neighbours: for each property the last two values, and of a flat
/// line a bounded outline. Nothing of any other thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    things: BTreeMap<String, Thing>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Thing {
    /// By property.
    series: BTreeMap<String, Series>,
    /// By the name of the latitude.
    places: BTreeMap<String, Place>,
}

/// A record among all: when it was measured, of which message, its place in it.
type Key = (Timestamp, String, u16);

impl Quality {
    /// Tests the next reading of its thing, in the order of event time. A record that is no newer than the last of its
    /// property is left as it is: its neighbours were judged without it.
    pub fn hear(&mut self, heard: &mut Heard, policy: Option<&Policy>, out: &mut Vec<Follows>) {
        let Some(policy) = policy.filter(|policy| policy.needs_neighbours()) else {
            self.forget(heard.thing());
            return;
        };
        let told: Vec<_> = heard
            .records
            .iter()
            .map(|record| (record.q, record.failed.clone()))
            .collect();
        let thing = self.things.entry(heard.thing().to_owned()).or_default();
        thing.move_to(heard, policy);
        let mut amended = thing.compare(heard, policy);
        for (index, (q, failed)) in told.into_iter().enumerate() {
            let record = &heard.records[index];
            if (record.q, &record.failed) != (q, &failed)
                && let (Some(now), Ok(ordinal)) = (record.q, u16::try_from(index))
            {
                let time = heard.time_of(record);
                let amendment = Amendment {
                    id: heard.cause.id.clone(),
                    time,
                    ordinal,
                    n: record.n.clone(),
                    q: now,
                    failed: record.failed.clone(),
                };
                amended.insert((time, amendment.id.clone(), ordinal), amendment);
            }
        }
        let amended: Vec<Amendment> = amended.into_values().collect();
        for (n, some) in amended.chunks(AMENDMENTS_MAX).enumerate() {
            out.push(event(heard, n, some));
        }
    }

    /// Its thing is gone, or nothing of it needs neighbours any more.
    pub fn forget(&mut self, thing: &str) {
        self.things.remove(thing);
    }
}

impl Thing {
    /// Judges how fast it came to where it is now.
    fn move_to(&mut self, heard: &mut Heard, policy: &Policy) {
        if !policy.places_something() {
            return;
        }
        for at in quality::positions(&heard.records) {
            let (latitude, longitude) = (&heard.records[at.latitude], &heard.records[at.longitude]);
            let Some(max_speed) = policy.location_of(&latitude.n).and_then(|place| place.max_speed) else {
                continue;
            };
            let (Some(north), Some(east)) = (latitude.v, longitude.v) else {
                continue;
            };
            let now = Place::at(heard.time_of(latitude), north, east);
            let name = latitude.n.clone();
            if let Some(before) = self.places.get(&name) {
                let Some(speed) = now.speed_from(before) else {
                    continue;
                };
                let flag = series::suspect_if(speed > max_speed);
                for index in [at.latitude, at.longitude] {
                    heard.records[index].found(test::LOCATION, flag);
                }
            }
            self.places.insert(name, now);
        }
    }

    /// Judges the records by those before, and those before by them. What is found of earlier messages is returned.
    fn compare(&mut self, heard: &mut Heard, policy: &Policy) -> BTreeMap<Key, Amendment> {
        let mut amended: BTreeMap<Key, Amendment> = BTreeMap::new();
        // An id may come again with other records: those are another message's.
        let mut pushed = BTreeSet::new();
        for index in 0..heard.records.len() {
            let Some(property) = policy.properties.get(&heard.records[index].n) else {
                continue;
            };
            let Some(tests) = property
                .quality
                .as_deref()
                .filter(|tests| tests.needs_neighbours())
            else {
                continue;
            };
            let (time, Ok(ordinal)) = (heard.time_of(&heard.records[index]), u16::try_from(index)) else {
                continue;
            };
            let series = match self.series.get_mut(&heard.records[index].n) {
                Some(series) => series,
                None => self.series.entry(heard.records[index].n.clone()).or_default(),
            };
            if !series.takes(time, &heard.records[index]) {
                continue;
            }
            let spike = series.next(time, &mut heard.records[index], tests, property.scale());
            if let Some((flag, last)) = spike.zip(series.last()) {
                if last.id == heard.cause.id && pushed.contains(&usize::from(last.ordinal)) {
                    heard.records[usize::from(last.ordinal)].found(test::SPIKE, flag);
                } else if let Some(amendment) = last.amended(&heard.records[index].n, test::SPIKE, flag) {
                    let key = (amendment.time, amendment.id.clone(), amendment.ordinal);
                    amended.insert(key, amendment);
                }
            }
            series.push(&heard.cause.id, time, ordinal, &heard.records[index]);
            pushed.insert(index);
        }
        amended
    }
}

/// The `n`th event of amendments that a reading decides.
fn event(heard: &Heard, n: usize, of: &[Amendment]) -> Follows {
    let mut id = format!("{}.process.{}", heard.cause.id, quality::EVENT);
    if n > 0 {
        id = format!("{id}.{n}");
    }
    let event = Event::new(quality::EVENT).with("of", json!(of));
    Made {
        cause: Arc::clone(&heard.cause),
        draft: Draft::new(Said::Event(event)).keyed(id),
    }
}
