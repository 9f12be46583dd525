//! Bridge and workers as processes: their programs, what each is told, and how they end.
use super::{Extension, Layout, Link, Port, Server, build};
use crate::supervise::{Probe, Spec};
use anyhow::Context as _;
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use telltale_nats::{Name, rights};

/// Through whom a reading becomes a row, in order.
pub const ROAD: [&str; 3] = ["validate", "annotate", "store"];
/// All workers of ours: those, and then the others.
pub const WORKERS: [&str; 5] = ["validate", "annotate", "store", "process", "actuate"];
/// The process that devices speak to.
pub const BRIDGE: &str = "bridge";
/// The process that people and programs ask.
pub const GATEWAY: &str = rights::GATEWAY;
/// The process that plays devices.
pub const SIMULATOR: &str = "simulate";

/// A worker drains for ten seconds; then it is late.
const GRACE: Duration = Duration::from_secs(15);

/// What every process of a stack is told.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) layout: &'a Layout,
    pub(super) site: &'a Name,
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) more: &'a [(String, String)],
    pub(super) links: &'a [Link],
}

impl Surroundings<'_> {
    fn value(&self, name: &str) -> anyhow::Result<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no {name} yet"))
    }

    /// How the process `name` gets to a server, the straight way to which is that value.
    fn way(&self, name: &str, server: Server, value: &str) -> anyhow::Result<String> {
        let straight = self.value(value)?;
        let links = self.links.iter();
        let mut own = links.filter(|link| link.process == name && link.server == server);
        Ok(own
            .next()
            .map_or_else(|| straight.to_owned(), |link| through(straight, link.via)))
    }

    /// Of the process `name` with the rights of `user`.
    fn spec(&self, name: &str, user: &str, program: PathBuf) -> anyhow::Result<(Spec, SocketAddr)> {
        let health = SocketAddr::from((Ipv4Addr::LOCALHOST, Port::Free.choose("--ports")?));
        let seed = self.layout.seed(user).to_string_lossy().into_owned();
        let key = self.layout.seal_key().to_string_lossy().into_owned();
        let mut env = vec![
            ("TELLTALE_SITE".to_owned(), self.site.plain().to_owned()),
            (
                "TELLTALE_NATS_URL".to_owned(),
                self.way(name, Server::Nats, "NATS_URL")?,
            ),
            ("TELLTALE_NATS_SEED_FILE".to_owned(), seed),
            ("TELLTALE_HEALTH_LISTEN".to_owned(), health.to_string()),
            // Its log is a file that a person will read.
            ("TELLTALE_LOG_FORMAT".to_owned(), "compact".to_owned()),
        ];
        let mut tell = |name: &str, value: String| env.push((name.to_owned(), value));
        match user {
            BRIDGE => {
                tell("TELLTALE_HTTP_LISTEN", address(self.value("BRIDGE_URL")?));
                tell("TELLTALE_MQTT_LISTEN", address(self.value("MQTT_URL")?));
                tell("TELLTALE_SEAL_KEY_FILE", key);
            }
            GATEWAY => {
                tell("TELLTALE_GATEWAY_LISTEN", address(self.value("GATEWAY_URL")?));
                tell("TELLTALE_MQTT_URL", self.value("MQTT_URL")?.to_owned());
                tell("TELLTALE_NATS_PUBLIC_URL", self.value("NATS_URL")?.to_owned());
                for (told, value) in [
                    ("TELLTALE_DATABASE_URL", "DATABASE_URL"),
                    ("TELLTALE_QUERY_DATABASE_URL", "QUERY_DATABASE_URL"),
                ] {
                    tell(told, self.way(name, Server::Database, value)?);
                }
            }
            "validate" => tell("TELLTALE_SEAL_KEY_FILE", key),
            "store" => tell(
                "TELLTALE_DATABASE_URL",
                self.way(name, Server::Database, "DATABASE_ADMIN_URL")?,
            ),
            _ => {}
        }
        env.extend(self.more.iter().cloned());
        let spec = Spec {
            name: name.to_owned(),
            program,
            args: vec![],
            env,
            folder: self.layout.dir().to_owned(),
            user: None,
            stop: Signal::TERM,
            grace: GRACE,
            probe: Probe::Http(health),
        };
        Ok((spec, health))
    }

    /// A process of ours; `name` may be that of a copy.
    pub(super) fn own(&self, name: &str, kind: &str, programs: &Path) -> anyhow::Result<Spec> {
        self.copy(name, kind, build::program(programs, &format!("telltale-{kind}"))?)
    }

    /// The same from a given program.
    pub(super) fn copy(&self, name: &str, kind: &str, program: PathBuf) -> anyhow::Result<Spec> {
        Ok(self.spec(name, kind, program)?.0)
    }

    /// An admitted worker. Whether it tells of its health is its own affair.
    pub(super) fn extension(&self, extension: &Extension) -> anyhow::Result<Spec> {
        let name = extension.name();
        let program = extension.command.first().with_context(|| {
            format!("`{name}` was admitted by its manifest alone; only you know how to start it")
        })?;
        let (mut spec, _) = self.spec(name, name, program.into())?;
        spec.args = extension.command.iter().skip(1).map(Into::into).collect();
        let seed = self.layout.seed(name).to_string_lossy().into_owned();
        // The names that clients in other languages know.
        spec.env.extend([
            ("NATS_URL".to_owned(), self.way(name, Server::Nats, "NATS_URL")?),
            ("NATS_NKEY_SEED_FILE".to_owned(), seed),
        ]);
        spec.env.extend(
            extension
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        spec.probe = Probe::Alive;
        Ok(spec)
    }

    /// The simulator, which is a command of ours and knows of the stack what `.telltale/env` says.
    pub(super) fn simulator(&self, telltale: PathBuf, args: &[String]) -> Spec {
        Spec {
            name: SIMULATOR.to_owned(),
            program: telltale,
            args: args.iter().map(Into::into).collect(),
            env: self
                .values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            folder: self.layout.dir().to_owned(),
            user: None,
            stop: Signal::TERM,
            grace: GRACE,
            probe: Probe::Alive,
        }
    }
}

/// Host and port of a URL of ours.
fn address(url: &str) -> String {
    url.split_once("://")
        .map_or(url, |(_, address)| address)
        .to_owned()
}

/// The same URL with another address.
fn through(url: &str, via: SocketAddr) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(begin);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, _) = authority.split_at(user);
    format!("{scheme}{user}{via}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_way_leaves_all_but_the_address() {
        let via = SocketAddr::from(([127, 0, 0, 1], 9));
        for (url, expected) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:9"),
            (
                "postgresql://telltale:a@localhost:5432/telltale?x=/",
                "postgresql://telltale:a@127.0.0.1:9/telltale?x=/",
            ),
        ] {
            assert_eq!(through(url, via), expected);
        }
    }
}
