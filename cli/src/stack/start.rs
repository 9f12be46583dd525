//! Starting a stack: build, servers, database, roads, processes; each step said.
use super::{
    Extension, Layout, Stack, StackOptions, build, database,
    device::Devices,
    people::Administrator,
    ports::Memory,
    processes::{BRIDGE, GATEWAY, WORKERS},
    roads,
    secrets::Secrets,
    write_env,
};
use crate::{
    context,
    find::{self, Postgres},
    servers,
    supervise::{self, Supervisor, Traces},
};
use anyhow::Context as _;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use telltale_nats::{Name, async_nats, manifest::Manifest};

/// How long a process may take to serve, on a machine that may be busy compiling.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

impl Stack {
    /// Starts everything that the options ask for, and returns when it serves.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let site =
            Name::new(options.site.as_str()).with_context(|| format!("read the site `{}`", options.site))?;
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
            ports: Memory::load(&layout.ports()),
            layout,
            site,
            values: BTreeMap::new(),
            programs: None,
            built_in: vec![],
            supervisor,
            options,
            _lock: lock,
        };
        stack.set("TELLTALE_SITE", stack.options.site.clone());
        stack.build().await?;
        let secrets = Secrets::load_or_make(&stack.layout)?;
        stack.start_servers(&secrets).await?;
        let client = stack.lay_roads().await?;
        if stack.options.workers {
            stack.start_processes(&client).await?;
        }
        stack
            .ports
            .save(&stack.layout.ports())
            .context("remember the ports")?;
        write_env(&stack.layout, &stack.values)?;
        Ok(stack)
    }

    async fn build(&mut self) -> anyhow::Result<()> {
        if !self.options.workers {
            return Ok(());
        }
        let (build, shown, say) = (
            self.options.build,
            self.options.show_build,
            self.options.say.clone(),
        );
        let made = tokio::task::spawn_blocking(move || {
            let programs = build::programs(build, shown, &say)?;
            let manifests = WORKERS
                .iter()
                .map(|name| roads::manifest_of(&build::program(&programs, &format!("telltale-{name}"))?));
            let manifests = manifests.collect::<anyhow::Result<Vec<_>>>()?;
            anyhow::Ok((programs, manifests))
        });
        let (programs, manifests) = made.await??;
        self.programs = Some(programs);
        self.built_in = manifests;
        if let Some(ack_wait) = self.options.ack_wait {
            for manifest in &mut self.built_in {
                manifest.consumer.ack_wait_s = ack_wait.as_secs().max(1);
            }
        }
        Ok(())
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
        self.ready("nats", PATIENCE).await?;
        self.prepare_database(&admin, secrets).await
    }

    /// All that are let in beside ourselves.
    pub(super) fn manifests(&self) -> anyhow::Result<Vec<Manifest>> {
        let mut manifests = self.built_in.clone();
        manifests.extend(self.options.manifests.iter().cloned());
        manifests.extend(
            Extension::load_all(&self.layout)?
                .into_iter()
                .map(|one| one.manifest),
        );
        Ok(manifests)
    }

    fn start_nats(&mut self, program: PathBuf) -> anyhow::Result<()> {
        let port = self
            .ports
            .choose("nats", self.options.ports.nats, "--nats-port")?;
        self.options.say.line(&format!("nats-server on port {port}"));
        let server = roads::Server {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            monitor: None,
            store: self.layout.nats().join("jetstream"),
            sync: self.options.sync,
        };
        roads::write(&self.layout, &self.site, &self.manifests()?, &server)?;
        let instance = servers::nats::Instance {
            program,
            home: self.layout.nats(),
            configuration: self.layout.nats_configuration(),
            port,
        };
        self.set("NATS_URL", instance.url());
        self.set(
            "NATS_NKEY_SEED_FILE",
            self.layout.seed("client").to_string_lossy(),
        );
        self.supervisor.start(instance.spec());
        Ok(())
    }

    /// The owner's way into a PostgreSQL of our own.
    async fn start_postgres(&mut self, programs: PathBuf, secrets: &Secrets) -> anyhow::Result<String> {
        let port = self
            .ports
            .choose("database", self.options.ports.database, "--database-port")?;
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
        self.ready("postgres", PATIENCE).await?;
        let client = context::connect(&system).await?;
        servers::postgres::make_database(&client, servers::postgres::DATABASE)
            .await
            .context("make the database")?;
        Ok(url)
    }

    async fn prepare_database(&mut self, admin: &str, secrets: &Secrets) -> anyhow::Result<()> {
        let done = database::prepare(admin, secrets).await?;
        self.options.say.line(&format!(
            "database: {} of {} migrations new",
            done.applied.len(),
            done.known
        ));
        self.set("DATABASE_URL", database::reader(admin, secrets)?);
        self.set("QUERY_DATABASE_URL", database::query(admin, secrets)?);
        self.set("DATABASE_ADMIN_URL", admin);
        Ok(())
    }

    /// Streams, buckets, durables.
    async fn lay_roads(&mut self) -> anyhow::Result<async_nats::Client> {
        let client = roads::operator(&self.layout, self.env("NATS_URL")).await?;
        let done = roads::provision(&client, &self.site, &self.manifests()?)
            .await
            .context("provision the broker")?;
        self.options.say.line(&format!(
            "streams and durables: {} new, {} changed, {} as they were",
            done.created, done.changed, done.kept
        ));
        Ok(client)
    }

    async fn start_processes(&mut self, client: &async_nats::Client) -> anyhow::Result<()> {
        let http = self
            .ports
            .choose("bridge", self.options.ports.bridge, "--bridge-port")?;
        let mqtt = self
            .ports
            .choose("mqtt", self.options.ports.mqtt, "--mqtt-port")?;
        let gateway = self
            .ports
            .choose("gateway", self.options.ports.gateway, "--gateway-port")?;
        let administrator = Administrator::load_or_make(&self.layout)?;
        administrator.register(client).await?;
        self.set("GATEWAY_URL", format!("http://127.0.0.1:{gateway}"));
        self.set("GATEWAY_TOKEN", administrator.token());
        let devices = Devices::load_or_make(&self.layout)?;
        devices.register(client).await?;
        for (name, value) in devices.values() {
            self.set(name, value);
        }
        self.set("BRIDGE_URL", format!("http://127.0.0.1:{http}"));
        self.set("MQTT_URL", format!("mqtt://127.0.0.1:{mqtt}"));
        let programs = self.programs.clone().context("no programs were built")?;
        let names: Vec<&str> = WORKERS.into_iter().chain([BRIDGE, GATEWAY]).collect();
        for name in &names {
            let spec = self.surroundings().own(name, name, &programs)?;
            self.supervisor.start(spec);
        }
        for extension in Extension::load_all(&self.layout)? {
            if !extension.command.is_empty() {
                let spec = self.surroundings().extension(&extension)?;
                self.supervisor.start(spec);
            }
        }
        self.options.say.line(&format!("starting {}", names.join(", ")));
        for name in names {
            self.ready(name, PATIENCE).await?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), value.into());
    }
}
