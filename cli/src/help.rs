//! `telltale help`: of a command, or on a topic that belongs to none. Topics are sections of docs/OPERATING.md, so that
//! there is one text.
use crate::{commands::exit::Refused, control::nearest, tree::Cli};
use clap::CommandFactory as _;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};
use telltale_nats::Lane;

const OPERATING: &str = include_str!("../../docs/OPERATING.md");

/// Tell more about a command, or about the environment, exit codes, subjects or SQL
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  telltale help exit-codes
  telltale help thing put

Topics: environment, exit-codes, subjects, sql.")]
pub struct Help {
    /// A command with what is below it, or a topic
    #[arg(value_name = "COMMAND|TOPIC")]
    words: Vec<String>,
}

/// What can be told that belongs to no command.
const TOPICS: [&str; 4] = ["environment", "exit-codes", "subjects", "sql"];

impl Help {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let text = match self.words.as_slice() {
            [word] if TOPICS.contains(&word.as_str()) => topic(word),
            words => of_command(words)?,
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn of_command(words: &[String]) -> Result<String, Refused> {
    let mut at = Cli::command();
    at.build();
    for word in words {
        let Some(below) = at.find_subcommand(word).cloned() else {
            let known = at.get_subcommands().map(clap::Command::get_name).chain(TOPICS);
            let refused = Refused::usage(format!("there is no help on `{}`", words.join(" ")));
            return Err(match nearest(word, known) {
                Some(near) => refused.hint(format!("did you mean `{near}`?")),
                None => refused.hint(format!("topics are {}", TOPICS.join(", "))),
            });
        };
        at = below;
    }
    Ok(at.render_long_help().to_string())
}

fn topic(name: &str) -> String {
    match name {
        "environment" => plain(between("Commands take these from the environment", "\n## ")),
        "exit-codes" => plain(between("## Exit codes\n", "\n## ")),
        "sql" => plain(between("## SQL\n", "\n## ")),
        _ => format!(
            "{}\n{}",
            lanes(),
            plain(between("## Streams and retention\n", "\n## "))
        ),
    }
}

/// The lanes with the shape of their subjects.
fn lanes() -> String {
    let mut text = "Subjects, by lane. A token is letters, digits, _ and -; of any other character each byte is =XX.\n\n".to_owned();
    for lane in Lane::ALL {
        let name = if lane.has_name() { ".<name>" } else { "" };
        let subject = format!("{lane}.<site>.<thing>{name}");
        writeln!(text, "  {subject:<36} stream {}", lane.stream()).expect("a String takes what is written");
    }
    text
}

/// From the first place of `begin`, heading or not, to the next one of `end`; without a heading.
fn between(begin: &str, end: &str) -> &'static str {
    let from = OPERATING.find(begin).and_then(|at| OPERATING.get(at..));
    let section = from.and_then(|from| from.split(end).next()).unwrap_or_default();
    match section.split_once('\n') {
        Some((heading, rest)) if heading.starts_with("## ") => rest.trim(),
        _ => section.trim(),
    }
}

/// Markdown as one reads it on a terminal: tables in columns, no quotes around code.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut table: Vec<Vec<String>> = Vec::new();
    for line in markdown.lines().chain([""]) {
        match line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) {
            Some(rule) if rule.bytes().all(|byte| b"|- :".contains(&byte)) => {}
            Some(row) => table.push(cells(row)),
            None => {
                text.push_str(&columns(&table));
                table.clear();
                text.push_str(&line.replace('`', ""));
                text.push('\n');
            }
        }
    }
    text
}

fn cells(row: &str) -> Vec<String> {
    // An escaped bar is no border.
    let row = row.replace("\\|", "\u{1}").replace('`', "");
    row.split('|')
        .map(|cell| cell.trim().replace('\u{1}', "|"))
        .collect()
}

fn columns(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in table {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            write!(line, "  {cell:<width$}", width = width(column)).expect("a String takes what is written");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn each_topic_tells_what_there_is_of_it() {
        for (name, told) in [
            (
                "environment",
                vec!["NATS_URL", "DATABASE_ADMIN_URL", "MQTT_PASSWORD", ".telltale/env"],
            ),
            ("exit-codes", vec!["130   Ctrl-C", "10    unhealthy"]),
            (
                "subjects",
                vec!["annotated.<site>.<thing>", "event.<site>.<thing>.<name>", "RAW"],
            ),
            ("sql", vec!["readings", "latest", "quarantine", "telltale_reader"]),
        ] {
            let text = topic(name);
            for part in told {
                assert!(text.contains(part), "{name} tells of {part}: {text}");
            }
            assert!(
                !text.contains("|--") && !text.contains('`') && !text.contains("## "),
                "{text}"
            );
        }
    }

    #[test]
    fn every_public_view_is_told_of() {
        let text = topic("sql");
        let views = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/views");
        for file in std::fs::read_dir(views).unwrap() {
            let view = file
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            assert!(text.contains(&view), "`help sql` does not tell of {view}: {text}");
        }
    }

    #[test]
    fn a_command_below_another_has_its_help_and_a_slip_is_put_right() {
        let help = of_command(&words("thing put")).unwrap();
        assert!(
            help.contains("telltale thing put") && help.contains("Examples:"),
            "{help}"
        );
        assert!(of_command(&[]).unwrap().contains("Exit codes"));
        let slip = of_command(&words("exit-kodes")).unwrap_err();
        assert!(
            format!("{slip:?}").contains("did you mean `exit-codes`?"),
            "{slip:?}"
        );
    }
}
