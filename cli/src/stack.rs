//! A whole Telltale on one machine: servers, database, roads, workers and bridge. `telltale up` runs one in front
//! of you; a test runs one of its own.
mod build;
pub mod database;
mod device;
mod elsewhere;
mod extension;
mod layout;
mod options;
mod people;
pub mod ports;
mod processes;
pub mod roads;
mod secrets;
mod start;

pub use build::{Build, cargo, checkout};
pub use device::register as register_devices;
pub use elsewhere::Elsewhere;
pub use extension::Extension;
pub use layout::{Layout, scratch};
pub use options::{Link, Ports, Server, StackOptions, Sync};
pub use people::register as register_administrator;
pub use ports::Port;
pub use processes::{BRIDGE, GATEWAY, ROAD, SIMULATOR, WORKERS};
pub use secrets::Secrets;

use crate::{
    context::Context,
    envfile,
    supervise::{ControlError, Supervisor, Unit},
};
use anyhow::Context as _;
use processes::Surroundings;
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use telltale_nats::{Name, manifest::Manifest};

/// The values of `.telltale/env`, in the order in which they are written.
const VALUES: [&str; 13] = [
    "TELLTALE_SITE",
    "NATS_URL",
    "NATS_NKEY_SEED_FILE",
    "DATABASE_URL",
    "QUERY_DATABASE_URL",
    "DATABASE_ADMIN_URL",
    "BRIDGE_URL",
    "BRIDGE_TOKEN",
    "MQTT_URL",
    "MQTT_USER",
    "MQTT_PASSWORD",
    "GATEWAY_URL",
    "GATEWAY_TOKEN",
];

/// Most copies of one worker.
const COPIES_MAX: usize = 64;

/// A running stack. Dropped, it ends all that it started; [`Stack::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    layout: Layout,
    site: Name,
    options: StackOptions,
    values: BTreeMap<String, String>,
    ports: ports::Memory,
    /// Where the programs of bridge and workers are.
    programs: Option<PathBuf>,
    /// What our own workers need.
    built_in: Vec<Manifest>,
    supervisor: Supervisor,
    /// Held as long as we live: whoever finds it locked knows that a stack runs here.
    _lock: fs::File,
}

impl Stack {
    /// Waits until a process serves.
    pub async fn ready(&self, name: &str, patience: Duration) -> anyhow::Result<()> {
        Ok(self.supervisor.unit(name)?.ready(patience).await?)
    }

    /// A value of `.telltale/env`.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn env(&self, name: &str) -> &str {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("this stack has no {name}"))
    }

    /// All values of `.telltale/env`.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// What a command would be told about this stack.
    pub fn context(&self) -> anyhow::Result<Context> {
        Context::new(Some(self.layout.folder().to_owned()), self.values.clone())
    }

    /// The folder in which the stack was started; `.telltale` is in it.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Where the programs are, if bridge and workers are part of this stack.
    pub fn programs(&self) -> Option<&Path> {
        self.programs.as_deref()
    }

    fn unit(&self, name: &str) -> Result<Arc<Unit>, ControlError> {
        self.supervisor.unit(name)
    }

    /// The id of a process, while it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.unit(name).ok()?.state().pid
    }

    /// How often a process ended by itself and was started again.
    pub fn restarts(&self, name: &str) -> u32 {
        self.unit(name).map_or(0, |unit| unit.state().restarts)
    }

    /// `kill -9`: the supervisor starts it again. Returns the id that was killed.
    pub fn kill(&self, name: &str) -> Result<u32, ControlError> {
        self.supervisor.kill(name)
    }

    /// Stops one process; it stays stopped.
    pub async fn stop_one(&self, name: &str) -> Result<(), ControlError> {
        self.unit(name)?.stop().await;
        Ok(())
    }

    /// Starts one process that was stopped, or a worker admitted since, and waits until it serves.
    pub async fn start_one(&self, name: &str) -> anyhow::Result<()> {
        if self.unit(name).is_err() {
            let extension = Extension::load(&self.layout, name)?;
            let extension = extension.ok_or_else(|| ControlError::Unknown(name.to_owned()))?;
            self.supervisor.start(self.surroundings().extension(&extension)?);
        }
        let unit = self.unit(name)?;
        unit.start();
        Ok(unit.ready(start::PATIENCE).await?)
    }

    /// Ends one process and starts it anew; returns when it serves.
    pub async fn restart_one(&self, name: &str) -> anyhow::Result<()> {
        let unit = self.unit(name)?;
        unit.stop().await;
        self.start_one(name).await
    }

    /// Starts one more copy of a worker, of the bridge or of the gateway, as `NAME-2` and so on, and returns that name when it serves.
    pub async fn start_copy(&self, kind: &str) -> anyhow::Result<String> {
        let programs = self.programs.as_deref().context("this stack has no workers")?;
        self.start_copy_of(kind, build::program(programs, &format!("telltale-{kind}"))?)
            .await
    }

    /// The same with a program of another version. A copy of the bridge or of the gateway listens on ports of its own.
    pub async fn start_copy_of(&self, kind: &str, program: PathBuf) -> anyhow::Result<String> {
        let mut names = (2..=COPIES_MAX).map(|n| format!("{kind}-{n}"));
        let name = names
            .find(|name| self.unit(name).is_err())
            .context("there are enough copies")?;
        let mut values = self.values.clone();
        let listens: &[(&str, &str)] = match kind {
            BRIDGE => &[("BRIDGE_URL", "http"), ("MQTT_URL", "mqtt")],
            GATEWAY => &[("GATEWAY_URL", "http")],
            _ => &[],
        };
        for (url, scheme) in listens {
            let port = Port::Free.choose("--ports")?;
            values.insert((*url).to_owned(), format!("{scheme}://127.0.0.1:{port}"));
        }
        let surroundings = Surroundings {
            values: &values,
            ..self.surroundings()
        };
        self.supervisor.start(surroundings.copy(&name, kind, program)?);
        self.ready(&name, start::PATIENCE).await?;
        Ok(name)
    }

    /// What a process was told in a variable.
    pub fn told(&self, name: &str, variable: &str) -> Option<String> {
        let unit = self.unit(name).ok()?;
        let mut told = unit.spec().env.iter();
        told.find(|(name, _)| name == variable)
            .map(|(_, value)| value.clone())
    }

    /// Starts the simulator: `telltale ARGS`, with the values of `.telltale/env`.
    pub fn start_simulator(&self, args: &[String]) -> anyhow::Result<()> {
        let programs = self.programs.as_deref().context("this stack has no bridge")?;
        let telltale = build::program(programs, "telltale")?;
        self.supervisor
            .start(self.surroundings().simulator(telltale, args));
        Ok(())
    }

    /// Lets another worker in, while all goes on: its user, streams and durables.
    pub async fn admit(&self, extension: &Extension) -> anyhow::Result<()> {
        let mut known = self.built_in.clone();
        known.extend(self.options.manifests.iter().cloned());
        roads::admit(&self.layout, &self.site, &known, extension)?;
        self.reload()?;
        let client = roads::operator(&self.layout, self.env("NATS_URL")).await?;
        roads::provision(&client, &self.site, &self.manifests()?).await?;
        Ok(())
    }

    /// Makes the broker read its users anew.
    pub fn reload(&self) -> Result<(), ControlError> {
        self.supervisor.signal("nats", Signal::HUP)?;
        Ok(())
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            layout: &self.layout,
            site: &self.site,
            values: &self.values,
            more: &self.options.env,
            links: &self.options.links,
        }
    }

    /// Ends all processes in order: those that take in first, the servers last.
    pub async fn shutdown(&self) {
        let names: Vec<String> = self
            .supervisor
            .all()
            .iter()
            .map(|unit| unit.spec().name.clone())
            .collect();
        let rank = |name: &str| match name {
            SIMULATOR => 0,
            BRIDGE | GATEWAY => 1,
            "nats" | "postgres" => 3,
            _ => 2,
        };
        for at in 0..=3 {
            let group: Vec<String> = names.iter().filter(|name| rank(name) == at).cloned().collect();
            self.supervisor.stop(&group).await;
        }
        self.supervisor.end();
    }
}

/// Writes `.telltale/env`.
fn write_env(layout: &Layout, values: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let values = VALUES
        .iter()
        .filter_map(|name| Some((*name, values.get(*name)?.as_str())));
    let path = layout.env();
    envfile::write_private(&path, &envfile::render(values))
        .with_context(|| format!("write {}", path.display()))
}

/// The command `telltale` beside the programs that a stack would run; built, like them, where that can be.
pub fn telltale(build: Build) -> anyhow::Result<PathBuf> {
    build::program(
        &build::programs(build, false, &crate::find::Say::nothing())?,
        "telltale",
    )
}
