//! A proxy in the way of each process to each server.
use crate::stack::{Link, Port, Server, StackOptions, ports};
use anyhow::Context as _;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};
use telltale_checker::proxy::Tcp;

/// The links, by the name that a schedule has for them.
pub(super) const LINKS: [(&str, &str, Server); 5] = [
    ("bridge-nats", "bridge", Server::Nats),
    ("validate-nats", "validate", Server::Nats),
    ("annotate-nats", "annotate", Server::Nats),
    ("store-nats", "store", Server::Nats),
    ("store-postgres", "store", Server::Database),
];

/// The proxies of a stack.
#[derive(Debug)]
pub(super) struct Wires(BTreeMap<&'static str, Tcp>);

impl Wires {
    /// Chooses the servers' ports and lays a wire for each link; the stack is still to be started.
    pub(super) async fn lay(options: &mut StackOptions) -> anyhow::Result<Self> {
        // A database that others use is not to be broken.
        options.servers.database_url = None;
        let nats = reserve(&mut options.ports.nats)?;
        let database = reserve(&mut options.ports.database)?;
        let mut wires = BTreeMap::new();
        for (name, process, server) in LINKS {
            let target = match server {
                Server::Nats => nats,
                Server::Database => database,
            };
            let wire = Tcp::start(target)
                .await
                .with_context(|| format!("lay a wire for {name}"))?;
            options.links.push(Link {
                process: process.to_owned(),
                server,
                via: wire.address(),
            });
            wires.insert(name, wire);
        }
        Ok(Self(wires))
    }

    pub(super) fn get(&self, name: &str) -> anyhow::Result<&Tcp> {
        self.0
            .get(name)
            .with_context(|| format!("no link is called `{name}`"))
    }

    pub(super) fn heal(&self) {
        for wire in self.0.values() {
            wire.heal();
        }
    }
}

/// A free port that the stack will take and nobody else before.
fn reserve(port: &mut Port) -> anyhow::Result<SocketAddr> {
    let number = Port::Free.choose("--ports")?;
    ports::release(number);
    *port = Port::Only(number);
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, number)))
}
