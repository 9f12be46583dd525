//! A nats-server of our own: loopback, and users known by their keys.
use crate::supervise::{Probe, Spec};
use rustix::process::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// What makes an instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// nats-server itself.
    pub program: PathBuf,
    /// Where it runs.
    pub home: PathBuf,
    pub configuration: PathBuf,
    pub port: u16,
}

impl Instance {
    /// How the supervisor keeps it running.
    pub fn spec(&self) -> Spec {
        Spec {
            name: "nats".to_owned(),
            program: self.program.clone(),
            args: vec!["--config".into(), self.configuration.clone().into()],
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
