//! Raises an event when a reading is over its limit.
use telltale_runtime::prelude::*;

/// What the worker is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Degrees from which the road counts as hot.
    #[arg(long, env = "TELLTALE_OVER_LIMIT", default_value_t = 60.0)]
    limit: f64,
}

/// The worker.
#[derive(Debug)]
pub struct OverLimit {
    limit: f64,
}

impl Worker for OverLimit {
    const NAME: &'static str = "over-limit";
    type Input = Observation;
    type Output = Event;
    type Args = Args;
    const EVENTS: &'static [&'static str] = &["over_limit"];

    async fn start(args: Args, _: &Resources) -> anyhow::Result<Self> {
        Ok(Self { limit: args.limit })
    }

    async fn handle(&self, reading: Delivery<Observation>) -> Verdict<Event> {
        let t = reading.value("surface_temperature").or_reject("no_temperature")?;
        Ok((t > self.limit)
            .then(|| Event::new("over_limit").with("temperature", t))
            .into())
    }
}

fn main() -> std::process::ExitCode {
    telltale_runtime::run::<OverLimit>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_command_line_holds_together() {
        telltale_runtime::command::<OverLimit>().debug_assert();
    }
}
