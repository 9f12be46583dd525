//! `telltale rule`: the entries of the bucket `rules`, and what would follow from them.
mod apply;
mod documents;
mod test;

use super::{consent, exit::Refused, names, output::Output, reach};
use crate::context::Context;
use anyhow::Context as _;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::{io::Write as _, process::ExitCode};
use telltale_nats::{async_nats::jetstream::kv, client};
use telltale_schemas::rule::{BUCKET, Rule};

const LIST_EXAMPLES: &str = "Examples:
  telltale rule list
  telltale rule list -o json";
const SHOW_EXAMPLES: &str = "Examples:
  telltale rule show ice-risk
  telltale rule show ice-risk > ice-risk.json";
const DELETE_EXAMPLES: &str = "Examples:
  telltale rule delete ice-risk
  telltale rule delete ice-risk --yes";

/// Rules: what follows from readings
#[derive(Debug, clap::Subcommand)]
pub enum RuleCommand {
    /// Put rules into force, or change them, while everything runs
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::Apply),
    /// List the rules
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show one rule as it was applied
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name
        name: String,
    },
    /// Show what would follow from readings in a file, without a broker
    #[command(after_help = test::EXAMPLES)]
    Test(test::Test),
    /// Take a rule out of force; alarms that it raised are cleared
    #[command(visible_alias = "rm", after_help = DELETE_EXAMPLES)]
    Delete {
        /// Its name
        name: String,
        /// Without being asked
        #[arg(long)]
        yes: bool,
    },
}

impl RuleCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Apply(command) => command.run(&Context::find()?).await,
            Self::List { output } => list(&Context::find()?, &output).await,
            Self::Show { name } => show(&Context::find()?, &name).await,
            Self::Test(command) => command.run(),
            Self::Delete { name, yes } => delete(&Context::find()?, &name, yes).await,
        }
    }
}

async fn bucket(ctx: &Context) -> anyhow::Result<kv::Store> {
    let jetstream = client::context(reach::nats(ctx).await?);
    jetstream.get_key_value(BUCKET).await.map_err(|error| {
        anyhow::Error::new(error).context(
            Refused::precondition(format!("bucket `{BUCKET}` cannot be opened"))
                .hint("`telltale provision` makes it"),
        )
    })
}

/// Names as they stand, in order.
async fn names(store: &kv::Store) -> anyhow::Result<Vec<String>> {
    let keys = store.keys().await.context("list the rules")?;
    let mut names: Vec<String> = keys.try_collect().await.context("list the rules")?;
    names.sort();
    Ok(names)
}

/// The entry of that name, or the nearest name that there is.
async fn entry(ctx: &Context, store: &kv::Store, name: &str) -> anyhow::Result<kv::Entry> {
    // What is no key cannot be asked for.
    let known = names(store).await?;
    if known.iter().any(|known| known == name)
        && let Some(entry) = store
            .entry(name)
            .await
            .with_context(|| format!("read `{name}`"))?
    {
        return Ok(entry);
    }
    let hint = names::did_you_mean(name, known.iter().map(String::as_str));
    let shown: String = name.chars().take(80).collect();
    Err(
        Refused::failed(format!("no rule `{shown}` is at site `{}`", ctx.site))
            .hint(hint.unwrap_or_else(|| "`telltale rule list` has them all".to_owned()))
            .into(),
    )
}

/// What kind of rule it is.
fn kind(rule: &Rule) -> &'static str {
    if rule.window.is_some() {
        "window"
    } else if rule.on_change.is_some() {
        "on_change"
    } else if rule.anomaly.is_some() {
        "anomaly"
    } else if rule.computed.is_some() {
        "virtual"
    } else if rule.is_alarm() {
        "alarm"
    } else {
        "condition"
    }
}

async fn list(ctx: &Context, output: &Output) -> anyhow::Result<ExitCode> {
    let store = bucket(ctx).await?;
    let mut rows = output.rows(["rule", "kind", "things", "severity", "revision", "wrong"]);
    for name in names(&store).await? {
        let Some(entry) = store
            .entry(&name)
            .await
            .with_context(|| format!("read `{name}`"))?
        else {
            continue;
        };
        let read = documents::read(&name, &String::from_utf8_lossy(&entry.value));
        let (rule, wrong) = match read.map(|mut all| all.pop()) {
            Ok(Some(document)) => (Some(document.rule), None),
            Ok(None) => (None, Some("there is no rule in it".to_owned())),
            Err(wrong) => (None, wrong.into_iter().next()),
        };
        let things = rule.as_ref().map(|rule| rule.things.join(" "));
        let severity = rule.as_ref().and_then(|rule| rule.severity);
        rows.row(vec![
            name.into(),
            rule.as_ref().map_or(Value::Null, |rule| kind(rule).into()),
            things.into(),
            severity.map_or(Value::Null, |severity| severity.word().into()),
            entry.revision.into(),
            wrong.into(),
        ])?;
    }
    rows.finish()?;
    Ok(ExitCode::SUCCESS)
}

async fn show(ctx: &Context, name: &str) -> anyhow::Result<ExitCode> {
    let entry = entry(ctx, &bucket(ctx).await?, name).await?;
    let text = String::from_utf8_lossy(&entry.value);
    let text = super::output::json_text(text.trim_end());
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

async fn delete(ctx: &Context, name: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let store = bucket(ctx).await?;
    let entry = entry(ctx, &store, name).await?;
    consent::ask(yes, &format!("delete rule `{name}`"), name)?;
    store
        .delete_expect_revision(name, Some(entry.revision))
        .await
        .with_context(|| format!("delete `{name}`"))?;
    Ok(ExitCode::SUCCESS)
}
