//! Adds to a reading what is known about its thing.
//!
//! A join and nothing else: the same reading and the same revision of the thing's entry give the same observation.
use serde_json::{Map, Value};
use telltale_runtime::{
    prelude::*,
    things::{self, Annotations, Facts},
};
use telltale_schemas::units;

/// What an annotation says of each property.
const PROPERTIES: &str = "properties";
/// The unit of a property's record, as a code of UCUM.
const UCUM: &str = "ucum";
/// The revision of the thing's entry.
const REVISION: &str = "tdrev";

/// The worker.
#[derive(Debug)]
pub struct Annotate {
    annotations: Annotations,
}

impl Annotate {
    /// One that knows this of things.
    pub fn new(annotations: Annotations) -> Self {
        Self { annotations }
    }
}

impl Worker for Annotate {
    const NAME: &'static str = "annotate";
    type Input = Reading;
    type Output = Observation;
    type Args = NoArgs;
    const BUCKETS: &'static [&'static str] = &[things::BUCKET];
    const API: &'static [&'static str] = &[things::HOLDS];

    async fn start(_: NoArgs, at: &Resources) -> anyhow::Result<Self> {
        Ok(Self::new(at.annotations().await?))
    }

    async fn handle(&self, reading: Delivery<Reading>) -> Verdict<Observation> {
        let annotation = match self.annotations.of(reading.thing()).await? {
            Some(facts) => annotation(facts, &reading.data.records),
            // Nothing is lost for want of a registration.
            None => [("registered".to_owned(), false.into())].into_iter().collect(),
        };
        Ok(Emit::one(Observation {
            records: reading.data.records,
            annotation,
        }))
    }
}

/// All that is known about the thing, and of its properties those that the reading has.
fn annotation(facts: Facts, records: &[Record]) -> Map<String, Value> {
    let mut annotation = facts.annotation;
    annotation.insert(REVISION.to_owned(), facts.revision.into());
    let mut properties = Map::new();
    for record in records {
        let Some(Value::Object(known)) = facts.properties.get(&record.n) else {
            continue;
        };
        if properties.contains_key(&record.n) {
            continue;
        }
        let mut known = known.clone();
        // The description may speak of the unit that the device sends; the record has a primary one by now.
        if let Some(code) = record.u.as_deref().and_then(units::ucum) {
            known.insert(UCUM.to_owned(), code.into());
        }
        properties.insert(record.n.clone(), known.into());
    }
    if !properties.is_empty() {
        annotation.insert(PROPERTIES.to_owned(), properties.into());
    }
    annotation
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use telltale_schemas::{Envelope, thing::Entry};

    fn annotations() -> Annotations {
        let entries = json!([
            {"thing": "other"},
            {
                "thing": "road-weather-17",
                "policy": {"late": "1d"},
                "annotation": {
                    "foi": "urn:road:A8:km42",
                    "location": {"type": "Point", "coordinates": [7.05235, 43.61622]},
                    "tdrev": "what stands here is not the revision",
                },
            },
            {
                "thing": "described",
                "td": {"title": "A thing"},
                "annotation": {
                    "platform": "urn:pillar:7",
                    "properties": {
                        "surface_temperature": {"observed": "urn:surface", "ucum": "[degF]"},
                        "air_humidity": {"observed": "urn:humidity"},
                    },
                },
            },
        ]);
        let entries: Vec<Entry> = serde_json::from_value(entries).unwrap();
        Annotations::fixed(&entries)
    }

    fn reading(thing: &str) -> Delivery<Reading> {
        let time = Timestamp::parse("2026-01-15T07:41:09.25Z").unwrap();
        let record = Record {
            v: Some(-0.85),
            u: Some("Cel".into()),
            ..Record::named("surface_temperature")
        };
        let data = Reading {
            records: vec![record],
        };
        Delivery::of(Envelope::new(
            format!("{thing}:1"),
            "/site/validate",
            thing,
            time,
            data,
        ))
    }

    async fn annotated(thing: &str) -> Value {
        let emit = Annotate::new(annotations()).handle(reading(thing)).await.unwrap();
        let [draft] = emit.drafts() else {
            panic!("one observation for one reading")
        };
        assert!(
            draft.id.is_none() && draft.time.is_none() && draft.intake.is_none(),
            "all else is its cause's"
        );
        serde_json::to_value(&draft.message).unwrap()
    }

    #[tokio::test]
    async fn a_known_things_facts_and_their_revision_are_added() {
        let expected = json!({
            "records": [{"n": "surface_temperature", "u": "Cel", "v": -0.85}],
            "annotation": {
                "foi": "urn:road:A8:km42",
                "location": {"type": "Point", "coordinates": [7.05235, 43.61622]},
                "tdrev": 2,
            },
        });
        assert_eq!(annotated("road-weather-17").await, expected);
        assert_eq!(annotated("road-weather-17").await, expected, "the same again");
    }

    #[tokio::test]
    async fn a_thing_without_facts_has_its_revision() {
        assert_eq!(annotated("other").await["annotation"], json!({"tdrev": 1}));
    }

    #[tokio::test]
    async fn an_unknown_thing_passes_flagged() {
        assert_eq!(
            annotated("nobody").await["annotation"],
            json!({"registered": false})
        );
    }

    #[tokio::test]
    async fn of_its_properties_those_of_the_reading_are_told_with_the_records_unit() {
        let expected = json!({
            "platform": "urn:pillar:7",
            "properties": {"surface_temperature": {"observed": "urn:surface", "ucum": "Cel"}},
            "tdrev": 3,
        });
        let found = annotated("described").await;
        assert_eq!(found["annotation"], expected);
        let faults = telltale_schemas::check::data(telltale_schemas::Kind::Observation, &found);
        assert_eq!(faults, []);
    }

    #[test]
    fn it_may_read_things_and_no_more() {
        assert_eq!(<Annotate as Worker>::BUCKETS, ["things"]);
        assert!(Annotate::EVENTS.is_empty() && Annotate::COMMANDS.is_empty());
    }
}
