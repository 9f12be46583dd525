//! What every process of ours is told, by flag or environment.
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use telltale_nats::{Name, client::Access};

/// Heading of the arguments that are a process's own. Said, or they would stand under that of the last struct.
pub(crate) const OWN: &str = "Its own";

/// What a worker and any other process of ours needs alike.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Where it runs")]
pub(crate) struct ProcessArgs {
    /// The site that this process belongs to.
    #[arg(long, env = "TELLTALE_SITE", default_value = "local", global = true)]
    pub(crate) site: Name,
    /// Where the broker listens.
    #[arg(long, env = "TELLTALE_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub(crate) nats_url: String,
    /// File with the NKEY seed to identify by; without it no identity is shown.
    #[arg(long, env = "TELLTALE_NATS_SEED_FILE", value_name = "FILE")]
    pub(crate) nats_seed_file: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one.
    #[arg(
        long,
        env = "TELLTALE_HEALTH_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0"
    )]
    pub(crate) health_listen: SocketAddr,
    /// What is logged: a level, or `target=level` pairs.
    #[arg(long, env = "TELLTALE_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// How log lines are written, to standard error.
    #[arg(long, env = "TELLTALE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Compact on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Compact,
}

impl ProcessArgs {
    /// The identity to connect with. Reads the seed file anew, so that a rotated key is taken.
    pub(crate) fn access(&self, user: &str) -> Result<Access, telltale_nats::client::SeedError> {
        let seed = self
            .nats_seed_file
            .as_ref()
            .map(telltale_nats::client::read_seed)
            .transpose()?;
        Ok(Access {
            url: self.nats_url.clone(),
            seed,
            user: user.to_owned(),
        })
    }
}

/// What only workers are told.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "How it works")]
pub(crate) struct WorkerArgs {
    /// A message that failed so often is quarantined.
    #[arg(long, env = "TELLTALE_ATTEMPTS_MAX", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts_max: u32,
    /// One message may be handled for so long; it is tried again afterwards.
    #[arg(long, env = "TELLTALE_HANDLE_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    pub(crate) handle_timeout: Option<Duration>,
    /// Pause before the first repetition; it doubles with each further one, up to 30s.
    #[arg(long, env = "TELLTALE_RETRY_FIRST", value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    pub(crate) retry_first: Duration,
    /// What is in hand may take so long to finish when the process is told to stop.
    #[arg(long, env = "TELLTALE_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) drain: Duration,
    /// Print what this worker needs from the broker, and stop.
    #[arg(long)]
    pub(crate) manifest: bool,
    /// Read messages from standard input, one JSON a line, print what would follow, and stop.
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) offline: bool,
    /// Entries of the `things` bucket to use offline: one, an array, or one a line.
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub(crate) things: Option<PathBuf>,
    /// Where a test arms the points at which this process kills itself; in debug builds alone.
    #[cfg(debug_assertions)]
    #[arg(long, env = "TELLTALE_FAULT_DIR", value_name = "FOLDER", hide = true)]
    pub(crate) fault_dir: Option<PathBuf>,
}

/// For arguments that are durations: `500ms`, `30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    telltale_schemas::duration::parse(text)
        .ok_or_else(|| format!("`{text}` is not a duration such as 30s or 500ms"))
}
