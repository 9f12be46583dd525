//! `telltale command`: tells things to do something, and looks at what becomes of that.
mod cancel;
mod list;
mod send;
mod watch;

use crate::context::Context;
use std::process::ExitCode;

/// Commands: what things are told to do, and what became of it
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tell a thing to do something, or set one of its properties; prints the command's id
    #[command(after_help = send::EXAMPLES)]
    Send(send::Send),
    /// Watch how far commands come, from now on
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::Watch),
    /// Take a command back that was not sent to its device yet
    #[command(after_help = cancel::EXAMPLES)]
    Cancel(cancel::Cancel),
    /// List commands, the newest first, and how far they are
    #[command(visible_alias = "ls", after_help = list::EXAMPLES)]
    List(list::List),
}

impl Command {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        match self {
            Self::Send(command) => command.run(&ctx).await,
            Self::Watch(command) => command.run(&ctx).await,
            Self::Cancel(command) => command.run(&ctx).await,
            Self::List(command) => command.run(&ctx).await,
        }
    }
}
