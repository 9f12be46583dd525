//! What a stack consists of.
use super::{Build, Port};
use crate::find::{Say, ServerArgs};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use telltale_nats::manifest::Manifest;

/// When JetStream writes to disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sync {
    /// Before it acknowledges: accepted means on disk
    #[default]
    Always,
    /// Every two minutes: a power cut loses what was accepted since
    Default,
}

/// The ports of the listeners that people use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    pub nats: Port,
    pub database: Port,
    pub bridge: Port,
    pub mqtt: Port,
    pub gateway: Port,
}

impl Ports {
    /// Free ones, whatever they are.
    pub const FREE: Self = Self {
        nats: Port::Free,
        database: Port::Free,
        bridge: Port::Free,
        mqtt: Port::Free,
        gateway: Port::Free,
    };
}

/// What a process connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    Nats,
    Database,
}

/// A way of one process to a server that is not the straight one: over a proxy that spoils it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The process, by the name that the supervisor knows.
    pub process: String,
    pub server: Server,
    /// Where it connects instead.
    pub via: SocketAddr,
}

/// What a stack consists of. The default is what a test wants: a folder of its own, removed in the end, free ports,
/// and everything running.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where `.telltale` is; none: a folder of its own, removed in the end.
    pub dir: Option<PathBuf>,
    pub site: String,
    pub ports: Ports,
    /// Whether bridge, workers and gateway are started, or the servers alone.
    pub workers: bool,
    pub sync: Sync,
    pub servers: ServerArgs,
    /// Which build of them runs.
    pub build: Build,
    /// Whether cargo's progress is shown while they are built.
    pub show_build: bool,
    /// More workers to let in and to provision for; the caller starts them.
    pub manifests: Vec<Manifest>,
    /// How long the broker waits for an acknowledgement, instead of what the workers' manifests say.
    pub ack_wait: Option<Duration>,
    /// More variables for bridge, workers and gateway.
    pub env: Vec<(String, String)>,
    /// Processes that reach a server another way. All others, and we ourselves, go straight.
    pub links: Vec<Link>,
    pub say: Say,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            dir: None,
            site: "local".to_owned(),
            ports: Ports::FREE,
            workers: true,
            sync: Sync::Always,
            servers: ServerArgs::from_environment().unwrap_or_default(),
            build: Build::Own,
            show_build: false,
            manifests: vec![],
            ack_wait: None,
            env: vec![],
            links: vec![],
            say: Say::nothing(),
        }
    }
}
