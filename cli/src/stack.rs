//! A whole Telltale on one machine: servers, database, roads, workers and bridge. `telltale up` runs one in front
//! of you; a test runs one of its own.
mod layout;
mod options;
pub mod ports;
mod secrets;

pub use layout::{Layout, scratch};
pub use options::{Ports, StackOptions, Sync};
pub use ports::Port;

use crate::{
    context::{self, Context},
    find::{self, Postgres},
    migrate, servers,
    supervise::{self, ControlError, Supervisor, Traces, Unit},
};
use anyhow::Context as _;
use secrets::Secrets;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long a server may take to serve: a machine that is busy compiling included.
const SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// A running stack. Dropped, it ends all that it started; [`Stack::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    layout: Layout,
    options: StackOptions,
    values: BTreeMap<String, String>,
    supervisor: Supervisor,
    /// Held as long as we live: whoever finds it locked knows that a stack runs here.
    _lock: fs::File,
}

impl Stack {
    /// Starts everything that the options ask for, and returns when it serves.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let layout = Layout::make(options.dir.as_deref())?;
        let lock = layout.lock()?;
        for name in supervise::end_leftovers(&layout.run())? {
            options
                .say
                .line(&format!("ended {name}, left by a stack that was killed"));
        }
        let traces = Traces {
            run: layout.run(),
            logs: layout.logs(),
            disposable: layout.disposable(),
        };
        let supervisor = Supervisor::new(traces).context("start the supervisor")?;
        let mut stack = Self {
            layout,
            options,
            values: BTreeMap::new(),
            supervisor,
            _lock: lock,
        };
        stack
            .values
            .insert("TELLTALE_SITE".to_owned(), stack.options.site.clone());
        let secrets = Secrets::load_or_make(&stack.layout)?;
        stack.start_servers(&secrets).await?;
        Ok(stack)
    }

    async fn start_servers(&mut self, secrets: &Secrets) -> anyhow::Result<()> {
        let servers = self.options.servers.clone();
        let say = self.options.say.clone();
        let found = tokio::task::spawn_blocking(move || {
            Ok::<_, find::FindError>((
                find::nats_server(&servers, &say)?,
                find::postgres(&servers, &say)?,
            ))
        });
        let (nats_server, postgres) = found.await??;
        self.start_nats(nats_server)?;
        let admin = match postgres {
            Postgres::At(url) => url,
            Postgres::Programs(programs) => self.start_postgres(programs, secrets).await?,
        };
        self.ready("nats", SERVER_PATIENCE).await?;
        self.prepare_database(&admin, secrets).await
    }

    fn start_nats(&mut self, program: PathBuf) -> anyhow::Result<()> {
        let port = self.options.ports.nats.choose("--nats-port")?;
        self.options.say.line(&format!("nats-server on port {port}"));
        let instance = servers::nats::Instance {
            program,
            home: self.layout.nats(),
            port,
        };
        instance
            .configure(self.options.sync)
            .context("configure nats-server")?;
        self.set("NATS_URL", instance.url());
        self.supervisor.start(instance.spec());
        Ok(())
    }

    /// The owner's way into a PostgreSQL of our own.
    async fn start_postgres(&mut self, programs: PathBuf, secrets: &Secrets) -> anyhow::Result<String> {
        let port = self.options.ports.database.choose("--database-port")?;
        self.options.say.line(&format!("PostgreSQL on port {port}"));
        let instance = servers::postgres::Instance {
            programs,
            home: servers::postgres::home(self.layout.folder()),
            port,
            password: secrets.owner.clone(),
            durable: self.layout.disposable().is_none(),
        };
        let spec = instance.spec();
        let url = instance.url(servers::postgres::DATABASE);
        let system = instance.url("postgres");
        tokio::task::spawn_blocking(move || instance.prepare()).await??;
        self.supervisor.start(spec);
        self.ready("postgres", SERVER_PATIENCE).await?;
        let client = context::connect(&system).await?;
        servers::postgres::make_database(&client, servers::postgres::DATABASE)
            .await
            .context("make the database")?;
        Ok(url)
    }

    async fn prepare_database(&mut self, admin: &str, secrets: &Secrets) -> anyhow::Result<()> {
        let done = migrate::migrate(admin).await.context("migrate the database")?;
        self.options.say.line(&format!(
            "database: {} of {} migrations new",
            done.applied.len(),
            done.known
        ));
        let client = context::connect(admin).await?;
        servers::postgres::let_reader_in(&client, &secrets.reader)
            .await
            .context("let telltale_reader in")?;
        let reader = servers::postgres::with_user(admin, servers::postgres::READER, &secrets.reader)?;
        self.set("DATABASE_URL", reader);
        self.set("DATABASE_ADMIN_URL", admin.to_owned());
        Ok(())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), value.into());
    }

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
            .unwrap_or_else(|| panic!("a stack has no {name}"))
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

    /// Starts one process that was stopped, and waits until it serves.
    pub async fn start_one(&self, name: &str) -> Result<(), ControlError> {
        let unit = self.unit(name)?;
        unit.start();
        unit.ready(SERVER_PATIENCE).await
    }

    /// Ends all processes in order: those that take in first, the servers last.
    pub async fn shutdown(self) {
        let names: Vec<String> = self
            .supervisor
            .all()
            .iter()
            .map(|unit| unit.spec().name.clone())
            .collect();
        let is_server = |name: &String| matches!(name.as_str(), "nats" | "postgres");
        let (servers, workers): (Vec<_>, Vec<_>) = names.into_iter().partition(is_server);
        self.supervisor.stop(&workers).await;
        self.supervisor.stop(&servers).await;
        self.supervisor.end();
    }
}
