//! `telltale thing move`: a thing goes to another site, with its description, its credential and what waits for it.
//!
//! Its device goes on with the same secret: the other site's bridge has it before this one's forgets it. The change is
//! told here first and there after it, so that whoever has both sites' registrations knows where it is. Its rows stay
//! where they are; they are one history where both sites' stores write to one database, and where they do not, it is
//! not moved unless that is said to be right.
use super::{
    super::{consent, exit::Refused, output::Output, reach},
    erase::keys_of,
    known,
};
use crate::context::Context;
use anyhow::Context as _;
use std::{path::PathBuf, process::ExitCode};
use telltale_gateway::registry::{Registry, bulk};
use telltale_nats::{
    Name,
    async_nats::jetstream::{self, kv::Store},
    client,
};
use telltale_runtime::{identity::issue, things};
use telltale_schemas::thing::Entry;

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing move lamp-1 --to /srv/a8-km43
  telltale thing move lamp-1 --to /srv/a8-km43 --yes -o json";
/// Commands that wait for their device, by its thing.
const PENDING: &str = "pending";
/// Which database a connection is to: its name, and the server by its start.
const DATABASE: &str = "select current_database() || ' ' || pg_postmaster_start_time()::text";

/// Where it goes.
#[derive(Debug, clap::Args)]
pub struct Move {
    /// The thing's name, or the `id` of its description
    name: String,
    /// The folder of the other site: `.telltale` is in it, or above it
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Also where the sites have databases of their own: the rows that there are stay behind
    #[arg(long)]
    split_history: bool,
    /// Without being asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

/// One of the two sites.
struct Place {
    site: Name,
    js: jetstream::Context,
    registry: Registry,
    nats: telltale_nats::async_nats::Client,
    things: Store,
    credentials: Store,
    pending: Store,
}

impl Place {
    async fn of(ctx: &Context) -> anyhow::Result<Self> {
        let nats = reach::nats(ctx).await?;
        let js = client::context(nats.clone());
        let bucket = async |name: &str| {
            js.get_key_value(name)
                .await
                .with_context(|| format!("open the bucket `{name}` of site `{}`", ctx.site))
        };
        Ok(Self {
            site: ctx.site.clone(),
            registry: known::registry(ctx, &nats),
            things: bucket(things::BUCKET).await?,
            credentials: issue::bucket(&js).await?,
            pending: bucket(PENDING).await?,
            js,
            nats,
        })
    }
}

impl Move {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = known::named(&self.name)?;
        let there = Context::find_from(&self.to)
            .ok()
            .filter(|there| there.folder.is_some())
            .ok_or_else(|| {
                Refused::usage(format!("no .telltale folder in `{}` or above", self.to.display()))
            })?;
        if there.site == ctx.site {
            return Err(
                Refused::usage(format!("`{}` is site `{}` itself", self.to.display(), ctx.site)).into(),
            );
        }
        let (from, to) = (Place::of(ctx).await?, Place::of(&there).await?);
        let entry = self.checked(ctx, &there, &from, &to, &thing).await?;
        let what = format!("move thing `{}` to site `{}`", thing.plain(), to.site);
        consent::ask(self.yes, &what, thing.plain())?;
        let revision = carry(&from, &to, &thing, entry).await?;
        let held = bulk::wait_until_held(&to.nats, &to.site, revision).await?;
        let pending = pending(&from, &to, &thing).await?;
        let mut rows = self
            .output
            .rows(["thing", "from", "to", "revision", "held_by", "pending"]);
        rows.row(vec![
            thing.plain().into(),
            from.site.plain().into(),
            to.site.plain().into(),
            revision.into(),
            held.iter().map(|(_, copies)| copies).sum::<usize>().into(),
            pending.into(),
        ])?;
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    /// The entry that is to be moved, where that can be done.
    async fn checked(
        &self,
        ctx: &Context,
        there: &Context,
        from: &Place,
        to: &Place,
        thing: &Name,
    ) -> anyhow::Result<Entry> {
        let found = from.registry.get(thing).await.map_err(known::refused)?;
        let Some(found) = found else {
            let all = super::all(&from.things).await?;
            let names = all.iter().map(|(name, ..)| name.as_str());
            return Err(known::unknown(ctx, thing.plain(), names));
        };
        if to.registry.get(thing).await.map_err(known::refused)?.is_some() {
            return Err(Refused::failed(format!(
                "thing `{}` is registered at site `{}` already",
                thing.plain(),
                to.site
            ))
            .into());
        }
        if issue::find(&to.credentials, thing).await?.is_some() {
            return Err(Refused::failed(format!(
                "`{}` has a credential at site `{}` already",
                thing.plain(),
                to.site
            ))
            .hint("revoke it there first")
            .into());
        }
        let (mine, theirs) = (reach::sql_admin(ctx).await?, reach::sql_admin(there).await?);
        let mine: String = mine.query_one(DATABASE, &[]).await?.get(0);
        let theirs: String = theirs.query_one(DATABASE, &[]).await?.get(0);
        if mine != theirs && !self.split_history {
            return Err(Refused::failed(
                "the two sites have databases of their own: its history would be in two places",
            )
            .hint("--split-history moves it all the same, and leaves its rows where they are")
            .into());
        }
        Ok(found.entry)
    }
}

/// Credential, entry, and the end of both here; the revision there.
async fn carry(from: &Place, to: &Place, thing: &Name, entry: Entry) -> anyhow::Result<u64> {
    if let Some((credential, _)) = issue::find(&from.credentials, thing).await? {
        let value = serde_json::to_vec(&credential)?.into();
        to.credentials
            .create(thing.token(), value)
            .await
            .context("take the credential along")?;
    }
    let removed = from.registry.moved(thing, &to.site, known::BY).await;
    if let Err(error) = removed {
        issue::revoke(&to.credentials, thing).await?;
        return Err(known::refused(error));
    }
    let written = bulk::put(&to.nats, &to.site, vec![entry.clone()]).await;
    let revision = match written {
        Ok(put) => put.revision,
        Err(error) => {
            issue::revoke(&to.credentials, thing).await?;
            bulk::put(&from.nats, &from.site, vec![entry])
                .await
                .context("and it could not be put back: create it anew")?;
            return Err(error.context(format!("it stays at site `{}`", from.site)));
        }
    };
    issue::revoke(&from.credentials, thing)
        .await
        .context("it is moved, but its credential is valid at both sites: revoke it here")?;
    Ok(revision)
}

/// Takes the commands along that wait for its device; how many.
async fn pending(from: &Place, to: &Place, thing: &Name) -> anyhow::Result<usize> {
    let keys = keys_of(&from.js, PENDING, thing).await?;
    for key in &keys {
        let Some(value) = from.pending.get(key).await? else {
            continue;
        };
        to.pending.put(key, value).await.context("take a command along")?;
        from.pending
            .delete(key)
            .await
            .context("a command waits at both sites: delete it here")?;
    }
    Ok(keys.len())
}
