//! Faults on purpose, under load, on a stack of its own; and what must hold all the same.
mod load;
pub mod mixed;
mod observe;
pub mod points;
pub mod poison;

pub use telltale_checker::{ledger::Class, oracle::Violation};

use super::exit::{self, Refused};
use crate::{context::Context, find::Say};
use anyhow::bail;
use futures::TryStreamExt as _;
use std::{io::Write as _, process::ExitCode, time::Duration};
use telltale_nats::{Topology, async_nats::Client, client};
use tokio::time::{Instant, sleep};

/// All work that is left must be done in this time.
const RESTS_WITHIN: Duration = Duration::from_secs(150);

/// Microseconds since the Unix epoch.
fn now_us() -> u64 {
    u64::try_from(telltale_schemas::Timestamp::now().as_micros()).unwrap_or_default()
}

const EXAMPLES: &str = "Examples:
  telltale chaos --profile chaos --seed 7       # eight minutes of all faults, 2 000 readings a second
  telltale chaos --profile chaos --faults network,F16 --minutes 3 --report report.json
  telltale chaos --profile points               # 100 kills at each of eight points
  telltale chaos --profile points --times 3     # a quick look
  telltale chaos --profile poison --burst       # 2 000 readings that always fail, before 50 000 good ones";

/// Which faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// A minute with some faults of all kinds
    Smoke,
    /// Eight minutes with all of them: kills, freezes, wires cut or slow, full streams, wrong clocks, bursts
    Chaos,
    /// Twenty minutes of them, each five times as long
    Outage,
    /// An hour of them
    Long,
    /// Workers killed before and after each publish, commit, acknowledgement and quarantine; a debug build alone
    Points,
    /// Readings for which a handler always fails, 4 in 100; how long the good ones take, without and with
    Poison,
    /// Handlers that panic for 1 reading in 100 and hang for 1 in 1 000
    Handlers,
}

/// Break things on purpose, under load, and see whether anything is lost or doubled
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Chaos {
    /// Which faults
    #[arg(long, value_enum)]
    profile: Profile,
    /// How often each fault happens [default: 100 kills at each point, 2000 readings that fail, 500 panics]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    times: Option<u32>,
    /// Readings offered in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// All that is poison comes first and at once
    #[arg(long)]
    burst: bool,
    #[command(flatten)]
    mixed: mixed::Args,
}

impl Profile {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Chaos => "chaos",
            Self::Outage => "outage",
            Self::Long => "long",
            Self::Points => "points",
            Self::Poison => "poison",
            Self::Handlers => "handlers",
        }
    }

    /// Whether its faults are built into the processes.
    fn needs_debug_build(self) -> bool {
        matches!(self, Self::Points | Self::Poison | Self::Handlers)
    }
}

impl Chaos {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.profile.needs_debug_build() && !cfg!(debug_assertions) {
            return Err(Refused::precondition("these faults exist in debug builds alone")
                .hint("in a checkout: cargo telltale chaos --profile points")
                .into());
        }
        let say = Say::new(|line| eprintln!("{line}"));
        let (text, holds) = match self.profile {
            Profile::Smoke | Profile::Chaos | Profile::Outage | Profile::Long => {
                let report = self.mixed.run(self.profile, self.rate, say).await?;
                (report.to_string(), report.holds())
            }
            Profile::Points => {
                let usual = points::Options::default();
                let report = points::run(points::Options {
                    rounds: self.times.unwrap_or(usual.rounds),
                    rate: self.rate.unwrap_or(usual.rate),
                    say,
                    ..usual
                });
                let report = report.await?;
                (report.to_string(), report.holds())
            }
            Profile::Poison | Profile::Handlers => {
                let report = poison::run(self.poison(say)).await?;
                (report.to_string(), report.holds())
            }
        };
        write!(std::io::stdout().lock(), "{text}")?;
        Ok(if holds {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::FAILED)
        })
    }

    fn poison(&self, say: Say) -> poison::Options {
        let usual = poison::Options {
            say,
            burst: self.burst,
            ..poison::Options::default()
        };
        let rate = self.rate.unwrap_or(usual.rate);
        if self.profile == Profile::Handlers {
            let times = u64::from(self.times.unwrap_or(500));
            return poison::Options {
                good: 100 * times,
                stage: "annotate",
                fails: 0,
                panics: times,
                hangs: times.div_ceil(10),
                rate,
                ..usual
            };
        }
        let fails = self.times.map_or(usual.fails, u64::from);
        poison::Options {
            good: 25 * fails,
            fails,
            rate,
            ..usual
        }
    }
}

/// Waits until no durable has anything left.
async fn rest(context: &Context, nats: &Client) -> anyhow::Result<()> {
    let js = client::context(nats.clone());
    let end = Instant::now() + RESTS_WITHIN;
    let mut quiet = 0;
    loop {
        let mut left = Vec::new();
        for stream in Topology::of(&context.site).streams {
            let mut consumers = js.get_stream(&stream.name).await?.consumers();
            while let Some(info) = consumers.try_next().await? {
                let count = info.num_pending + info.num_ack_pending as u64;
                if count > 0 {
                    left.push(format!("{count} for {} on {}", info.name, stream.name));
                }
            }
        }
        // One stage's last acknowledgement and the next one's first message are not seen at one moment.
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(());
        }
        if Instant::now() > end {
            bail!(
                "not at rest after {} s: {}",
                RESTS_WITHIN.as_secs(),
                left.join(", ")
            );
        }
        sleep(Duration::from_millis(200)).await;
    }
}
