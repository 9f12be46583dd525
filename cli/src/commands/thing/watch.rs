//! `telltale thing watch`: what becomes of things, as it happens.
use super::{
    super::{exit::Refused, interrupt::Interrupt, output::Output, reach},
    known,
};
use crate::context::Context;
use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::Value;
use std::process::ExitCode;
use telltale_nats::Lane;
use telltale_schemas::{Envelope, Registration};

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing watch
  telltale thing watch road-weather-001 --limit 1 -o ndjson";

/// What is watched.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Only this thing
    name: Option<String>,
    /// End after so many changes
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    #[command(flatten)]
    output: Output,
}

impl Watch {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let filter = match &self.name {
            Some(name) => Lane::Thing.filter_thing(&known::named(name)?),
            None => Lane::Thing.filter_at(&ctx.site),
        };
        let nats = reach::nats(ctx).await?;
        let mut changes = nats.subscribe(filter).await.context("listen to registrations")?;
        // Whoever changes something once this has returned is seen.
        nats.flush().await.context("listen to registrations")?;
        let interrupt = Interrupt::listen()?;
        let mut rows = self
            .output
            .live(["time", "thing", "change", "revision", "by", "detail"]);
        while self.limit.is_none_or(|limit| rows.written() < limit) {
            let change = tokio::select! {
                change = changes.next() => change,
                () = interrupt.drain.cancelled() => break,
            };
            let change = change.ok_or_else(|| Refused::failed("the connection to NATS was closed"))?;
            let Ok(told) = serde_json::from_slice::<Envelope<Registration>>(&change.payload) else {
                continue;
            };
            let detail = Some(told.data.detail).filter(|detail| !detail.is_empty());
            rows.row(vec![
                told.time.to_string().into(),
                told.subject.into(),
                told.data.change.word().into(),
                told.data.revision.into(),
                told.data.by.into(),
                detail.map_or(Value::Null, Value::Object),
            ])?;
        }
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
