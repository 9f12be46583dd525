//! `telltale thing delete`: takes a thing out of the registry; with `--erase`, and everything that is known of it.
use super::{
    super::{consent, output::Output, reach},
    erase, known,
};
use crate::context::Context;
use std::{io::Write as _, process::ExitCode};
use telltale_nats::client;
use telltale_runtime::identity::issue;
use telltale_schemas::kinds::Change;

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing delete lamp-1 --yes
  telltale thing delete lamp-1 --erase --dry-run
  telltale thing delete lamp-1 --erase --yes -o json";

/// What is taken away.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// The thing's name, or the `id` of its description
    name: String,
    /// And its rows, its messages in every stream, and its credential: all that is known of it here
    #[arg(long)]
    erase: bool,
    /// With --erase: only count what would be erased
    #[arg(long, requires = "erase")]
    dry_run: bool,
    /// Without being asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

impl Delete {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = known::named(&self.name)?;
        if self.erase {
            return erase::run(ctx, &thing, self.dry_run, self.yes, &self.output).await;
        }
        let nats = reach::nats(ctx).await?;
        let registry = known::registry(ctx, &nats);
        let found = registry.get(&thing).await.map_err(known::refused)?;
        if found.is_none() {
            let all = super::all(&super::bucket(ctx).await?).await?;
            let known = all.iter().map(|(name, ..)| name.as_str());
            return Err(known::unknown(ctx, thing.plain(), known));
        }
        consent::ask(
            self.yes,
            &format!("delete thing `{}`", thing.plain()),
            thing.plain(),
        )?;
        let gone = registry.remove(&thing, Change::Deleted, None, known::BY).await;
        let gone = gone.map_err(known::refused)?;
        let store = issue::bucket(&client::context(nats)).await?;
        if issue::find(&store, &thing).await?.is_some() {
            writeln!(
                std::io::stderr().lock(),
                "note: its device may still send, and what it sends is kept; `telltale thing credentials {} --revoke` ends that",
                thing.plain()
            )?;
        }
        let mut rows = self.output.rows(["thing", "change", "revision"]);
        rows.row(vec![
            thing.plain().into(),
            Change::Deleted.word().into(),
            gone.revision.into(),
        ])?;
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
