//! `telltale provision`: makes the broker what the files say.
use super::{
    exit::{self, Refused},
    programs, reach,
};
use crate::{
    context::Context,
    stack::{Layout, Secrets, database, register_administrator, register_devices},
};
use anyhow::Context as _;
use std::{io::Write as _, path::PathBuf, process::ExitCode};
use telltale_nats::{
    Manifest, Topology,
    async_nats::Client,
    client,
    provision::{self, Applied, ApplyError, Options, Plan},
};

const EXAMPLES: &str = "Examples:
  telltale provision --diff       # exit code 10 when there is a difference
  telltale provision
  telltale provision --migrate    # after `telltale init`, when the servers run";

/// Make streams, buckets and durables what the files and manifests say
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Provision {
    /// Only say what is different
    #[arg(long, visible_alias = "dry-run")]
    diff: bool,
    /// Also do what destroys messages
    #[arg(long)]
    destroy: bool,
    /// First bring the database to this version and let its reader in, then make the devices and the administrator of `.telltale/env` known
    #[arg(long, conflicts_with = "diff")]
    migrate: bool,
    /// Also what this worker's manifest needs
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,
}

impl Provision {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let layout = programs::layout(ctx.folder.as_deref());
        let mut manifests = programs::manifests(layout.as_ref())?;
        for path in &self.manifest {
            let named = || format!("read `{}`", path.display());
            let json = std::fs::read(path).with_context(named)?;
            manifests.push(Manifest::parse(&json).with_context(named)?);
        }
        let files = if self.migrate {
            Some(migrate(&ctx, layout).await?)
        } else {
            None
        };
        let nats = reach::nats(&ctx).await?;
        let plan = plan(&ctx, &nats, &manifests).await?;
        writeln!(std::io::stdout().lock(), "{plan}")?;
        if self.diff {
            let code = if plan.is_empty() { 0 } else { exit::UNHEALTHY };
            return Ok(ExitCode::from(code));
        }
        let applied = apply(&nats, &plan, self.destroy).await?;
        if let Some(layout) = files {
            register_devices(&layout, &nats).await?;
            register_administrator(&layout, &nats).await?;
        }
        let Applied {
            created,
            changed,
            kept,
        } = applied;
        writeln!(
            std::io::stderr().lock(),
            "created {created}, changed {changed}, unchanged {kept}"
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The database of the stack whose files are here.
async fn migrate(ctx: &Context, layout: Option<Layout>) -> anyhow::Result<Layout> {
    let missing =
        || Refused::precondition("no .telltale folder here or above").hint("`telltale init` makes one");
    let layout = layout.ok_or_else(missing)?;
    let admin = reach::get(ctx, "DATABASE_ADMIN_URL")?;
    let done = database::prepare(admin, &Secrets::load_or_make(&layout)?).await?;
    writeln!(
        std::io::stderr().lock(),
        "database: {} of {} migrations new",
        done.applied.len(),
        done.known
    )?;
    Ok(layout)
}

/// What is different.
pub async fn plan(ctx: &Context, nats: &Client, manifests: &[Manifest]) -> anyhow::Result<Plan> {
    let js = client::context(nats.clone());
    let plan = provision::plan(&js, &Topology::of(&ctx.site), manifests, &Options::default()).await;
    plan.context("compare the broker with the files")
}

/// Does it.
pub async fn apply(nats: &Client, plan: &Plan, destroy: bool) -> anyhow::Result<Applied> {
    let js = client::context(nats.clone());
    provision::apply(&js, plan, destroy)
        .await
        .map_err(|error| match &error {
            ApplyError::Destructive(_) => {
                let refused = Refused::usage("that would destroy messages; nothing was changed");
                anyhow::Error::new(error)
                    .context(refused.hint("`telltale provision --destroy` does it all the same"))
            }
            // The server has thrown the durable away, and stumbles over what it left.
            ApplyError::Durable { name, stream, source, .. } if source.to_string().contains("creating store") => {
                let advice = format!(
                    "the files of durable `{name}` are damaged: stop nats-server, remove {stream}/obs/{name} below its \
                     JetStream folder, start it, and provision again"
                );
                anyhow::Error::new(error).context(Refused::precondition(advice))
            }
            _ => anyhow::Error::new(error).context("change the broker"),
        })
}
