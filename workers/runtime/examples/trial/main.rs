//! A worker that does what a reading tells it to: the conformance suite tries the loop with it.
mod told;

use telltale_runtime::prelude::*;

/// What the worker is told.
#[derive(Debug, clap::Args)]
struct Args {
    /// While this file is not there, readings with `outage` meet one, and those with `wait` wait.
    #[arg(long, env = "TRIAL_GATE")]
    gate: Option<std::path::PathBuf>,
}

#[derive(Debug)]
struct Trial(Args);

impl Worker for Trial {
    const NAME: &'static str = "trial";
    type Input = Observation;
    type Output = Event;
    type Args = Args;
    const EVENTS: &'static [&'static str] = &["done"];

    async fn start(args: Args, _: &Resources) -> anyhow::Result<Self> {
        Ok(Self(args))
    }

    async fn handle(&self, reading: Delivery<Observation>) -> Verdict<Event> {
        told::obey(&reading.records, reading.cause.attempt, self.0.gate.as_deref()).await
    }
}

fn main() -> std::process::ExitCode {
    telltale_runtime::run::<Trial>()
}
