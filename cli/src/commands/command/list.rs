//! `telltale command list`: commands and how far they are, from the view `commands`.
use super::super::{output::Output, reach, thing::named};
use crate::context::Context;
use anyhow::Context as _;
use serde_json::Value;
use std::process::ExitCode;
use telltale_schemas::Timestamp;
use time::OffsetDateTime;

pub(super) const EXAMPLES: &str = "Examples:
  telltale command list lamp-3
  telltale command list --state queued -o json";

const LIST: &str = "
select id, thing, name, state, issuer, asked, expires, ended, attempts, input, output, problem
from commands
where ($1::text is null or thing = $1) and ($2::text is null or state = $2)
order by asked desc, id
limit $3";

/// Which commands.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only the commands of this thing
    thing: Option<String>,
    /// Only those in that state
    #[arg(long, value_parser = [
        "queued", "sent", "acknowledged", "succeeded", "failed", "expired", "cancelled", "unknown",
    ])]
    state: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = self.thing.as_deref().map(named).transpose()?;
        let thing = thing.as_ref().map(telltale_nats::Name::plain);
        let sql = reach::sql(ctx).await?;
        let found = sql
            .query(LIST, &[&thing, &self.state, &i64::from(self.limit)])
            .await
            .context("ask the view `commands`")?;
        let mut rows = self.output.rows([
            "id", "thing", "name", "state", "issuer", "asked", "expires", "ended", "attempts", "input",
            "output", "problem",
        ]);
        for row in found {
            let text = |column: usize| Value::from(row.get::<_, Option<String>>(column));
            let json = |column: usize| row.get::<_, Option<Value>>(column).unwrap_or_default();
            let moment = |column: usize| {
                let moment = row.get::<_, Option<OffsetDateTime>>(column);
                Value::from(moment.map(|moment| Timestamp::from_offset(moment).to_string()))
            };
            rows.row(vec![
                text(0),
                text(1),
                text(2),
                text(3),
                text(4),
                moment(5),
                moment(6),
                moment(7),
                row.get::<_, i64>(8).into(),
                json(9),
                json(10),
                text(11),
            ])?;
        }
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
