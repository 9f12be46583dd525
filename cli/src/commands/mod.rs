//! What `telltale` can do, one module for each verb or noun.
//!
//! A command is a clap struct with an async `run`, which finds its own context; data goes to stdout, talk to
//! stderr, and the answer is an exit code.
pub mod courier;
pub mod exit;
pub mod new_worker;
pub mod output;
pub mod replay;
pub mod simulate;

use std::process::ExitCode;

/// The commands that are not about the stack itself; `main` flattens them beside `up`, `down` and the rest.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    NewWorker(new_worker::NewWorker),
}

impl Command {
    /// Carries it out. An error has been told to the user when this returns.
    pub async fn run(self) -> ExitCode {
        let done = match self {
            Self::NewWorker(command) => command.run(),
        };
        done.unwrap_or_else(|error| exit::report(&error))
    }
}
