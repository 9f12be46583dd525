//! `telltale quarantine`: what the stages refused, and why; and what is done about it.
mod drop;
mod edit;
mod entry;
mod filter;
mod list;
pub(in crate::commands) mod pointed;
mod remedy;
mod replay;
mod show;
mod splice;
mod stream;

use super::output::Output;
use crate::context::Context;
use filter::{Filter, Selection};
use serde_json::Value;
use std::process::ExitCode;
use telltale_schemas::Timestamp;
use tokio_postgres::Row;

const LIST_EXAMPLES: &str = "Examples:
  telltale quarantine list --count
  telltale quarantine list --reason unit --since 1h -o json";
const SHOW_EXAMPLES: &str = "Examples:
  telltale quarantine show road-weather-001:7-1204
  telltale quarantine show road-weather-001:7-1204 --raw > payload";
const REPLAY_EXAMPLES: &str = "Examples:
  telltale quarantine replay road-weather-001:7-1204
  telltale quarantine replay --reason type --thing road-weather-001 --dry-run
  telltale quarantine replay --reason type --yes --note 'the policy was wrong'";
const DROP_EXAMPLES: &str = "Examples:
  telltale quarantine drop road-weather-001:7-1204 --note 'a test'
  telltale quarantine drop --thing demo --until 7d --yes";
const EDIT_EXAMPLES: &str = "Examples:
  telltale quarantine edit road-weather-001:7-1204
  telltale quarantine edit road-weather-001:7-1204 --set /surface_temperature=-0.85
  telltale quarantine edit road-weather-001:7-1204 --file corrected.json --content-type application/json";

/// Messages that a stage refused: kept whole, with the reason, until they are given back or given up
#[derive(Debug, clap::Subcommand)]
pub enum Quarantine {
    /// List what is in quarantine, newest first, or how much of what
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        shape: list::Shape,
        #[command(flatten)]
        output: Output,
    },
    /// Show one message: what was wrong and where, what would mend it, its headers and its bytes
    #[command(visible_alias = "info", after_help = SHOW_EXAMPLES)]
    Show {
        /// Its id, or that of its quarantine entry
        id: String,
        /// Only the payload, byte for byte
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Give messages back to the stage that refused them, once the cause is mended
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        output: Output,
    },
    /// Correct a message before it is given back; the original stays
    #[command(after_help = EDIT_EXAMPLES)]
    Edit {
        #[command(flatten)]
        edit: edit::Edit,
        #[command(flatten)]
        output: Output,
    },
    /// Give messages up; who did so and why stays, and so do the bytes
    #[command(visible_alias = "rm", after_help = DROP_EXAMPLES)]
    Drop {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        output: Output,
    },
}

impl Quarantine {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        match self {
            Self::List {
                filter,
                shape,
                output,
            } => list::run(&ctx, &filter, &shape, &output).await,
            Self::Show { id, raw, output } => show::run(&ctx, &id, raw, &output).await,
            Self::Replay { selection, output } => replay::run(&ctx, &selection, &output).await,
            Self::Edit { edit, output } => edit.run(&ctx, &output).await,
            Self::Drop { selection, output } => drop::run(&ctx, &selection, &output).await,
        }
    }
}

fn when(row: &Row, column: &str) -> Value {
    let at: Option<time::OffsetDateTime> = row.get(column);
    at.map_or(Value::Null, |at| Timestamp::from_offset(at).to_string().into())
}
