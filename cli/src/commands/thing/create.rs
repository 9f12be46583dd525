//! `telltale thing create`: registers things by their descriptions, or makes one from a model.
use super::{
    super::{exit::Refused, interrupt::Interrupt, output::Output, progress::Progress, reach},
    known::{self, BY},
};
use crate::context::Context;
use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, value::RawValue};
use std::{io::Write as _, path::PathBuf, process::ExitCode};
use telltale_gateway::registry::{Error, Registry, bulk};
use telltale_nats::{Name, async_nats::Client, client};
use telltale_runtime::identity::issue::{self, Wish};
use telltale_schemas::{
    kinds::{Change, Fault},
    td,
};

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing create lamp-1.td.json
  telltale thing create --model lamp --id lamp-1 --credentials
  telltale thing create fleet.ndjson --replace
  telltale thing infer lamp-1 | telltale thing create -";
/// Things registered at once.
const AT_ONCE: usize = 32;
/// Faults that are told; whoever has more has seen enough.
const TOLD_MAX: usize = 50;

/// What is registered.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Thing Descriptions: one JSON object, an array, or one object a line; `-` for stdin
    #[arg(required_unless_present = "model", conflicts_with = "model")]
    file: Option<PathBuf>,
    /// From a Thing Model: the name of one that Telltale brings, or a file
    #[arg(long, value_name = "MODEL", requires = "id")]
    model: Option<String>,
    /// With --model: the thing's name, or the `id` of its description
    #[arg(long, requires = "model")]
    id: Option<String>,
    /// With --model: its title, instead of the model's
    #[arg(long, requires = "model")]
    title: Option<String>,
    /// With --model: what takes the place of `{{NAME}}`; JSON, or else a text
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment, requires = "model")]
    set: Vec<(String, Value)>,
    /// Replace the descriptions of things that are registered already
    #[arg(long)]
    replace: bool,
    /// Give the one thing a credential, shown now and never again
    #[arg(long)]
    credentials: bool,
    #[command(flatten)]
    output: Output,
}

fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// What came of them.
#[derive(Debug, Default)]
struct Tally {
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Registered before, and left as they are.
    known: Vec<String>,
    revision: u64,
    /// The last one.
    thing: Option<String>,
}

impl Create {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let descriptions = self.descriptions()?;
        if self.credentials && descriptions.len() != 1 {
            let found = descriptions.len();
            return Err(Refused::usage(format!(
                "--credentials is for one thing, and there are {found} descriptions"
            ))
            .hint("`telltale thing credentials NAME --rotate` gives each its own")
            .into());
        }
        let nats = reach::nats(ctx).await?;
        let registry = known::registry(ctx, &nats);
        let is_one = descriptions.len() == 1;
        let tally = self.register(&registry, descriptions).await?;
        let held = self.wait(ctx, &nats, tally.revision).await?;
        if is_one {
            let Some(thing) = tally.thing.as_ref().filter(|_| tally.known.is_empty()) else {
                return Err(refused(&tally).into());
            };
            self.tell_one(&nats, thing, &tally, held).await?;
        } else {
            let mut rows =
                self.output
                    .rows(["created", "updated", "unchanged", "known", "revision", "held_by"]);
            rows.row(vec![
                tally.created.into(),
                tally.updated.into(),
                tally.unchanged.into(),
                tally.known.len().into(),
                tally.revision.into(),
                held.into(),
            ])?;
            rows.finish()?;
            if !tally.known.is_empty() {
                return Err(refused(&tally).into());
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The descriptions, checked; all of them are right, or none is taken.
    fn descriptions(&self) -> anyhow::Result<Vec<Value>> {
        let Some(model) = &self.model else {
            let file = self.file.as_deref().context("name a file")?;
            return descriptions(&super::read(file)?);
        };
        let value = match td::model::named(model) {
            Some(model) => model.value(),
            None => own_model(model)?,
        };
        let placeholders: Map<String, Value> = self.set.iter().cloned().collect();
        let id = self.id.as_deref().unwrap_or_default();
        let made = td::model::instantiate(&value, id, self.title.as_deref(), &placeholders);
        Ok(vec![made.map_err(|faults| {
            Refused::failed(told(&format!("model `{model}`"), &faults).join("\n")).hint("nothing was changed")
        })?])
    }

    async fn register(&self, registry: &Registry, descriptions: Vec<Value>) -> anyhow::Result<Tally> {
        let interrupt = Interrupt::listen()?;
        let total = descriptions.len() as u64;
        let mut progress = Progress::new("registered", Some(total));
        let mut tally = Tally::default();
        let mut done = 0;
        let mut results = stream::iter(descriptions)
            .take_while(|_| std::future::ready(!interrupt.came()))
            .map(|description| one(registry, description, self.replace))
            .buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            match result {
                Ok((thing, revision, change)) => {
                    match change {
                        Some(Change::Created) => tally.created += 1,
                        Some(_) => tally.updated += 1,
                        None => tally.unchanged += 1,
                    }
                    tally.revision = tally.revision.max(revision);
                    tally.thing = Some(thing);
                }
                Err(Error::Known(thing)) => tally.known.push(thing),
                Err(error) => {
                    progress.finish();
                    return Err(known::refused(error)).with_context(|| {
                        format!("stopped after {done} of {total}; run it again with --replace to go on")
                    });
                }
            }
            done += 1;
            progress.at(done);
        }
        progress.finish();
        if done < total {
            writeln!(
                std::io::stderr().lock(),
                "interrupted after {done} of {total}; run it again with --replace to go on"
            )?;
        }
        Ok(tally)
    }

    /// How many copies of the workers go by what was written.
    async fn wait(&self, ctx: &Context, nats: &Client, revision: u64) -> anyhow::Result<usize> {
        if revision == 0 {
            return Ok(0);
        }
        let held = bulk::wait_until_held(nats, &ctx.site, revision).await?;
        Ok(held.iter().map(|(_, copies)| copies).sum())
    }

    async fn tell_one(&self, nats: &Client, thing: &str, tally: &Tally, held: usize) -> anyhow::Result<()> {
        let change = match (tally.created, tally.updated) {
            (1, _) => "created",
            (_, 1) => "updated",
            _ => "unchanged",
        };
        let mut columns = vec!["thing", "change", "revision", "held_by"];
        let mut row: Vec<Value> = vec![thing.into(), change.into(), tally.revision.into(), held.into()];
        if self.credentials {
            let store = issue::bucket(&client::context(nats.clone())).await?;
            let wish = Wish {
                rotate: true,
                ..Wish::default()
            };
            let issued = issue::change(&store, &Name::new(thing)?, &wish).await?;
            columns.extend(["token", "mqtt_password"]);
            row.extend([issued.token().into(), issued.secret.into()]);
        }
        let mut rows = self.output.rows(columns);
        rows.row(row)?;
        rows.finish()?;
        Ok(())
    }
}

/// Registers one; its name, its revision, and what was told.
async fn one(
    registry: &Registry,
    description: Value,
    replace: bool,
) -> Result<(String, u64, Option<Change>), Error> {
    let id = description.get("id").and_then(Value::as_str);
    let name = id
        .and_then(td::thing_name)
        .and_then(|name| Name::new(name).ok())
        .filter(|_| replace);
    let written = match name {
        Some(name) => registry.replace(&name, description, None, BY).await?,
        None => registry.create(description, BY).await?,
    };
    Ok((written.found.entry.thing, written.found.revision, written.change))
}

fn refused(tally: &Tally) -> Refused {
    let shown: Vec<&str> = tally.known.iter().take(5).map(String::as_str).collect();
    let more = tally.known.len().saturating_sub(shown.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Refused::failed(format!("registered already: {}{more}", shown.join(", ")))
        .hint("--replace takes the new descriptions")
}

/// A model in a file.
fn own_model(model: &str) -> anyhow::Result<Value> {
    let path = std::path::Path::new(model);
    if !path.is_file() {
        let names: Vec<&str> = td::models().iter().map(|model| model.name).collect();
        return Err(
            Refused::usage(format!("`{model}` is no model of ours, and no file"))
                .hint(format!("ours are {}", names.join(", ")))
                .into(),
        );
    }
    serde_json::from_str(&super::read(path)?).with_context(|| format!("read the model `{model}` as JSON"))
}

fn descriptions(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut texts: Vec<Box<RawValue>> = Vec::new();
    for one in serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>() {
        let one = one.context("read the descriptions as JSON")?;
        if one.get().starts_with('[') {
            texts.extend(serde_json::from_str::<Vec<Box<RawValue>>>(one.get())?);
        } else {
            texts.push(one);
        }
    }
    let (mut all, mut wrong) = (Vec::with_capacity(texts.len()), Vec::new());
    for (number, text) in (1..).zip(&texts) {
        match td::read(text.get().as_bytes()) {
            Ok(description) => all.push(description),
            Err(faults) => wrong.extend(told(&format!("description {number}"), &faults)),
        }
    }
    if !wrong.is_empty() {
        wrong.truncate(TOLD_MAX);
        return Err(Refused::failed(wrong.join("\n"))
            .hint("nothing was changed")
            .into());
    }
    if all.is_empty() {
        return Err(Refused::usage("there is no description in it").into());
    }
    Ok(all)
}

fn told(what: &str, faults: &[Fault]) -> Vec<String> {
    let line = |fault: &Fault| match fault.pointer.as_str() {
        "" => format!("{what}: {}", fault.message),
        pointer => format!("{what}: {pointer} {}", fault.message),
    };
    faults.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lamp(name: &str) -> Value {
        let model = td::model::named("lamp").unwrap().value();
        td::model::instantiate(&model, name, None, &Map::new()).unwrap()
    }

    #[test]
    fn one_description_an_array_and_lines_are_all_taken() {
        let (one, two) = (lamp("lamp-1"), lamp("lamp-2"));
        for (text, count) in [
            (one.to_string(), 1),
            (json!([one, two]).to_string(), 2),
            (format!("{one}\n{two}\n\n"), 2),
        ] {
            assert_eq!(descriptions(&text).unwrap().len(), count, "{text}");
        }
    }

    #[test]
    fn one_wrong_description_refuses_all_and_is_told_with_its_place() {
        let mut wrong = lamp("lamp-2");
        wrong["title"] = json!(7);
        let text = format!("{}\n{wrong}\n{{\"id\":1,\"id\":2}}", lamp("lamp-1"));
        let refused = descriptions(&text).unwrap_err().to_string();
        assert!(refused.contains("description 2: /title"), "{refused}");
        assert!(
            refused.contains("description 3"),
            "a key that comes twice: {refused}"
        );
        assert!(descriptions("").is_err() && descriptions("{").is_err());
    }

    #[test]
    fn what_is_set_is_json_or_else_a_text() {
        assert_eq!(assignment("LAT=43.6").unwrap(), ("LAT".to_owned(), json!(43.6)));
        assert_eq!(assignment("ROAD=A8").unwrap(), ("ROAD".to_owned(), json!("A8")));
        assert_eq!(assignment("A=b=c").unwrap(), ("A".to_owned(), json!("b=c")));
        assert!(assignment("LAT").is_err());
    }
}
