//! A nats-server for one test: our own configuration, identities and streams, ended on drop.
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};
use telltale_cli::{
    find::{Say, ServerArgs, nats_server},
    stack::scratch,
};
use telltale_nats::{
    Manifest, Name, Publisher, Topology,
    async_nats::{
        Client, HeaderMap,
        jetstream::{self, context::GetStreamErrorKind},
    },
    client::{self, Access, ConnectError, Notice, inbox_prefix},
    provision, publish, rights,
    server::{Identity, ServerConfig, Sync, User, render_users},
    topology::Size,
};
use telltale_tests::eventually_async;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Broker {
    process: Child,
    pub(crate) port: u16,
    dir: PathBuf,
    identities: BTreeMap<String, Identity>,
    pub(crate) site: Name,
}

/// A connection, and what the server refuses it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) denied: mpsc::UnboundedReceiver<String>,
}

impl Connection {
    pub(super) fn publisher(&self) -> Publisher {
        Publisher::new(self.client.clone(), publish::Options::default())
    }

    /// Publishes, and says whether the server let it through.
    pub(super) async fn may_publish(&mut self, subject: &str) -> bool {
        while self.denied.try_recv().is_ok() {}
        let reply = format!("{}.nobody", inbox_prefix("nobody"));
        self.client
            .publish_with_reply_and_headers(subject.to_owned(), reply, HeaderMap::new(), "{}".into())
            .await
            .unwrap();
        self.settled(subject).await
    }

    pub(super) async fn may_subscribe(&mut self, subject: &str) -> bool {
        while self.denied.try_recv().is_ok() {}
        let _subscription = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.settled(subject).await
    }

    /// The server answers in order: a refusal comes before the answer to what was asked after it.
    pub(super) async fn settled(&mut self, subject: &str) -> bool {
        self.client.flush().await.unwrap();
        let canary = format!("no.such.right.{}", subject.len());
        self.client
            .publish_with_headers(canary.clone(), HeaderMap::new(), "".into())
            .await
            .unwrap();
        let mut allowed = true;
        loop {
            let refusal = timeout(PATIENCE, self.denied.recv()).await.unwrap().unwrap();
            if refusal.contains(&canary) {
                return allowed;
            }
            assert!(refusal.contains(subject), "{refusal} is not about {subject}");
            allowed = false;
        }
    }

    pub(super) async fn refused(&mut self, subjects: &[&str]) {
        for subject in subjects {
            assert!(!self.may_publish(subject).await, "{subject} was let through");
        }
    }
}

impl Broker {
    /// With no stream, no bucket, and the operator alone let in.
    pub(crate) async fn bare() -> Self {
        let dir = scratch("roads").unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = ServerConfig {
            name: "roads".into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            http: None,
            store_dir: dir.join("jetstream"),
            sync: Sync::Always,
            max_file: Size::of(1 << 40),
            users: "users.conf".into(),
            pid_file: None,
        };
        fs::write(dir.join("nats-server.conf"), config.render()).unwrap();
        let site = Name::new("local").unwrap();
        let mut identities = BTreeMap::new();
        write_users(&dir, &mut identities, &site, &[]);
        let broker = Self {
            process: spawn(&dir),
            port,
            dir,
            identities,
            site,
        };
        broker.connect(rights::OPERATOR).await;
        broker
    }

    /// With all streams and buckets, and these workers admitted.
    pub(crate) async fn with(manifests: &[Manifest]) -> Self {
        let mut broker = Self::bare().await;
        broker.admit(manifests);
        broker.reload().await;
        broker.provision(&Topology::of(&broker.site), manifests).await;
        broker
    }

    /// What a process of that name identifies by.
    pub(crate) fn seed(&self, user: &str) -> &str {
        &self.identities[user].seed
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn provision(&self, topology: &Topology, manifests: &[Manifest]) -> provision::Applied {
        let js = self.context().await;
        let plan = provision::plan(&js, topology, manifests, &provision::Options::default())
            .await
            .unwrap();
        provision::apply(&js, &plan, false).await.unwrap()
    }

    /// Writes the users' file anew, keeping the keys of those who were in it.
    pub(crate) fn admit(&mut self, manifests: &[Manifest]) {
        write_users(&self.dir, &mut self.identities, &self.site, manifests);
    }

    /// Makes the server read its users again; returns when all of them are let in, and JetStream answers: accounts are
    /// changed after users, and for that moment nobody does.
    pub(crate) async fn reload(&self) {
        self.signal(Signal::HUP);
        for user in self.identities.keys() {
            self.connect(user).await;
        }
        let js = self.context().await;
        eventually_async("JetStream answers", PATIENCE, || async {
            let asked = js.get_stream("RAW").await.map(drop);
            let answered = asked.map_or_else(
                |error| matches!(error.kind(), GetStreamErrorKind::JetStream(_)),
                |()| true,
            );
            answered.then_some(())
        })
        .await;
    }

    pub(crate) async fn connect(&self, user: &str) -> Connection {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.connect_once(user).await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "{user}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn connect_once(&self, user: &str) -> Result<Connection, ConnectError> {
        self.connect_through(self.port, user).await
    }

    /// By another port of this machine that leads to the server's.
    pub(crate) async fn connect_through(&self, port: u16, user: &str) -> Result<Connection, ConnectError> {
        let (refused, denied) = mpsc::unbounded_channel();
        let access = Access {
            url: format!("nats://127.0.0.1:{port}"),
            seed: self.identities.get(user).map(|identity| identity.seed.clone()),
            user: user.to_owned(),
        };
        let client = client::connect_with(&access, move |notice| {
            if let Notice::Denied(text) = notice {
                // Nobody may be listening any more.
                refused.send(text).ok();
            }
        })
        .await?;
        Ok(Connection { client, denied })
    }

    /// The operator's view.
    pub(crate) async fn context(&self) -> jetstream::Context {
        client::context(self.connect(rights::OPERATOR).await.client)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`Broker::end`], with what it had stored.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.dir);
        self.connect(rights::OPERATOR).await;
    }
}

fn write_users(dir: &Path, identities: &mut BTreeMap<String, Identity>, site: &Name, manifests: &[Manifest]) {
    let mut wanted = vec![
        (rights::OPERATOR.to_owned(), rights::operator()),
        (rights::CLIENT.to_owned(), rights::client(site, manifests)),
        (rights::BRIDGE.to_owned(), rights::bridge(site)),
        (rights::GATEWAY.to_owned(), rights::gateway(site, manifests)),
    ];
    wanted.extend(
        manifests
            .iter()
            .map(|one| (one.name.clone(), rights::worker(one, site))),
    );
    let users = wanted.into_iter().map(|(name, permissions)| {
        let identity = identities.entry(name.clone()).or_insert_with(Identity::generate);
        User {
            name,
            public_key: identity.public_key.clone(),
            permissions,
        }
    });
    let users: Vec<User> = users.collect();
    fs::write(dir.join("users.conf"), render_users(&users)).unwrap();
}

fn spawn(dir: &Path) -> Child {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let args = ServerArgs::from_environment().unwrap();
        nats_server(&args, &Say::nothing()).unwrap()
    });
    Command::new(program)
        .arg("--config")
        .arg(dir.join("nats-server.conf"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("nats-server said:\n{log}");
        }
        // Stopped processes must be let go on before they can end, and it may be gone already.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}
