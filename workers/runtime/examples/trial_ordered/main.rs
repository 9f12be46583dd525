//! A worker whose answers depend on all that came before: how many readings of its thing there were, and their sum; and,
//! so many seconds after a reading with `quiet`, that they have passed.
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::{Cause, Made, OrderedWorker, prelude::*};

#[derive(Debug, Default)]
struct TrialOrdered {
    things: BTreeMap<String, (u64, f64)>,
    /// When it is to be said, and because of what.
    quiet: Vec<(Timestamp, Arc<Cause>)>,
}

type Kept = (BTreeMap<String, (u64, f64)>, Vec<(Timestamp, Arc<Cause>)>);

impl OrderedWorker for TrialOrdered {
    const NAME: &'static str = "trial-ordered";
    type Input = Observation;
    type Output = Event;
    type Args = NoArgs;
    const EVENTS: &'static [&'static str] = &["done", "quiet"];

    async fn start(_: NoArgs, _: &Resources) -> anyhow::Result<Self> {
        Ok(Self::default())
    }

    fn restore(&mut self, kept: &[u8]) -> anyhow::Result<()> {
        (self.things, self.quiet) = serde_json::from_slice::<Kept>(kept)?;
        Ok(())
    }

    fn keep(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&(&self.things, &self.quiet))?)
    }

    async fn refresh(&mut self) -> bool {
        false
    }

    async fn handle(
        &mut self,
        reading: Delivery<Observation>,
        stored: Timestamp,
    ) -> Result<Vec<Made<Event>>, Failure> {
        assert!(reading.value("panic").is_none(), "told to");
        let x = reading.value("x").or_reject("no_x")?;
        let (count, sum) = self.things.entry(reading.thing().to_owned()).or_default();
        (*count, *sum) = (*count + 1, *sum + x);
        let seconds = reading.value("quiet");
        let cause = Arc::new(reading.cause);
        if let Some(seconds) = seconds {
            let after = std::time::Duration::from_secs_f64(seconds).as_micros();
            let due = stored.plus_micros(i64::try_from(after).unwrap_or(i64::MAX));
            self.quiet.push((due, Arc::clone(&cause)));
        }
        let event = Event::new("done").with("count", *count).with("sum", *sum);
        Ok(vec![Made {
            cause,
            draft: Draft::new(event),
        }])
    }

    fn waits(&self) -> bool {
        !self.quiet.is_empty()
    }

    async fn passed(&mut self, until: Timestamp) -> Result<Vec<Made<Event>>, Failure> {
        let due = self.quiet.extract_if(.., |(at, _)| *at <= until);
        let made = due.map(|(_, cause)| Made {
            draft: Draft::new(Event::new("quiet")).keyed(format!("{}.quiet", cause.id)),
            cause,
        });
        Ok(made.collect())
    }
}

fn main() -> std::process::ExitCode {
    telltale_runtime::run_ordered::<TrialOrdered>()
}
