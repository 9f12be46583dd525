//! `telltale worker`: what runs here, and what a worker says to a message.
use super::{
    exit::{self, Refused},
    output::Output,
    programs,
};
use crate::{context::Context, control, stack::WORKERS};
use anyhow::Context as _;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

const LIST_EXAMPLES: &str = "Examples:
  telltale worker list
  telltale worker ls -o json";
const TEST_EXAMPLES: &str = "Examples:
  telltale worker test validate --things things.json < in.ndjson
  telltale worker test over-limit --expect out.ndjson < in.ndjson";

/// Workers: which there are, and what they do with a message
#[derive(Debug, clap::Subcommand)]
pub enum Worker {
    /// List our own workers and the admitted ones
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Give a worker messages from stdin, without a broker, and print what it answers
    #[command(after_help = TEST_EXAMPLES)]
    Test {
        /// Its name, or the path of its program
        name: String,
        /// Entries of the bucket `things` that it is to know
        #[arg(long, value_name = "FILE")]
        things: Option<PathBuf>,
        /// The answers that it should give; prints how they differ
        #[arg(long, value_name = "FILE")]
        expect: Option<PathBuf>,
        /// Arguments of its own
        #[arg(last = true)]
        args: Vec<String>,
    },
}

impl Worker {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        match self {
            Self::List { output } => list(&ctx, &output),
            Self::Test {
                name,
                things,
                expect,
                args,
            } => test(&ctx, &name, things.as_deref(), expect.as_deref(), &args),
        }
    }
}

fn list(ctx: &Context, output: &Output) -> anyhow::Result<ExitCode> {
    let layout = programs::layout(ctx.folder.as_deref());
    let supervisor = layout
        .as_ref()
        .and_then(|layout| control::Client::connect(layout).ok());
    let status = supervisor.map(|mut supervisor| supervisor.status()).transpose()?;
    let processes = status.map(|status| status.processes).unwrap_or_default();
    let mut rows = output.rows([
        "worker", "kind", "inputs", "outputs", "phase", "pid", "restarts", "command",
    ]);
    let mut row = |name: &str, manifest: Option<&telltale_nats::Manifest>, kind: &str, command: &str| {
        let process = processes.iter().find(|process| process.name == name);
        let lanes = |lanes: Option<&Vec<telltale_nats::Lane>>| {
            let words: Vec<&str> = lanes.into_iter().flatten().map(|lane| lane.word()).collect();
            Value::from(words.join(" "))
        };
        rows.row(vec![
            name.into(),
            kind.into(),
            lanes(manifest.map(|manifest| &manifest.inputs)),
            lanes(manifest.map(|manifest| &manifest.outputs)),
            process
                .map(|process| format!("{:?}", process.phase).to_lowercase())
                .into(),
            process.and_then(|process| process.pid).into(),
            process.map(|process| process.restarts).into(),
            command.into(),
        ])
    };
    let manifests = programs::built_in().unwrap_or_default();
    for name in WORKERS {
        row(
            name,
            manifests.iter().find(|manifest| manifest.name == name),
            "built-in",
            "",
        )?;
    }
    for extension in layout
        .as_ref()
        .map(programs::admitted)
        .transpose()?
        .unwrap_or_default()
    {
        row(
            extension.name(),
            Some(&extension.manifest),
            "admitted",
            &extension.command.join(" "),
        )?;
    }
    rows.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn test(
    ctx: &Context,
    name: &str,
    things: Option<&Path>,
    expect: Option<&Path>,
    args: &[String],
) -> anyhow::Result<ExitCode> {
    let layout = programs::layout(ctx.folder.as_deref());
    let command = programs::command(name, layout.as_ref())?;
    let (program, own) = command
        .split_first()
        .context("an admitted worker has a command")?;
    let mut worker = Command::new(program);
    worker.args(own).arg("--offline").args(args);
    if let Some(things) = things {
        worker.arg("--things").arg(things);
    }
    let Some(expect) = expect else {
        let status = worker.status().with_context(|| format!("run `{program}`"))?;
        return Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::FAILED)
        });
    };
    let expected = std::fs::read_to_string(expect).with_context(|| format!("read `{}`", expect.display()))?;
    let mut running = worker
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run `{program}`"))?;
    let answers = running.stdout.take().context("its answers are piped")?;
    let answers: Vec<String> = BufReader::new(answers)
        .lines()
        .collect::<Result<_, _>>()
        .context("read its answers")?;
    if !running.wait().context("wait for the worker")?.success() {
        return Err(Refused::failed(format!("`{program}` failed")).into());
    }
    let differences = differences(&expected, &answers);
    let mut out = std::io::stdout().lock();
    for line in &differences {
        writeln!(out, "{line}")?;
    }
    writeln!(
        std::io::stderr().lock(),
        "{} answers, {} lines differ",
        answers.len(),
        differences.len()
    )?;
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    })
}

/// Line by line, as JSON: neither blanks nor the order of members count. `-` was expected, `+` came.
fn differences(expected: &str, answers: &[String]) -> Vec<String> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| line.into());
    let expected: Vec<&str> = expected.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut lines = Vec::new();
    for at in 0..expected.len().max(answers.len()) {
        let (wanted, came) = (expected.get(at), answers.get(at));
        if wanted.map(|line| parse(line)) != came.map(|line| parse(line)) {
            lines.extend(wanted.map(|line| format!("-{} {line}", at + 1)));
            lines.extend(came.map(|line| format!("+{} {line}", at + 1)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_json() {
        let answers = [
            "{\"a\":1,\"b\":2}".to_owned(),
            "{\"c\":3}".to_owned(),
            "{}".to_owned(),
        ];
        assert_eq!(
            differences("{\"b\": 2, \"a\": 1}\n\n{\"c\":3}\n{}\n", &answers),
            Vec::<String>::new()
        );
        assert_eq!(
            differences("{\"a\":1,\"b\":2}\n{\"c\":4}\n", &answers),
            ["-2 {\"c\":4}", "+2 {\"c\":3}", "+3 {}"]
        );
    }
}
