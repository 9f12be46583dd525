//! The trial worker in batches, out of packs.
#[path = "../trial/told.rs"]
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
struct TrialBatch(Args);

impl BatchWorker for TrialBatch {
    const NAME: &'static str = "trial-batch";
    type Input = Reading;
    type Output = Event;
    type Args = Args;
    const EVENTS: &'static [&'static str] = &["done"];

    async fn start(args: Args, _: &Resources) -> anyhow::Result<Self> {
        Ok(Self(args))
    }

    async fn handle_batch(&self, readings: &[Delivery<Reading>]) -> Result<Vec<Verdict<Event>>, Failure> {
        let mut verdicts = Vec::with_capacity(readings.len());
        for reading in readings {
            let verdict = told::obey(&reading.records, reading.cause.attempt, self.0.gate.as_deref()).await;
            match verdict {
                Err(failure) if failure.is_outage() => return Err(failure),
                verdict => verdicts.push(verdict),
            }
        }
        Ok(verdicts)
    }
}

fn main() -> std::process::ExitCode {
    telltale_runtime::run_batch::<TrialBatch>()
}
