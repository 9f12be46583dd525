//! A broker of its own for each test, provisioned, with the rights that a manifest gives; and what is in it.
use super::{
    process::Process,
    tried::{SITE, Told, Tried},
};
use crate::storage::database::Database;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use telltale_cli::find::{self, Say, ServerArgs};
use telltale_nats::{
    Manifest, Name, Publisher, Topology,
    async_nats::jetstream,
    client::{self, Access},
    provision, publish, rights,
    server::{Identity, ServerConfig, Sync, User, render_users},
};

/// Nothing here takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A nats-server, the identities in it, the database where the worker needs one, and a folder of its own.
pub(crate) struct World {
    pub(crate) tried: Tried,
    folder: PathBuf,
    program: PathBuf,
    port: u16,
    server: Option<Child>,
    manifest: Manifest,
    binary: PathBuf,
    pub(crate) context: jetstream::Context,
    pub(super) publisher: Publisher,
    pub(super) database: Option<Database>,
}

/// Waits until `is` gives something; fails after a deadline.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut is: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = is().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

impl World {
    /// With that worker admitted; what it does not acknowledge comes again after `ack_wait_s`.
    pub(crate) async fn new(tried: Tried, ack_wait_s: u64) -> Self {
        let binary = tried.program();
        let said = Command::new(&binary)
            .arg("--manifest")
            .output()
            .expect("the worker runs");
        let mut manifest = Manifest::parse(&said.stdout).expect("a manifest");
        assert_eq!(manifest.name, tried.name());
        manifest.consumer.ack_wait_s = ack_wait_s;
        let program = find::nats_server(
            &ServerArgs::from_environment().expect("arguments"),
            &Say::nothing(),
        )
        .expect("a nats-server");
        let folder = std::env::temp_dir().join(format!("telltale-{}-{}", std::process::id(), number()));
        fs::create_dir_all(&folder).expect("a folder");
        let operator = Identity::generate();
        let port = configure(&folder, &operator, &manifest);
        let server = serve(&program, &folder);
        let access = Access {
            url: format!("nats://127.0.0.1:{port}"),
            seed: Some(operator.seed.clone()),
            user: "operator".into(),
        };
        let client = eventually("the broker", || async { client::connect(&access).await.ok() }).await;
        let database = match tried.writes() {
            Some(_) => None,
            None => Some(Database::fresh().await),
        };
        let world = Self {
            tried,
            publisher: Publisher::new(client.clone(), publish::Options::default()),
            folder,
            program,
            port,
            server: Some(server),
            manifest,
            binary,
            context: client::context(client),
            database,
        };
        world.provision().await;
        world
    }

    /// Makes streams and durables.
    pub(crate) async fn provision(&self) {
        let topology = Topology::of(&Name::new(SITE).expect("a name"));
        let options = provision::Options::default();
        let manifests = [self.manifest.clone()];
        let plan = provision::plan(&self.context, &topology, &manifests, &options)
            .await
            .expect("a plan");
        provision::apply(&self.context, &plan, false)
            .await
            .expect("provisioned");
    }

    /// Takes its durable on its readings away.
    pub(crate) async fn delete_durable(&self) {
        let stream = self.context.get_stream(self.tried.reads().stream()).await;
        let deleted = stream
            .expect("the stream")
            .delete_consumer(self.tried.name())
            .await;
        deleted.expect("deleted");
    }

    /// Starts a copy with an identity that may do nothing.
    pub(crate) fn start_without_rights(&self) -> Process {
        let seed = self.folder.join("nobody.nk");
        let seed = seed.to_str().expect("a plain path");
        self.start(&["--nats-seed-file", seed])
    }

    /// Starts a copy of the worker.
    pub(crate) fn start(&self, flags: &[&str]) -> Process {
        let log = self.folder.join("worker.log");
        let to = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log");
        let mut command = Command::new(&self.binary);
        if let Some(database) = &self.database {
            command.env("TELLTALE_DATABASE_URL", &database.url);
        }
        let child = command
            .args(flags)
            .env("TELLTALE_SITE", SITE)
            .env("TELLTALE_NATS_URL", format!("nats://127.0.0.1:{}", self.port))
            .env("TELLTALE_NATS_SEED_FILE", self.folder.join("worker.nk"))
            .env("TELLTALE_LOG_FORMAT", "json")
            .env("TRIAL_GATE", self.gate())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to)
            .spawn()
            .expect("the worker starts");
        Process { child, log }
    }

    /// The file without which `outage` is one.
    pub(crate) fn gate(&self) -> PathBuf {
        self.folder.join("gate")
    }

    /// Ends the broker as a power switch would, and starts it again on its data.
    pub(crate) async fn restart_broker(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the broker is killed");
            server.wait().expect("the broker is gone");
        }
        self.server = Some(serve(&self.program, &self.folder));
        // Our own connection is back, and the streams are recovered.
        eventually("the broker", || async {
            self.context.get_stream("EVENTS").await.ok()
        })
        .await;
    }

    /// Publishes readings as the stage before the worker would; each is what its records tell.
    pub(crate) async fn give(&self, readings: Vec<Told<'_>>) {
        for outgoing in self.tried.messages(&readings).chunks(500) {
            for result in self.publisher.publish(outgoing.to_vec()).await {
                result.expect("published");
            }
        }
    }

    /// Publishes bytes as if they were a reading of that thing.
    pub(crate) async fn give_raw(&self, thing: &str, payload: &str) {
        let outgoing = self.tried.message(thing, payload);
        self.publisher.send(outgoing).await.expect("published");
    }

    /// All messages of a stream that match, oldest first, as JSON.
    pub(crate) async fn all(&self, stream: &str, filter: &str) -> Vec<Value> {
        let stream = self.context.get_stream(stream).await.expect("the stream");
        let mut found = Vec::new();
        let mut next = 1;
        while let Ok(message) = stream.get_first_raw_message_by_subject(filter, next).await {
            found.push(serde_json::from_slice(&message.payload).expect("JSON"));
            next = message.sequence + 1;
        }
        found
    }

    /// How many messages a stream has on subjects that match.
    pub(crate) async fn count(&self, stream: &str, filter: &str) -> usize {
        let stream = self.context.get_stream(stream).await.expect("the stream");
        let subjects = stream.info_with_subjects(filter).await.expect("its subjects");
        let mut total = 0;
        let mut subjects = subjects;
        while let Some(Ok((_, count))) = futures::StreamExt::next(&mut subjects).await {
            total += count;
        }
        total
    }

    /// Waits until the worker has held so long that it has tried in vain that often.
    pub(crate) async fn held(&self, tries: u64) {
        let said = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let is_holding = line["message"]
                .as_str()
                .is_some_and(|it| it.starts_with("still holding"));
            is_holding && line["failed"].as_u64() >= Some(tries)
        };
        let what = format!("{:?}: it has tried {tries} times", self.tried);
        eventually(&what, || async { self.log().lines().any(said).then_some(()) }).await;
    }

    /// Waits until that many events `done` are there; more is wrong.
    pub(crate) async fn done(&self, wanted: usize) -> Vec<Value> {
        let count = async || self.count("EVENTS", "event.*.*.done").await;
        eventually(&format!("{wanted} events"), || async {
            (count().await >= wanted).then_some(())
        })
        .await;
        let events = self.all("EVENTS", "event.*.*.done").await;
        assert_eq!(events.len(), wanted, "each once");
        events
    }

    /// Waits until nothing is left for the worker, neither pending nor unacknowledged.
    pub(crate) async fn drained(&self) {
        eventually("everything is acknowledged", || async {
            (self.left().await == (0, 0)).then_some(())
        })
        .await;
    }

    /// What its durable on the input stream holds: never delivered, and not acknowledged.
    pub(crate) async fn left(&self) -> (u64, usize) {
        let stream = self.tried.reads().stream();
        let consumer: jetstream::consumer::PullConsumer = self
            .context
            .get_consumer_from_stream(&self.manifest.name, stream)
            .await
            .expect("the durable");
        let info = consumer.cached_info();
        (info.num_pending, info.num_ack_pending)
    }

    /// How often each reason of quarantine is there.
    pub(crate) async fn quarantined(&self) -> BTreeMap<String, Vec<Value>> {
        let mut reasons = BTreeMap::<String, Vec<Value>>::new();
        for entry in self.all("QUARANTINE", "quarantine.>").await {
            let reason = entry["data"]["reason"].as_str().expect("a reason").to_owned();
            reasons.entry(reason).or_default().push(entry);
        }
        reasons
    }

    /// What the workers logged, for a test that fails.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("worker.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}\n{}", self.tried, self.log());
        }
        if let Some(mut server) = self.server.take() {
            let ended = server.kill().and_then(|()| server.wait());
            if let Err(error) = ended {
                eprintln!("the broker: {error}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("`{}`: {error}", self.folder.display());
        }
    }
}

fn configure(folder: &Path, operator: &Identity, manifest: &Manifest) -> u16 {
    let site = Name::new(SITE).expect("a name");
    let worker = Identity::generate();
    fs::write(folder.join("worker.nk"), &worker.seed).expect("the worker's seed");
    let nobody = Identity::generate();
    fs::write(folder.join("nobody.nk"), &nobody.seed).expect("nobody's seed");
    let users = [
        User {
            name: "nobody".into(),
            public_key: nobody.public_key,
            permissions: rights::Permissions {
                publish: Vec::new(),
                publish_not: vec![">".into()],
                subscribe: vec![format!("{}.>", client::inbox_prefix(&manifest.name))],
            },
        },
        User {
            name: "operator".into(),
            public_key: operator.public_key.clone(),
            permissions: rights::operator(),
        },
        User {
            name: manifest.name.clone(),
            public_key: worker.public_key,
            permissions: rights::worker(manifest, &site),
        },
    ];
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let config = ServerConfig {
        name: "test".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        http: None,
        store_dir: folder.join("store"),
        sync: Sync::Every(Duration::from_mins(2)),
        max_file: "1024GiB".parse().expect("a size"),
        users: "users.conf".into(),
        pid_file: None,
    };
    fs::write(folder.join("nats.conf"), config.render()).expect("a configuration");
    fs::write(folder.join("users.conf"), render_users(&users)).expect("the users");
    port
}

fn serve(program: &Path, folder: &Path) -> Child {
    Command::new(program)
        .arg("--config")
        .arg(folder.join("nats.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts")
}

/// A number that no other world of this process has.
fn number() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        .to_string()
}
