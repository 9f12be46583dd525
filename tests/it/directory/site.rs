//! A gateway, a process beside a broker of its own, and an administrator.
use crate::{
    bridging::site::free_port,
    roads::broker::{Broker, PATIENCE},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};
use telltale_cli::stack::scratch;
use telltale_gateway::auth::{Person, Scope, tokens};
use telltale_nats::Name;
use telltale_tests::{
    eventually_async,
    http::{Answer, Client},
};

pub(super) const TD: (&str, &str) = ("content-type", "application/td+json");
pub(super) const PATCH: (&str, &str) = ("content-type", "application/merge-patch+json");
pub(super) const DISCOVERY: &str = "https://www.w3.org/2022/wot/discovery";

/// Event streams that a token may have open here.
pub(super) const STREAMS_MAX: usize = 8;

pub(super) struct Site {
    pub(super) broker: Broker,
    pub(super) http: Client,
    pub(super) token: String,
    pub(super) port: u16,
    process: Child,
    dir: PathBuf,
}

impl Site {
    pub(super) async fn start() -> Self {
        let broker = Broker::with(&[]).await;
        let dir = scratch("directory").unwrap();
        fs::write(dir.join("gateway.nk"), broker.seed("gateway")).unwrap();
        let port = free_port();
        let process = spawn(&dir, &broker, port);
        let token = admit(&broker, "administrator", vec![Scope::Admin]).await;
        let site = Self {
            http: Client::new(format!("http://127.0.0.1:{port}"), Some(token.clone())),
            broker,
            token,
            port,
            process,
            dir,
        };
        eventually_async("the gateway is ready", PATIENCE, || async {
            let answer = site.http.send("GET", "/things", &[], &[]).ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        site
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        self.http.send(method, path, headers, body.as_bytes()).unwrap()
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &Value::Null)
    }

    pub(super) fn put(&self, td: &Value) -> Answer {
        let path = format!("/things/{}", td["id"].as_str().unwrap());
        self.send("PUT", &path, &[TD], td)
    }

    pub(super) fn post(&self, td: &Value) -> Answer {
        self.send("POST", "/things", &[TD], td)
    }

    pub(super) fn patch(&self, id: &str, patch: &Value) -> Answer {
        self.send("PATCH", &format!("/things/{id}"), &[PATCH], patch)
    }

    /// A description as its author wrote it: what the directory adds is taken off.
    pub(super) fn original(&self, id: &str) -> Value {
        let answer = self.get(&format!("/things/{id}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        self.unserved(answer.body)
    }

    pub(super) fn unserved(&self, mut td: Value) -> Value {
        td.as_object_mut().unwrap().remove("registration");
        if let Value::Array(contexts) = &mut td["@context"] {
            contexts.retain(|context| context != DISCOVERY);
            if let [only] = contexts.as_slice() {
                td["@context"] = only.clone();
            }
        }
        let ours = self.url();
        for kind in ["properties", "actions", "events"] {
            let affordances = td.get_mut(kind).and_then(Value::as_object_mut);
            for affordance in affordances.into_iter().flat_map(serde_json::Map::values_mut) {
                if let Some(Value::Array(forms)) = affordance.get_mut("forms") {
                    forms.retain(|form| {
                        let href = form["href"].as_str().unwrap();
                        !href.starts_with(&format!("{ours}/"))
                    });
                }
            }
        }
        td
    }

    /// What is told on `/events`, from now or from after that id on.
    pub(super) fn events(&self, path: &str, last: Option<u64>) -> Events {
        self.events_to(&self.token, path, last)
    }

    /// The same, to whoever has that token.
    pub(super) fn events_to(&self, token: &str, path: &str, last: Option<u64>) -> Events {
        listen(&format!("{}{path}", self.url()), token, last)
    }
}

/// What an event stream tells, from now or from after that id on.
pub(crate) fn listen(url: &str, token: &str, last: Option<u64>) -> Events {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .build();
    let mut request = ureq::Agent::new_with_config(config)
        .get(url)
        .header("authorization", format!("Bearer {token}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let response = request.call().unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (told, events) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        let mut event = Event::default();
        for line in lines.map_while(Result::ok) {
            match line.split_once(": ") {
                Some(("event", word)) => word.clone_into(&mut event.kind),
                Some(("id", id)) => event.id = id.parse().unwrap(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if !line.is_empty() || event.kind.is_empty() => {}
                // Nobody listens any more once the test is through.
                _ if told.send(std::mem::take(&mut event)).is_err() => return,
                _ => {}
            }
        }
    });
    Events(events)
}

/// Makes a token, known to the gateway within moments.
pub(super) async fn admit(broker: &Broker, name: &str, scopes: Vec<Scope>) -> String {
    let store = tokens::bucket(&broker.context().await).await.unwrap();
    let (token, person) = Person::new_token(&Name::new(name).unwrap(), scopes, None);
    tokens::put(&store, &person).await.unwrap();
    token
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: u64,
    pub(crate) data: Value,
}

pub(crate) struct Events(Receiver<Event>);

impl Events {
    pub(crate) fn next(&self) -> Event {
        self.0.recv_timeout(PATIENCE).expect("an event comes")
    }

    /// The other end has ended it within that time, without another event.
    pub(super) fn over(&self, within: Duration) -> bool {
        self.0.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }

    /// Nothing comes within that time.
    pub(super) fn silent(&self, for_long: Duration) -> bool {
        self.0.recv_timeout(for_long).is_err()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("the gateway said:\n{log}");
        }
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn spawn(dir: &Path, broker: &Broker, port: u16) -> Child {
    Command::new(telltale_tests::program("telltale-gateway"))
        .env_clear()
        .env("TELLTALE_SITE", broker.site.plain())
        .env("TELLTALE_NATS_URL", broker.url())
        .env("TELLTALE_NATS_SEED_FILE", dir.join("gateway.nk"))
        .env("TELLTALE_HEALTH_LISTEN", "127.0.0.1:0")
        .env("TELLTALE_GATEWAY_LISTEN", format!("127.0.0.1:{port}"))
        .env("TELLTALE_GATEWAY_STREAMS_MAX", STREAMS_MAX.to_string())
        .env("TELLTALE_LOG", "info,telltale_gateway=debug")
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap()
}

/// A text percent-encoded, all of it.
pub(super) fn escaped(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |out, byte| out + &format!("%{byte:02X}"))
}

/// A small description.
pub(super) fn lamp(id: &str) -> Value {
    json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1",
        "id": id,
        "title": format!("Lamp {id}"),
        "securityDefinitions": {"none": {"scheme": "nosec"}},
        "security": "none",
        "properties": {
            "brightness": {
                "type": "integer", "minimum": 0, "maximum": 100, "unit": "%",
                "forms": [{"href": "coap://[2001:db8::1]/brightness"}]
            }
        }
    })
}
