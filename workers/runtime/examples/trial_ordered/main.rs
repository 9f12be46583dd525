//! A worker whose answers depend on all that came before: how many readings of its thing there were, and their sum.
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::{Made, OrderedWorker, prelude::*};

#[derive(Debug, Default)]
struct TrialOrdered {
    things: BTreeMap<String, (u64, f64)>,
}

impl OrderedWorker for TrialOrdered {
    const NAME: &'static str = "trial-ordered";
    type Input = Observation;
    type Output = Event;
    type Args = NoArgs;
    const EVENTS: &'static [&'static str] = &["done"];

    async fn start(_: NoArgs, _: &Resources) -> anyhow::Result<Self> {
        Ok(Self::default())
    }

    fn restore(&mut self, kept: &[u8]) -> anyhow::Result<()> {
        self.things = serde_json::from_slice(kept)?;
        Ok(())
    }

    fn keep(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.things)?)
    }

    async fn refresh(&mut self) -> bool {
        false
    }

    async fn handle(
        &mut self,
        reading: Delivery<Observation>,
        _: Timestamp,
    ) -> Result<Vec<Made<Event>>, Failure> {
        assert!(reading.value("panic").is_none(), "told to");
        let x = reading.value("x").or_reject("no_x")?;
        let (count, sum) = self.things.entry(reading.thing().to_owned()).or_default();
        (*count, *sum) = (*count + 1, *sum + x);
        let event = Event::new("done").with("count", *count).with("sum", *sum);
        Ok(vec![Made {
            cause: Arc::new(reading.cause),
            draft: Draft::new(event),
        }])
    }

    fn waits(&self) -> bool {
        false
    }

    async fn passed(&mut self, _: Timestamp) -> Result<Vec<Made<Event>>, Failure> {
        Ok(Vec::new())
    }
}

fn main() -> std::process::ExitCode {
    telltale_runtime::run_ordered::<TrialOrdered>()
}
