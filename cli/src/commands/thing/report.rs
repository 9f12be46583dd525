//! `telltale thing report`: what things are said to have, beside what was heard of them.
use super::super::{output::Output, reach};
use crate::context::Context;
use anyhow::Context as _;
use serde_json::Value;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing report
  telltale thing report road-weather-001 --all -o json";

/// What is not as it is said to be.
const REPORT: &str = "
select thing, name, verdict, declared, observed
from properties
where ($1::text is null or thing = $1) and ($2 or verdict <> 'well')
order by thing, name";

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// Only this thing
    name: Option<String>,
    /// Also what is as it should be
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

impl Report {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let sql = reach::sql(ctx).await?;
        let found = sql
            .query(REPORT, &[&self.name, &self.all])
            .await
            .context("ask the view `properties`")?;
        let mut rows = self
            .output
            .rows(["thing", "property", "verdict", "declared", "observed"]);
        for row in found {
            let text = |column: usize| Value::from(row.get::<_, String>(column));
            let flag = |column: usize| Value::from(row.get::<_, bool>(column));
            rows.row(vec![text(0), text(1), text(2), flag(3), flag(4)])?;
        }
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
