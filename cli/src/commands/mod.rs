//! What `telltale` can do, one module for each verb or noun.
//!
//! A command is a clap struct with an async `run`, which finds its own context; data goes to stdout, talk to
//! stderr, and the answer is an exit code.
pub mod admit;
pub mod chaos;
pub mod command;
pub mod consent;
pub mod courier;
pub mod exit;
pub mod init;
pub mod interrupt;
pub mod names;
pub mod new_worker;
pub mod output;
pub mod pool;
pub mod probe;
pub mod programs;
pub mod progress;
pub mod provision;
pub mod quarantine;
pub mod reach;
pub mod replay;
pub mod rule;
pub mod seek;
pub mod send;
pub mod simulate;
pub mod sql;
pub mod status;
pub mod tap;
pub mod thing;
pub mod token;
pub mod trace;
pub mod worker;

use std::process::ExitCode;

/// The commands that are not about the stack itself; `main` flattens them beside `up`, `down` and the rest.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Status(status::Status),
    Init(init::Init),
    Provision(provision::Provision),
    Probe(probe::Probe),
    Admit(admit::Admit),
    #[command(subcommand)]
    Worker(worker::Worker),
    #[command(subcommand)]
    Thing(thing::Thing),
    #[command(subcommand)]
    Command(command::Command),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Rule(rule::RuleCommand),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    Tap(tap::Tap),
    Trace(trace::Trace),
    Send(send::Send),
    Simulate(simulate::Simulate),
    Replay(replay::Replay),
    Sql(sql::Sql),
    NewWorker(new_worker::NewWorker),
    Chaos(chaos::Chaos),
}

impl Command {
    /// Carries it out. An error has been told to the user when this returns.
    pub async fn run(self) -> ExitCode {
        let done = match self {
            Self::Status(command) => command.run().await,
            Self::Init(command) => command.run(),
            Self::Provision(command) => command.run().await,
            Self::Probe(command) => command.run().await,
            Self::Admit(command) => command.run().await,
            Self::Worker(command) => command.run(),
            Self::Thing(command) => command.run().await,
            Self::Command(command) => command.run().await,
            Self::Token(command) => command.run().await,
            Self::Rule(command) => command.run().await,
            Self::Quarantine(command) => command.run().await,
            Self::Tap(command) => command.run().await,
            Self::Trace(command) => command.run().await,
            Self::Send(command) => command.run().await,
            Self::Simulate(command) => command.run().await,
            Self::Replay(command) => command.run().await,
            Self::Sql(command) => command.run().await,
            Self::NewWorker(command) => command.run(),
            Self::Chaos(command) => command.run().await,
        };
        done.unwrap_or_else(|error| exit::report(&error))
    }
}
