//! A broker of its own for each test, provisioned, with the rights that a manifest gives; and workers as processes.
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
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
    Lane, Manifest, Name, Outgoing, Publisher, Subject, Topology,
    async_nats::jetstream,
    client::{self, Access},
    header, provision, publish, rights,
    server::{Identity, ServerConfig, Sync, User, render_users},
    subject,
};
use telltale_schemas::{Envelope, Observation, Reading, Record, Timestamp};

/// Nothing here takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const SITE: &str = "local";

/// A reading: its thing, its key, and what its records tell the worker.
pub(crate) type Told<'a> = (&'a str, String, Vec<(&'a str, f64)>);

/// A nats-server, the identities in it, and a folder of its own.
pub(crate) struct World {
    folder: PathBuf,
    program: PathBuf,
    port: u16,
    server: Option<Child>,
    manifest: Manifest,
    binary: PathBuf,
    pub(crate) context: jetstream::Context,
    publisher: Publisher,
}

/// A worker's process; killed if the test ends before it.
pub(crate) struct Process {
    child: Child,
    health: PathBuf,
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
    /// With one of the trial workers admitted; what it does not acknowledge comes again after `ack_wait_s`.
    pub(crate) async fn new(worker: &str, ack_wait_s: u64) -> Self {
        let binary = telltale_tests::examples().join(worker);
        let said = Command::new(&binary)
            .arg("--manifest")
            .output()
            .expect("the worker runs");
        let mut manifest = Manifest::parse(&said.stdout).expect("a manifest");
        manifest.consumer.ack_wait_s = ack_wait_s;
        let program = find::nats_server(
            &ServerArgs::from_environment().expect("arguments"),
            &Say::nothing(),
        )
        .expect("a nats-server");
        let folder = std::env::temp_dir().join(format!("telltale-{}-{}", std::process::id(), ulid()));
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
        let context = client::context(client.clone());
        let world = Self {
            publisher: Publisher::new(client.clone(), publish::Options::default()),
            folder,
            program,
            port,
            server: Some(server),
            manifest,
            binary,

            context,
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

    /// Starts a copy with an identity that may do nothing.
    pub(crate) fn start_without_rights(&self) -> Process {
        let seed = self.folder.join("nobody.nk");
        let seed = seed.to_str().expect("a plain path");
        self.start(&["--nats-seed-file", seed])
    }

    /// Starts a copy of the worker.
    pub(crate) fn start(&self, flags: &[&str]) -> Process {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("worker.log"))
            .expect("a log");
        let health = self.folder.join("worker.log");
        let child = Command::new(&self.binary)
            .args(flags)
            .env("TELLTALE_SITE", SITE)
            .env("TELLTALE_NATS_URL", format!("nats://127.0.0.1:{}", self.port))
            .env("TELLTALE_NATS_SEED_FILE", self.folder.join("worker.nk"))
            .env("TELLTALE_LOG_FORMAT", "json")
            .env("TRIAL_GATE", self.gate())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the worker starts");
        Process { child, health }
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
        let group: Vec<_> = readings
            .into_iter()
            .map(|(thing, key, records)| self.reading(thing, &key, &records))
            .collect();
        let group = if self.is_packed() { pack(&group) } else { group };
        for outgoing in group.chunks(500) {
            for result in self.publisher.publish(outgoing.to_vec()).await {
                result.expect("published");
            }
        }
    }

    fn is_packed(&self) -> bool {
        self.manifest.inputs == [Lane::Valid]
    }

    fn reading(&self, thing: &str, key: &str, records: &[(&str, f64)]) -> Outgoing {
        let records = records.iter().map(|(name, value)| Record {
            v: Some(*value),
            ..Record::named(*name)
        });
        let reading = Reading {
            records: records.collect(),
        };
        let id = format!("{thing}:{key}");
        let mut envelope = Envelope::new(&id, "/local/test", thing, Timestamp::now(), reading);
        envelope.rawseq = "7-1".parse().ok();
        let payload = if self.is_packed() {
            serde_json::to_vec(&envelope)
        } else {
            serde_json::to_vec(&envelope.map(|reading| Observation {
                records: reading.records,
                annotation: serde_json::Map::new(),
            }))
        };
        Outgoing {
            subject: subject_of(Lane::Annotated, thing),
            headers: vec![(header::CONTENT_TYPE, header::CLOUDEVENT.into())],
            payload: payload.expect("it can be written").into(),
            stream: "READINGS",
        }
    }

    /// Publishes bytes as if they were a reading of that thing.
    pub(crate) async fn give_raw(&self, thing: &str, payload: &str) {
        let (lane, stream) = if self.is_packed() {
            (Lane::Valid, "VALID")
        } else {
            (Lane::Annotated, "READINGS")
        };
        let outgoing = Outgoing {
            subject: subject_of(lane, thing),
            headers: Vec::new(),
            payload: payload.to_owned().into(),
            stream,
        };
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
        let stream = if self.is_packed() { "VALID" } else { "READINGS" };
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

    /// Sets how many messages EVENTS keeps, and whether it refuses what is too much.
    pub(crate) async fn limit_events(&self, max_messages: i64) {
        let stream = self.context.get_stream("EVENTS").await.expect("the stream");
        let mut config = stream.cached_info().config.clone();
        config.max_messages = max_messages;
        config.discard = jetstream::stream::DiscardPolicy::New;
        self.context.update_stream(config).await.expect("updated");
    }

    /// What the workers logged, for a test that fails.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("worker.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
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

impl Process {
    /// Tells it to stop, and says with what code it ended and after how long.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, Duration) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it can be told");
        let begun = Instant::now();
        let status = eventually("the worker ends", || {
            let ended = self.child.try_wait().expect("its status");
            async move { ended }
        })
        .await;
        (status.code(), begun.elapsed())
    }

    /// Waits until it has ended by itself; the code it ended with.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let status = eventually("the worker ends", || {
            let ended = self.child.try_wait().expect("its status");
            async move { ended }
        });
        status.await.code()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// What `/readyz?verbose` or another path answers: status and text.
    pub(crate) async fn asked(&self, path: &str) -> (u16, String) {
        let address = eventually("the health address", || async { self.address() }).await;
        let url = format!("http://{address}{path}");
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let mut answer = agent.get(&url).call().expect("it answers");
            let text = answer.body_mut().read_to_string().expect("a text");
            (answer.status().as_u16(), text)
        })
        .await
        .expect("asked")
    }

    /// The last address that was logged.
    fn address(&self) -> Option<String> {
        let log = fs::read_to_string(&self.health).ok()?;
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| line["health"].as_str().map(str::to_owned))
            .next_back()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let ended = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = ended {
                eprintln!("a worker: {error}");
            }
        }
    }
}

fn subject_of(lane: Lane, thing: &str) -> String {
    let name = |text| Name::new(text).expect("a name");
    Subject::of(lane, name(SITE), name(thing)).to_string()
}

/// Packs of three, so that a pack has siblings.
fn pack(group: &[Outgoing]) -> Vec<Outgoing> {
    group
        .chunks(3)
        .map(|readings| {
            let items: Vec<Value> = readings
                .iter()
                .map(|reading| serde_json::from_slice(&reading.payload).expect("JSON"))
                .collect();
            Outgoing {
                subject: subject::pack(&Name::new(SITE).expect("a name")),
                headers: vec![(header::CONTENT_TYPE, header::CLOUDEVENT_BATCH.into())],
                payload: json!(items).to_string().into(),
                stream: "VALID",
            }
        })
        .collect()
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
                subscribe: vec!["_INBOX_trial.>".into()],
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

fn ulid() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        .to_string()
}
