//! A broker, a bridge beside it as a process of its own, and three devices.
use crate::roads::broker::{Broker, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use telltale_bridge::credential::{BUCKET, Credential, new_token};
use telltale_cli::stack::scratch;
use telltale_nats::{
    Name,
    async_nats::jetstream::{self, message::StreamMessage},
    seal,
};
use tokio::time::Instant;

pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) key: seal::Key,
    /// Tokens of the device `lamp`, which covers itself, and of `gateway`, which covers all.
    pub(crate) lamp: String,
    pub(crate) gateway: String,
    pub(crate) bridge: Bridge,
    dir: PathBuf,
}

/// A bridge as a process.
pub(crate) struct Bridge {
    http: u16,
    mqtt: u16,
    process: Child,
}

impl Bridge {
    pub(crate) fn mqtt(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.mqtt)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while get(self.url("/readyz"))
            .await
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(Instant::now() < deadline, "the bridge is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The status and the text, if anybody answers.
async fn get(url: String) -> Option<(u16, String)> {
    let get = move || {
        let mut response = agent().get(&url).call().ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), text))
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

/// What the bridge answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: serde_json::Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        let broker = Broker::with(&[]).await;
        let dir = scratch("bridging").unwrap();
        let key = seal::Key::generate();
        fs::write(dir.join("seal"), key.to_hex()).unwrap();
        fs::write(dir.join("bridge.nk"), broker.seed("bridge")).unwrap();
        let (lamp, _, lamp_credential) = new_token("lamp");
        let (gateway, _, credential) = new_token("gateway");
        let gateway_credential = Credential {
            things: vec!["*".into()],
            gateway: true,
            backfill: true,
            ..credential
        };
        let bridge = spawn(&dir, &broker, "log");
        let site = Self {
            broker,
            key,
            lamp,
            gateway,
            bridge,
            dir,
        };
        for credential in [lamp_credential, gateway_credential] {
            site.put(&credential).await;
        }
        site.bridge.ready().await;
        site
    }

    /// One more bridge of the same site.
    pub(crate) async fn another_bridge(&self) -> Bridge {
        let bridge = spawn(&self.dir, &self.broker, "log-2");
        bridge.ready().await;
        bridge
    }

    /// Another bridge in the place of the one that was killed.
    pub(crate) async fn restart_bridge(&mut self) {
        self.bridge = spawn(&self.dir, &self.broker, "log");
        self.bridge.ready().await;
    }

    /// A metric of the bridge with all its labels, 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = get(self.url("/metrics")).await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Puts a credential into its bucket; its revision.
    pub(crate) async fn put(&self, credential: &Credential) -> u64 {
        let bucket = self.broker.context().await.get_key_value(BUCKET).await.unwrap();
        let name = Name::new(&*credential.device).unwrap();
        let value = serde_json::to_vec(credential).unwrap();
        bucket.put(name.token(), value.into()).await.unwrap()
    }

    pub(crate) async fn revoke(&self, device: &str) {
        let bucket = self.broker.context().await.get_key_value(BUCKET).await.unwrap();
        bucket.delete(Name::new(device).unwrap().token()).await.unwrap();
    }

    /// The status, if anybody answers.
    pub(crate) async fn try_get(&self, path: &str) -> Option<u16> {
        Some(get(self.url(path)).await?.0)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.bridge.url(path)
    }

    pub(crate) fn mqtt(&self) -> (Ipv4Addr, u16) {
        self.bridge.mqtt()
    }

    pub(crate) fn http(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.bridge.http)
    }

    /// Sends with the token of a device and more headers.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = agent().post(self.url(path));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        let sent = tokio::task::spawn_blocking(move || {
            let mut response = request.send(&body[..]).unwrap();
            let headers = response
                .headers()
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect();
            let text = response.body_mut().read_to_string().unwrap();
            let body = serde_json::from_str(&text).unwrap_or_default();
            Answer {
                status: response.status().as_u16(),
                headers,
                body,
            }
        });
        sent.await.unwrap()
    }

    pub(crate) async fn stream(&self, name: &str) -> jetstream::stream::Stream {
        self.broker.context().await.get_stream(name).await.unwrap()
    }

    /// How many messages a stream holds.
    pub(crate) async fn count(&self, stream: &str) -> u64 {
        self.stream(stream).await.get_info().await.unwrap().state.messages
    }

    /// All messages of a stream.
    pub(crate) async fn messages(&self, stream: &str) -> Vec<StreamMessage> {
        let stream = self.stream(stream).await;
        let state = stream.get_info().await.unwrap().state;
        let mut all = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            all.push(stream.get_raw_message(sequence).await.unwrap());
        }
        all
    }

    pub(crate) async fn message(&self, stream: &str, sequence: u64) -> StreamMessage {
        self.stream(stream).await.get_raw_message(sequence).await.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.bridge.signal(signal);
    }

    /// How the bridge ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.bridge.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the bridge does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["log", "log-2"] {
                let log = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
                eprintln!("the bridge said in {name}:\n{log}");
            }
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build();
    ureq::Agent::new_with_config(config)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn spawn(dir: &Path, broker: &Broker, log: &str) -> Bridge {
    let (http, mqtt) = (free_port(), free_port());
    let process = Command::new(telltale_tests::program("telltale-bridge"))
        .env_clear()
        .env("TELLTALE_SITE", broker.site.plain())
        .env("TELLTALE_NATS_URL", broker.url())
        .env("TELLTALE_NATS_SEED_FILE", dir.join("bridge.nk"))
        .env("TELLTALE_HEALTH_LISTEN", "127.0.0.1:0")
        .env("TELLTALE_HTTP_LISTEN", format!("127.0.0.1:{http}"))
        .env("TELLTALE_MQTT_LISTEN", format!("127.0.0.1:{mqtt}"))
        .env("TELLTALE_SEAL_KEY_FILE", dir.join("seal"))
        .env("TELLTALE_OFFLINE_AFTER", "1")
        .env("TELLTALE_LOG", "info,telltale_bridge=debug")
        .stdout(Stdio::null())
        .stderr(
            fs::File::options()
                .create(true)
                .append(true)
                .open(dir.join(log))
                .unwrap(),
        )
        .spawn()
        .unwrap();
    Bridge { http, mqtt, process }
}
