//! Local processing: what needs more than one reading. Quality by its neighbours, rules, derived readings.
//!
//! Rules that look at one reading alone act as it comes. Everything else hears each thing's readings in the order in
//! which they were measured ([`order`]). All of it is a function of the stream of readings (ADR 0023).
#![warn(missing_docs)]
pub mod derive;
pub mod heard;
pub mod order;
pub mod quality;
mod roll;
pub mod rules;
pub mod state;

pub use heard::{Follows, Heard, Input, Said};

use anyhow::ensure;
use prometheus::IntGauge;
use rules::{SPAN_MAX, Watch};
use state::{Spans, State};
use std::{sync::Arc, time::Duration};
use telltale_runtime::{
    OrderedWorker,
    prelude::*,
    things::{self, Policies},
};
use telltale_schemas::{rule, thing::Policy};

/// What the worker is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long after it was stored a reading waits for those of its thing that were measured before it; what comes
    /// later is late. Rules that look at one reading alone do not wait.
    #[arg(long, env = "TELLTALE_LATENESS", default_value = "2s", value_parser = telltale_runtime::duration)]
    lateness: Duration,
    /// How long after its last reading a thing is forgotten, unless something of it is still to be said or its alarm is
    /// raised; at least the 7 days that rules look back.
    #[arg(long, env = "TELLTALE_PROCESS_REMEMBER", default_value = "30d", value_parser = telltale_runtime::duration)]
    remember: Duration,
}

/// The worker.
#[derive(Debug)]
pub struct Process {
    policies: Policies,
    /// The bucket of rules; none offline.
    watch: Option<Watch>,
    spans: Spans,
    state: State,
    /// What follows, and was not handed over yet: an outage in between keeps it.
    out: Vec<Follows>,
    things: IntGauge,
}

impl OrderedWorker for Process {
    const NAME: &'static str = "process";
    type Input = Input;
    type Output = Said;
    type Args = Args;
    const EVENTS: &'static [&'static str] = &["*"];
    const COMMANDS: &'static [&'static str] = &["*"];
    const BUCKETS: &'static [&'static str] = &[things::BUCKET, rule::BUCKET];
    const API: &'static [&'static str] = &[things::HOLDS];

    async fn start(args: Args, at: &Resources) -> anyhow::Result<Self> {
        let things = IntGauge::new(
            "telltale_process_things",
            "Things that something is remembered of",
        )?;
        at.registry().register(Box::new(things.clone()))?;
        let spans = Spans {
            lateness: i64::try_from(args.lateness.as_micros())?,
            remember: i64::try_from(args.remember.as_micros())?,
        };
        ensure!(
            spans.remember >= SPAN_MAX,
            "rules look back 7 days, and things are remembered for {:?}: set `--remember` to 7d or more",
            args.remember
        );
        Ok(Self {
            policies: at.policies().await?,
            watch: match at.client() {
                Ok(client) => Some(Watch::open(client, at.registry()).await?),
                Err(_) => None,
            },
            spans,
            state: State::default(),
            out: Vec::new(),
            things,
        })
    }

    fn restore(&mut self, kept: &[u8]) -> anyhow::Result<()> {
        self.state = rmp_serde::from_slice(kept)?;
        Ok(())
    }

    fn keep(&self) -> anyhow::Result<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(&self.state)?)
    }

    async fn refresh(&mut self) -> bool {
        self.things
            .set(i64::try_from(self.state.things()).unwrap_or(i64::MAX));
        let changes = match &self.watch {
            Some(watch) => watch.refresh(&mut self.state.rules, &mut self.state.derive),
            None => Vec::new(),
        };
        for change in &changes {
            tracing::info!(
                rule = change.name,
                in_force = change.rule.is_some(),
                "a rule has changed"
            );
            if let Err(wrong) = self.state.derive.apply(&change.name, change.rule.as_ref()) {
                tracing::error!(rule = change.name, "it derives nothing: {wrong:?}");
            }
        }
        !changes.is_empty()
    }

    async fn handle(&mut self, input: Delivery<Input>, stored: Timestamp) -> Result<Vec<Follows>, Failure> {
        self.turns(stored).await?;
        self.state.take(heard(input, stored), self.spans, &mut self.out);
        Ok(std::mem::take(&mut self.out))
    }

    fn waits(&self) -> bool {
        self.state.waits()
    }

    async fn passed(&mut self, until: Timestamp) -> Result<Vec<Follows>, Failure> {
        self.turns(until).await?;
        Ok(std::mem::take(&mut self.out))
    }
}

impl Process {
    /// All that is due by that time. What an outage interrupts goes on where it was.
    async fn turns(&mut self, now: Timestamp) -> Result<(), Failure> {
        while let Some(thing) = self.state.due(now, self.spans) {
            let policy = self.policy(&thing).await?;
            self.state.turn(policy.as_deref(), self.spans, &mut self.out);
        }
        Ok(())
    }

    /// What is expected of the thing. An entry that is of no use is told by the stages that refuse for it.
    async fn policy(&self, thing: &str) -> Result<Option<Arc<Policy>>, Failure> {
        match self.policies.of(thing).await {
            Err(failure) if failure.is_outage() => Err(failure),
            Err(_) => Ok(None),
            Ok(policy) => Ok(policy),
        }
    }
}

fn heard(input: Delivery<Input>, stored: Timestamp) -> Heard {
    let (records, annotation, rule) = match input.data {
        Input::Observation(observation) => (observation.records, observation.annotation, None),
        Input::Derivation(derivation) => (
            derivation.records,
            serde_json::Map::new(),
            Some(derivation.rule.unwrap_or_default()),
        ),
    };
    Heard {
        cause: Arc::new(input.cause),
        stored,
        records,
        annotation,
        rule,
    }
}
