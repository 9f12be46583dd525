//! `telltale init`: the files of a stack that others start.
use super::programs;
use crate::stack::{Elsewhere, Layout, Sync};
use anyhow::Context as _;
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};
use telltale_nats::Name;

const EXAMPLES: &str = "Examples:
  telltale init
  telltale init --dir /etc/telltale --nats-data /var/lib/nats --database db.example:5432

It writes keys, passwords, nats-server.conf and .telltale/env; called again, it keeps the secrets that are there. Then
start nats-server with .telltale/nats/nats-server.conf and PostgreSQL with the user `telltale` and the password in
.telltale/database/password, and call `telltale provision --migrate`.";

/// Write what a stack needs whose servers run elsewhere: keys, passwords, the broker's configuration
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// The folder in which `.telltale` is made
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// The name of the site
    #[arg(long, env = "TELLTALE_SITE", default_value = "local")]
    site: String,
    /// Where nats-server shall listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4222")]
    nats_listen: SocketAddr,
    /// Where nats-server shall tell of its health; nowhere by default
    #[arg(long, value_name = "IP:PORT")]
    nats_monitor: Option<SocketAddr>,
    /// Where nats-server shall keep its streams [default: beside its configuration]
    #[arg(long, value_name = "FOLDER")]
    nats_data: Option<PathBuf>,
    /// When accepted messages are written to disk
    #[arg(long, value_enum, default_value_t)]
    sync: Sync,
    /// Where nats-server will be reached
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats_url: String,
    /// Where PostgreSQL will be reached
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5432", value_parser = address)]
    database: String,
    /// Where the bridge will be reached
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    bridge_url: String,
    /// Where the bridge will be reached for MQTT
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    mqtt_url: String,
    /// Where the gateway will be reached
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    gateway_url: String,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let built_in = programs::built_in()?;
        let site = Name::new(self.site.as_str()).with_context(|| format!("read the site `{}`", self.site))?;
        let stack = Elsewhere {
            site,
            nats_listen: self.nats_listen,
            nats_monitor: self.nats_monitor,
            nats_data: self.nats_data,
            sync: self.sync,
            nats_url: self.nats_url,
            database: self.database,
            bridge_url: self.bridge_url,
            mqtt_url: self.mqtt_url,
            gateway_url: self.gateway_url,
        };
        let layout = stack.write(&self.dir, &built_in)?;
        tell(&layout)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(layout: &Layout) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut line = |path: &Path| writeln!(out, "{}", path.display());
    line(&layout.env())?;
    line(&layout.nats_configuration())?;
    line(&layout.database_password())?;
    writeln!(
        std::io::stderr().lock(),
        "next: start nats-server and PostgreSQL, then `telltale provision --migrate`"
    )
}

/// `HOST:PORT`.
fn address(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains('/'))
        .and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| text.to_owned())
        .ok_or_else(|| "not HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["postgres:5432", "127.0.0.1:1", "[::1]:5432"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in [
            "postgres",
            ":5432",
            "postgres:",
            "postgres:x",
            "postgresql://h:5432",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
