//! A nats-server of our own: loopback, and users known by their keys.
use crate::{
    stack::Sync,
    supervise::{Probe, Spec},
};
use rustix::process::Signal;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// What makes an instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// nats-server itself.
    pub program: PathBuf,
    /// Where its configuration is, and its data in `jetstream/`.
    pub home: PathBuf,
    pub port: u16,
}

impl Instance {
    /// Its configuration; `users.conf` is beside it.
    pub fn configuration(&self) -> PathBuf {
        self.home.join("nats-server.conf")
    }

    /// Writes its configuration.
    pub fn configure(&self, sync: Sync) -> io::Result<()> {
        let sync = match sync {
            Sync::Always => "sync_interval: always",
            Sync::Default => "",
        };
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: local\njetstream {{ store_dir: {:?}, {sync} }}\n",
            self.port,
            data(&self.home),
        );
        crate::envfile::write_private(&self.configuration(), &text)
    }

    /// How the supervisor keeps it running.
    pub fn spec(&self) -> Spec {
        Spec {
            name: "nats".to_owned(),
            program: self.program.clone(),
            args: vec!["--config".into(), self.configuration().into()],
            env: vec![],
            folder: self.home.clone(),
            user: None,
            stop: Signal::TERM,
            grace: Duration::from_secs(15),
            probe: Probe::Greets(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))),
        }
    }

    /// How clients get in.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// Where JetStream keeps its data.
pub fn data(home: &Path) -> PathBuf {
    home.join("jetstream")
}
