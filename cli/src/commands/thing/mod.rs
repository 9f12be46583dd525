//! `telltale thing`: the entries of the bucket `things`, and what else there is of a thing.
mod create;
mod credentials;
mod delete;
mod erase;
mod infer;
mod known;
mod moving;
mod report;
mod watch;

pub(in crate::commands) use known::named;

use super::{
    exit::Refused,
    output::{Format, Output},
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};
use telltale_gateway::registry::bulk as register;
use telltale_nats::{Name, async_nats::jetstream::kv, client};
use telltale_schemas::{check, thing::Entry};

const PUT_EXAMPLES: &str = "Examples:
  telltale thing put things.ndjson
  echo '{\"thing\":\"t1\",\"policy\":{\"late\":\"36h\"}}' | telltale thing put -";
const LIST_EXAMPLES: &str = "Examples:
  telltale thing list
  telltale thing list -o json";
const SHOW_EXAMPLES: &str = "Examples:
  telltale thing show road-weather-001
  telltale thing show road-weather-001 -o json";
/// Entries asked for at once.
const AT_ONCE: usize = 64;

/// Things: what is expected of them, and what is known about them
#[derive(Debug, clap::Subcommand)]
pub enum Thing {
    /// Register things, or change what is expected of them; returns once every running worker goes by it
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        /// One JSON object, an array, or one object a line; `-` for stdin
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// List the registered things
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show one thing's entry
    #[command(visible_alias = "info", after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Register things by their Thing Descriptions, or make one from a Thing Model
    #[command(after_help = create::EXAMPLES)]
    Create(create::Create),
    /// Report what things declare and nothing was heard of, and the other way round
    #[command(after_help = report::EXAMPLES)]
    Report(report::Report),
    /// Watch what becomes of things, from now on
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::Watch),
    /// Move a thing to another site, with its credential and the commands that wait for it
    #[command(after_help = moving::EXAMPLES)]
    Move(moving::Move),
    /// Take a thing out of the registry; with --erase, everything that is known of it
    #[command(visible_alias = "rm", after_help = delete::EXAMPLES)]
    Delete(delete::Delete),
    /// Show what a device proves itself with, give it a new secret, or take its credential away
    #[command(after_help = credentials::EXAMPLES)]
    Credentials(credentials::Credentials),
    /// Propose a Thing Description for a thing that only speaks, from its readings
    #[command(after_help = infer::EXAMPLES)]
    Infer(infer::Infer),
}

impl Thing {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        match self {
            Self::Put { file, output } => put(&ctx, &file, &output).await,
            Self::List { output } => list(&ctx, &output).await,
            Self::Show { name, output } => show(&ctx, &name, &output).await,
            Self::Create(command) => command.run(&ctx).await,
            Self::Report(command) => command.run(&ctx).await,
            Self::Watch(command) => command.run(&ctx).await,
            Self::Move(command) => Box::pin(command.run(&ctx)).await,
            Self::Delete(command) => command.run(&ctx).await,
            Self::Credentials(command) => command.run(&ctx).await,
            Self::Infer(command) => command.run(&ctx).await,
        }
    }
}

/// A file's text, or stdin's for `-`.
fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .context("read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("read `{}`", file.display()))
}

/// The entries of a text; all of them are right, or none is taken.
fn entries(text: &str) -> anyhow::Result<Vec<Entry>> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.context("read the entries as JSON")? {
            Value::Array(several) => values.extend(several),
            one => values.push(one),
        }
    }
    let mut wrong = Vec::new();
    for (number, value) in (1..).zip(&values) {
        let thing = value["thing"].as_str().unwrap_or_default();
        let name = Name::new(thing).err().map(|error| error.to_string());
        let faults = check::thing_entry(value);
        let faults = faults
            .iter()
            .map(|fault| format!("{} {}", fault.pointer, fault.message));
        wrong.extend(
            faults
                .chain(name)
                .map(|fault| format!("entry {number} (`{thing}`): {}", fault.trim())),
        );
    }
    if !wrong.is_empty() {
        return Err(Refused::failed(wrong.join("\n"))
            .hint("nothing was changed")
            .into());
    }
    if values.is_empty() {
        return Err(Refused::usage("there is no entry in it").into());
    }
    values
        .into_iter()
        .map(|value| serde_json::from_value(value).context("read an entry"))
        .collect()
}

async fn put(ctx: &Context, file: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let entries = entries(&read(file)?)?;
    let nats = reach::nats(ctx).await?;
    let put = register::put(&nats, &ctx.site, entries).await?;
    let held = register::wait_until_held(&nats, &ctx.site, put.revision).await?;
    for worker in register::JUDGES
        .iter()
        .filter(|worker| !held.iter().any(|(name, _)| name == *worker))
    {
        writeln!(
            std::io::stderr().lock(),
            "note: no {worker} runs; it will go by this once it does"
        )?;
    }
    let mut rows = output.rows(["created", "updated", "unchanged", "revision", "held_by"]);
    let copies: usize = held.iter().map(|(_, copies)| copies).sum();
    rows.row(vec![
        put.created.into(),
        put.updated.into(),
        put.unchanged.into(),
        put.revision.into(),
        copies.into(),
    ])?;
    rows.finish()?;
    if let Some(first) = put.described.first() {
        let count = put.described.len();
        let told = format!(
            "{count} of these things, `{first}` first, kept as they are: each has a Thing Description"
        );
        return Err(Refused::failed(told)
            .hint("change the description; policy and annotation follow from it")
            .into());
    }
    Ok(ExitCode::SUCCESS)
}

async fn bucket(ctx: &Context) -> anyhow::Result<kv::Store> {
    register::bucket(&client::context(reach::nats(ctx).await?)).await
}

/// Every entry as it stands, by name.
async fn all(store: &kv::Store) -> anyhow::Result<Vec<(String, u64, Value)>> {
    let keys: Vec<String> = store
        .keys()
        .await
        .context("list the things")?
        .try_collect()
        .await
        .context("list the things")?;
    let found = stream::iter(keys).map(|key| async move {
        let entry = store.entry(&key).await.with_context(|| format!("read `{key}`"))?;
        let entry = entry.filter(|entry| entry.operation == kv::Operation::Put);
        let name = Name::from_token(&key).map_or_else(|_| key.clone(), |name| name.plain().to_owned());
        Ok::<_, anyhow::Error>(entry.map(|entry| {
            let value = serde_json::from_slice(&entry.value).unwrap_or_default();
            (name, entry.revision, value)
        }))
    });
    let mut all: Vec<_> = found
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|one| async { Ok(one) })
        .try_collect()
        .await?;
    all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(all)
}

async fn list(ctx: &Context, output: &Output) -> anyhow::Result<ExitCode> {
    let mut rows = output.rows(["thing", "revision", "properties", "late", "ahead", "foi"]);
    for (name, revision, entry) in all(&bucket(ctx).await?).await? {
        let properties = entry["policy"]["properties"].as_object();
        let properties: Vec<&str> = properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        rows.row(vec![
            name.into(),
            revision.into(),
            properties.join(" ").into(),
            entry["policy"]["late"].clone(),
            entry["policy"]["ahead"].clone(),
            entry["annotation"]["foi"].clone(),
        ])?;
    }
    rows.finish()?;
    Ok(ExitCode::SUCCESS)
}

async fn show(ctx: &Context, name: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let thing = known::named(name)?;
    let store = bucket(ctx).await?;
    let found = store
        .entry(thing.token())
        .await
        .with_context(|| format!("read `{name}`"))?;
    let Some(found) = found.filter(|entry| entry.operation == kv::Operation::Put) else {
        let all = all(&store).await?;
        return Err(known::unknown(
            ctx,
            name,
            all.iter().map(|(name, ..)| name.as_str()),
        ));
    };
    let entry: Value = serde_json::from_slice(&found.value).context("read the entry")?;
    let changed = telltale_schemas::Timestamp::from_offset(found.created).to_string();
    let whole = json!({"revision": found.revision, "changed": changed, "entry": entry});
    let mut out = std::io::stdout().lock();
    match output.asked() {
        None | Some(Format::Json) => serde_json::to_writer_pretty(&mut out, &whole)?,
        Some(Format::Ndjson) => serde_json::to_writer(&mut out, &whole)?,
        Some(Format::Table | Format::Tsv | Format::Csv) => {
            drop(out);
            let mut rows = output.rows(["property", "type", "unit", "minimum", "maximum", "missing"]);
            for (name, property) in entry["policy"]["properties"].as_object().into_iter().flatten() {
                let of = |member: &str| property[member].clone();
                rows.row(vec![
                    name.as_str().into(),
                    of("type"),
                    of("unit"),
                    of("minimum"),
                    of("maximum"),
                    of("missing"),
                ])?;
            }
            rows.finish()?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_an_array_and_lines_are_all_taken() {
        for (text, count) in [
            ("{\"thing\":\"a\"}", 1),
            ("[{\"thing\":\"a\"},{\"thing\":\"b\"}]", 2),
            ("{\"thing\":\"a\"}\n{\"thing\":\"b\"}\n\n{\"thing\":\"c\"}\n", 3),
        ] {
            assert_eq!(entries(text).unwrap().len(), count, "{text}");
        }
    }

    #[test]
    fn one_wrong_entry_refuses_all_and_is_told_with_its_place() {
        let text = "{\"thing\":\"a\"}\n{\"thing\":\"b\",\"policy\":{\"late\":7}}\n{\"thing\":\"_c\"}";
        let told = entries(text).unwrap_err().to_string();
        assert!(told.contains("entry 2 (`b`): /policy/late"), "{told}");
        assert!(told.contains("entry 3 (`_c`)"), "{told}");
        assert!(entries("").is_err());
        assert!(entries("{").is_err());
    }
}
