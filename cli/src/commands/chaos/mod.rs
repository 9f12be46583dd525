//! Faults on purpose, under load, on a stack of its own; and what must hold all the same.
pub mod points;

use super::exit::{self, Refused};
use crate::find::Say;
use std::{io::Write as _, process::ExitCode};

const EXAMPLES: &str = "Examples:
  telltale chaos --profile points               # 100 kills at each of eight points
  telltale chaos --profile points --times 3     # a quick look";

/// Which faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Workers killed before and after each publish, commit, acknowledgement and quarantine; a debug build alone
    Points,
}

/// Break things on purpose, under load, and see whether anything is lost or doubled
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Chaos {
    /// Which faults
    #[arg(long, value_enum)]
    profile: Profile,
    /// How often each fault happens
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
}

impl Chaos {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if !cfg!(debug_assertions) {
            return Err(Refused::precondition("the points exist in debug builds alone")
                .hint("in a checkout: cargo telltale chaos --profile points")
                .into());
        }
        let say = Say::new(|line| eprintln!("{line}"));
        let options = points::Options {
            rounds: self.times,
            say: say.clone(),
            ..points::Options::default()
        };
        let report = points::run(options).await?;
        write!(std::io::stdout().lock(), "{report}")?;
        Ok(if report.holds() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::FAILED)
        })
    }
}
