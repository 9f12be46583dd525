//! `telltale rule apply`: checks rules, and puts them into force.
use super::{
    super::{exit::Refused, output::Output},
    documents::{self, Document},
    kind,
};
use crate::context::Context;
use anyhow::Context as _;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use telltale_nats::async_nats::jetstream::kv::Operation;

pub(super) const EXAMPLES: &str = "Examples:
  telltale rule apply ice-risk.json
  telltale rule apply rules/ice.json rules/speed.json
  telltale rule show ice-risk | telltale rule apply -";

/// What is applied.
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// One rule, an array, or one after the other; `-` for stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Apply {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let documents = read_all(&self.files)?;
        let store = super::bucket(ctx).await?;
        let mut rows = self.output.rows(["rule", "kind", "change", "revision"]);
        for Document { text, rule } in documents {
            let name = &rule.name;
            let standing = store
                .entry(name)
                .await
                .with_context(|| format!("read `{name}`"))?;
            let standing = standing.filter(|entry| entry.operation == Operation::Put);
            let same = standing.as_ref().filter(|entry| entry.value == text.as_bytes());
            let (change, revision) = if let Some(entry) = same {
                ("unchanged", entry.revision)
            } else {
                let change = if standing.is_some() { "updated" } else { "created" };
                let put = store.put(name, text.into()).await;
                (change, put.with_context(|| format!("write rule `{name}`"))?)
            };
            rows.row(vec![
                name.as_str().into(),
                kind(&rule).into(),
                change.into(),
                revision.into(),
            ])?;
        }
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The rules of all files; all of them are right, or none is taken.
pub(super) fn read_all(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let (mut all, mut wrong): (Vec<Document>, Vec<String>) = (Vec::new(), Vec::new());
    for file in files {
        let name = if file == Path::new("-") {
            "stdin".to_owned()
        } else {
            file.display().to_string()
        };
        let text = text(file)?;
        match documents::read(&name, &text) {
            Ok(read) if read.is_empty() => wrong.push(format!("{name}: there is no rule in it")),
            Ok(read) => {
                for document in read {
                    if all.iter().any(|known| known.rule.name == document.rule.name) {
                        wrong.push(format!("{name}: rule `{}` comes twice", document.rule.name));
                    }
                    all.push(document);
                }
            }
            Err(more) => wrong.extend(more),
        }
    }
    if wrong.is_empty() {
        Ok(all)
    } else {
        Err(Refused::failed(wrong.join("\n"))
            .hint("nothing was changed")
            .into())
    }
}

/// A file's text, or stdin's for `-`.
pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.context("read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("read `{}`", file.display()))
}
