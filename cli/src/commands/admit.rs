//! `telltale admit`: lets one more worker in, while all goes on.
use super::{exit::Refused, programs, provision, reach};
use crate::{
    context::Context,
    control::{self, Request},
    stack::{Extension, Layout, WORKERS, roads},
    supervise::is_same_process,
};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use telltale_nats::{
    Manifest, Name, rights,
    server::{User, render_user},
};

const EXAMPLES: &str = "Examples:
  telltale admit target/debug/over-limit
  telltale admit over-limit.json -- python3 over_limit.py";

/// Let a worker in: its durables and buckets, a user with exactly its rights, its SQL views
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Admit {
    /// The worker's program, or a file with its manifest
    #[arg(value_name = "BINARY|MANIFEST")]
    worker: PathBuf,
    /// How to start it, where that is not the program itself
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The folder with its SQL views; by default `sql` beside the crate or the manifest
    #[arg(long, value_name = "DIR")]
    sql: Option<PathBuf>,
}

impl Admit {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (manifest, command) = self.manifest()?;
        let name = manifest.name.clone();
        if WORKERS.contains(&name.as_str()) {
            return Err(
                Refused::usage(format!("`{name}` is one of our own workers, it is in already")).into(),
            );
        }
        let ctx = Context::find()?;
        let views = views(&self.folder_of_views(&name))?;
        let extension = Extension {
            manifest,
            command,
            env: BTreeMap::new(),
        };
        let seed = match programs::layout(ctx.folder.as_deref()) {
            Some(layout) => ours(&ctx, &layout, &extension).await?,
            None => theirs(&ctx, &extension).await?,
        };
        if !views.is_empty() {
            create_views(&ctx, &name, &views).await?;
        }
        let url = ctx.get("NATS_URL").unwrap_or("nats://127.0.0.1:4222");
        let mut out = std::io::stdout().lock();
        for (variable, value) in [
            ("TELLTALE_SITE", ctx.site.plain()),
            ("TELLTALE_NATS_URL", url),
            ("TELLTALE_NATS_SEED_FILE", &seed),
            ("NATS_URL", url),
            ("NATS_NKEY_SEED_FILE", &seed),
        ] {
            writeln!(out, "export {variable}='{value}'")?;
        }
        if ctx.folder.is_some() && !extension.command.is_empty() {
            writeln!(std::io::stderr().lock(), "next: telltale start {name}")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn manifest(&self) -> anyhow::Result<(Manifest, Vec<String>)> {
        let path = &self.worker;
        let named = || format!("read `{}`", path.display());
        let bytes = std::fs::read(path).with_context(named)?;
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            return Ok((Manifest::parse(&bytes).with_context(named)?, self.command.clone()));
        }
        let program = std::path::absolute(path).with_context(named)?;
        let manifest = roads::manifest_of(&program)?;
        manifest.check().with_context(named)?;
        let command = if self.command.is_empty() {
            vec![program.display().to_string()]
        } else {
            self.command.clone()
        };
        Ok((manifest, command))
    }

    fn folder_of_views(&self, name: &str) -> PathBuf {
        if let Some(folder) = &self.sql {
            return folder.clone();
        }
        let path = std::path::absolute(&self.worker).unwrap_or_else(|_| self.worker.clone());
        let crate_of = |root: &Path| root.join("workers").join(name).join("sql");
        let of_crate = path.ancestors().map(crate_of).find(|folder| folder.is_dir());
        of_crate.unwrap_or_else(|| path.with_file_name("sql"))
    }
}

/// In a stack of ours: its file, its user, its durables. Returns the path of its seed.
async fn ours(ctx: &Context, layout: &Layout, extension: &Extension) -> anyhow::Result<String> {
    let name = extension.name();
    let nats = reach::nats(ctx).await?;
    roads::admit(layout, &ctx.site, &programs::built_in()?, extension)?;
    reload(layout)?;
    let plan = provision::plan(ctx, &nats, &programs::manifests(Some(layout))?).await?;
    provision::apply(&nats, &plan, false).await?;
    writeln!(std::io::stderr().lock(), "`{name}` is in")?;
    Ok(layout.seed(name).display().to_string())
}

/// Makes the broker read its users anew: through the supervisor, or where that listens to nobody, by its own id.
fn reload(layout: &Layout) -> anyhow::Result<()> {
    if let Ok(mut supervisor) = control::Client::connect(layout) {
        supervisor.ask(&Request::Reload)?;
        return Ok(());
    }
    let absent = || {
        Refused::precondition("the worker is written down, but no stack runs here")
            .hint("`telltale up` lets it in")
    };
    let text = std::fs::read(layout.run().join("nats.pid")).with_context(absent)?;
    let server: ServerMark = serde_json::from_slice(&text).with_context(absent)?;
    let pid = i32::try_from(server.pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(absent)?;
    if !is_same_process(server.pid, &server.started) {
        return Err(absent().into());
    }
    kill_process(pid, Signal::HUP).context("tell the broker to read its users anew")
}

/// What the supervisor writes of a process.
#[derive(serde::Deserialize)]
struct ServerMark {
    pid: u32,
    started: String,
}

/// At a server that others run: they include the block that is printed.
async fn theirs(ctx: &Context, extension: &Extension) -> anyhow::Result<String> {
    let here = std::env::current_dir().context("find the working directory")?;
    let layout = Layout::at(&here);
    std::fs::create_dir_all(layout.credentials()).context("make the folder of credentials")?;
    let user = User {
        name: extension.name().to_owned(),
        public_key: roads::identity(&layout, extension.name())?.public_key,
        permissions: rights::worker(&extension.manifest, &ctx.site),
    };
    let mut err = std::io::stderr().lock();
    writeln!(
        err,
        "include this among the `users` of the server's account, and reload it:"
    )?;
    writeln!(err, "{}", render_user(&user))?;
    drop(err);
    if ctx.get("NATS_URL").is_ok() {
        let nats = reach::nats(ctx).await?;
        let plan = provision::plan(ctx, &nats, std::slice::from_ref(&extension.manifest)).await?;
        provision::apply(&nats, &plan, false).await?;
    } else {
        writeln!(std::io::stderr().lock(), "its durables are not made: no NATS_URL")?;
    }
    Ok(layout.seed(extension.name()).display().to_string())
}

/// The files of a folder, in the order of their names.
fn views(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let named = || format!("read `{}`", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(named)? {
        let path = entry.with_context(named)?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
            files.push((path, text));
        }
    }
    files.sort();
    Ok(files)
}

/// All of a worker's views, in a schema of its name, or none.
async fn create_views(ctx: &Context, name: &str, views: &[(PathBuf, String)]) -> anyhow::Result<()> {
    let mut sql = ctx.sql_admin().await.context("create the worker's views")?;
    // The name of a worker has no quote in it: letters, digits and hyphens.
    let schema = format!("\"{}\"", Name::new(name)?.token());
    let transaction = sql.transaction().await?;
    let begin =
        format!("create schema if not exists {schema}; set local search_path = {schema}, public, telltale");
    transaction
        .batch_execute(&begin)
        .await
        .context("make the worker's schema")?;
    for (path, text) in views {
        transaction
            .batch_execute(text)
            .await
            .with_context(|| format!("run `{}`", path.display()))?;
    }
    let end = format!(
        "grant usage on schema {schema} to telltale_reader; grant select on all tables in schema {schema} to telltale_reader"
    );
    transaction
        .batch_execute(&end)
        .await
        .context("let readers see the views")?;
    transaction.commit().await?;
    writeln!(
        std::io::stderr().lock(),
        "{} files of SQL in schema {schema}",
        views.len()
    )?;
    Ok(())
}
