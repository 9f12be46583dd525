//! The command line.
use crate::{commands, commands::exit, help, up};
use clap::Parser as _;
use std::process::ExitCode;

/// An event pipeline for things, around NATS and PostgreSQL
#[derive(Debug, clap::Parser)]
#[command(
    name = "telltale",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(after_help = "\
Examples:
  telltale up                          # everything on this machine
  telltale status                      # is it well?
  telltale sql \"select * from latest\"  # what do we know?

Topics: telltale help environment|exit-codes|subjects|sql

Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 something needed is not there, 4 not authorised,
10 unhealthy, 130 interrupted.")]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Up(Box<up::Up>),
    Down(up::Down),
    Start(up::Start),
    Stop(up::Stop),
    Restart(up::Restart),
    Logs(up::Logs),
    Help(help::Help),
    #[command(flatten)]
    Other(commands::Command),
}

/// Parses the command line, carries it out, and says how to end.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
            return if error.print().is_ok() {
                ExitCode::from(code)
            } else {
                ExitCode::from(exit::FAILED)
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into()),
    };
    let code = runtime.block_on(run(cli.verb));
    // A build that was interrupted may still occupy a thread; nobody waits for it.
    runtime.shutdown_background();
    code
}

async fn run(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Up(command) => command.run().await,
        Verb::Down(command) => command.run(),
        Verb::Start(command) => command.run(),
        Verb::Stop(command) => command.run(),
        Verb::Restart(command) => command.run(),
        Verb::Logs(command) => command.run().await,
        Verb::Help(command) => command.run(),
        Verb::Other(command) => return command.run().await,
    };
    done.unwrap_or_else(|error| exit::report(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_two_examples_that_parse() {
        let mut leaves = Vec::new();
        collect(Cli::command(), &mut leaves);
        for leaf in leaves {
            let name = leaf.get_name().to_owned();
            assert!(leaf.get_about().is_some(), "{name} does not say what it does");
            let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{name} shows no examples");
            let examples: Vec<_> = help.lines().filter_map(example).collect();
            assert!(examples.len() >= 2, "{name} shows fewer than two examples");
            for example in examples {
                let words = words(example);
                let parsed = Cli::try_parse_from(["telltale".to_owned()].into_iter().chain(words));
                assert!(parsed.is_ok(), "telltale {example}: {}", parsed.unwrap_err());
            }
        }
    }

    fn collect(command: clap::Command, leaves: &mut Vec<clap::Command>) {
        let below: Vec<_> = command.get_subcommands().cloned().collect();
        if below.is_empty() {
            leaves.push(command);
        }
        for command in below {
            collect(command, leaves);
        }
    }

    /// What follows `telltale` on a line of its own or behind a pipe.
    fn example(line: &str) -> Option<&str> {
        line.strip_prefix("  telltale ")
            .or_else(|| Some(line.split_once("| telltale ")?.1))
    }

    /// What a shell would pass: quotes are taken off, and what comes behind `#`, `<`, `|` or `>` is not ours.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (None, '#' | '<' | '|' | '>' | ';') => break,
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (None, ' ') => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
