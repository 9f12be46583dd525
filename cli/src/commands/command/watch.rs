//! `telltale command watch`: how far commands come, as it happens.
use super::super::{exit::Refused, interrupt::Interrupt, output::Output, reach, thing::named};
use crate::context::Context;
use anyhow::Context as _;
use futures::StreamExt as _;
use std::process::ExitCode;
use telltale_nats::Lane;
use telltale_schemas::{Envelope, Outcome};

pub(super) const EXAMPLES: &str = "Examples:
  telltale command watch
  telltale command watch lamp-3 --limit 3 -o ndjson";

/// What is watched.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Only the commands of this thing
    thing: Option<String>,
    /// End after so many outcomes
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    #[command(flatten)]
    output: Output,
}

impl Watch {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let filter = match &self.thing {
            Some(thing) => Lane::Outcome.filter_thing(&named(thing)?),
            None => Lane::Outcome.filter_at(&ctx.site),
        };
        let nats = reach::nats(ctx).await?;
        let mut outcomes = nats.subscribe(filter).await.context("listen to outcomes")?;
        // Whoever sends something once this has returned is seen.
        nats.flush().await.context("listen to outcomes")?;
        let interrupt = Interrupt::listen()?;
        let columns = [
            "time", "thing", "name", "state", "command", "by", "output", "problem",
        ];
        let mut rows = self.output.live(columns);
        while self.limit.is_none_or(|limit| rows.written() < limit) {
            let outcome = tokio::select! {
                outcome = outcomes.next() => outcome,
                () = interrupt.drain.cancelled() => break,
            };
            let outcome = outcome.ok_or_else(|| Refused::failed("the connection to NATS was closed"))?;
            let Ok(told) = serde_json::from_slice::<Envelope<Outcome>>(&outcome.payload) else {
                continue;
            };
            rows.row(vec![
                told.time.to_string().into(),
                told.subject.into(),
                told.data.name.into(),
                told.data.state.word().into(),
                told.data.command.into(),
                told.publisher.into(),
                told.data.output,
                told.data.problem.into(),
            ])?;
        }
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
