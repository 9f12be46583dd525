//! Local processing: what needs more than one reading. Quality by its neighbours, rules, derived readings.
//!
//! Rules that look at one reading alone act as it comes. Everything else hears each thing's readings in the order in
//! which they were measured ([`order`]). All of it is a function of the stream of readings (ADR 0023).
#![warn(missing_docs)]
pub mod derive;
pub mod heard;
pub mod order;
pub mod quality;
pub mod rules;

pub use heard::{Follows, Heard, Input, Said};

use derive::Derive;
use order::{Order, Turn};
use prometheus::IntGauge;
use quality::Quality;
use rules::{Engine, Watch};
use serde::{Deserialize, Serialize};
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
}

/// The worker.
#[derive(Debug)]
pub struct Process {
    policies: Policies,
    /// The bucket of rules; none offline.
    watch: Option<Watch>,
    /// Microseconds.
    lateness: i64,
    state: State,
    /// What follows, and was not handed over yet: an outage in between keeps it.
    out: Vec<Follows>,
    things: IntGauge,
}

/// What is remembered: all of it, and nothing else.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    order: Order,
    /// Taken from `order` and not heard yet.
    turn: Option<Turn>,
    quality: Quality,
    rules: Engine,
    derive: Derive,
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
            "Things whose readings were heard in order",
        )?;
        at.registry().register(Box::new(things.clone()))?;
        Ok(Self {
            policies: at.policies().await?,
            watch: match at.client() {
                Ok(client) => Some(Watch::open(client, at.registry()).await?),
                Err(_) => None,
            },
            lateness: i64::try_from(args.lateness.as_micros())?,
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
            .set(i64::try_from(self.state.order.things()).unwrap_or(i64::MAX));
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
        let heard = heard(input, stored);
        self.state.rules.at_once(&heard, &mut self.out);
        if let Some(Turn::Late(late)) = self.state.order.take(heard, self.lateness) {
            self.state.derive.late(&late, &mut self.out);
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn waits(&self) -> bool {
        self.state.order.waits()
    }

    async fn passed(&mut self, until: Timestamp) -> Result<Vec<Follows>, Failure> {
        self.turns(until).await?;
        Ok(std::mem::take(&mut self.out))
    }
}

impl Process {
    /// All that is due by that time. What an outage interrupts goes on where it was.
    async fn turns(&mut self, now: Timestamp) -> Result<(), Failure> {
        loop {
            if self.state.turn.is_none() {
                self.state.turn = self.state.order.next(now);
            }
            let thing = match &self.state.turn {
                None => return Ok(()),
                Some(Turn::InOrder(heard) | Turn::Late(heard)) => heard.thing().to_owned(),
                Some(Turn::Silence(thing, _)) => thing.clone(),
            };
            let policy = self.policy(&thing).await?;
            match self.state.turn.take() {
                Some(Turn::InOrder(mut heard)) => {
                    if heard.rule.is_none() {
                        self.state
                            .quality
                            .hear(&mut heard, policy.as_deref(), &mut self.out);
                    }
                    self.state.rules.hear(&heard, &mut self.out);
                    self.state.derive.hear(&heard, &mut self.out);
                }
                Some(Turn::Late(heard)) => self.state.derive.late(&heard, &mut self.out),
                Some(Turn::Silence(thing, moment)) => {
                    self.state.rules.passed(&thing, moment, &mut self.out);
                    self.state.derive.passed(&thing, moment, &mut self.out);
                }
                None => {}
            }
            let moments = [self.state.rules.waits(&thing), self.state.derive.waits(&thing)];
            let moment = moments.into_iter().flatten().min();
            self.state.order.wait(&thing, moment, self.lateness);
        }
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
