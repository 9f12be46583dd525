//! Adds to a reading what is known about its thing.
//!
//! A join and nothing else: the same reading and the same revision of the thing's entry give the same observation.
use telltale_runtime::{
    prelude::*,
    things::{self, Things},
};

/// The worker.
#[derive(Debug)]
pub struct Annotate {
    things: Things,
}

impl Annotate {
    /// One that knows these things.
    pub fn new(things: Things) -> Self {
        Self { things }
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
        Ok(Self::new(at.things().await?))
    }

    async fn handle(&self, reading: Delivery<Reading>) -> Verdict<Observation> {
        let annotation = match self.things.entry(reading.thing()).await? {
            Some((revision, entry)) => {
                let mut annotation = entry.annotation.clone();
                annotation.insert("tdrev".to_owned(), revision.into());
                annotation
            }
            // Nothing is lost for want of a registration.
            None => [("registered".to_owned(), false.into())].into_iter().collect(),
        };
        Ok(Emit::one(Observation {
            records: reading.data.records,
            annotation,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use telltale_schemas::Envelope;

    fn things() -> Things {
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
        ]);
        Things::fixed(serde_json::from_value(entries).unwrap())
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
        let emit = Annotate::new(things()).handle(reading(thing)).await.unwrap();
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

    #[test]
    fn it_may_read_things_and_no_more() {
        assert_eq!(<Annotate as Worker>::BUCKETS, ["things"]);
        assert!(Annotate::EVENTS.is_empty() && Annotate::COMMANDS.is_empty());
    }
}
