//! What the gateway tells of things and their data, and how it sends them commands: against a running stack.
mod commands;
mod events;
mod pages;

use serde_json::{Value, json};
use std::{sync::LazyLock, time::Duration};
use telltale_cli::stack::{Stack, StackOptions};
use telltale_schemas::Timestamp;
use telltale_tests::{
    eventually_async,
    http::{Client, Reply},
};
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(20);
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// One stack for this module, ended by its watchdog; each test has things of its own.
static STACK: OnceCell<Stack> = OnceCell::const_new();

struct House {
    stack: &'static Stack,
    gateway: Client,
    bridge: Client,
}

impl House {
    async fn open() -> Self {
        let start = || async {
            let stack = Stack::start(StackOptions::default()).await.unwrap();
            // What it takes is in the stream no longer, and here it is looked for there.
            stack.stop_one("actuate").await.unwrap();
            stack
        };
        let stack = STACK.get_or_init(start).await;
        let client = |url, token| Client::new(stack.env(url), Some(stack.env(token).to_owned()));
        Self {
            stack,
            gateway: client("GATEWAY_URL", "GATEWAY_TOKEN"),
            bridge: client("BRIDGE_URL", "BRIDGE_TOKEN"),
        }
    }

    async fn ask(&self, method: &'static str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let (gateway, path, body) = (self.gateway.clone(), path.to_owned(), body.to_owned());
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers: Vec<_> = headers.iter().map(own).collect();
        let ask = move || {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            gateway.ask(method, &path, &headers, body.as_bytes())
        };
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "").await
    }

    /// Brings a SenML pack in.
    async fn bring(&self, thing: &str, pack: &Value) {
        let (bridge, path, pack) = (
            self.bridge.clone(),
            format!("/things/{thing}/readings"),
            pack.to_string(),
        );
        let post = move || {
            bridge.post(
                &path,
                &[("Content-Type", "application/senml+json")],
                pack.as_bytes(),
            )
        };
        let answer = tokio::task::spawn_blocking(post).await.unwrap().unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// Waits until so many readings of a thing are rows.
    async fn rows(&self, thing: &str, wanted: usize) {
        let sql = self.stack.context().unwrap().sql().await.unwrap();
        eventually_async("the readings are rows", SOON, || async {
            let count = "select count(*) from readings where thing = $1";
            let found: i64 = sql.query_one(count, &[&thing]).await.unwrap().get(0);
            (usize::try_from(found) == Ok(wanted)).then_some(())
        })
        .await;
    }
}

/// So many microseconds after the beginning of yesterday, as it was when the tests began.
fn at(micros: i64) -> Timestamp {
    static YESTERDAY: LazyLock<i64> = LazyLock::new(|| {
        let (now, day) = (Timestamp::now().as_micros(), 86_400_000_000);
        now - now % day - day
    });
    Timestamp::from_micros(*YESTERDAY + micros).unwrap()
}

/// A value in a URL.
fn written(text: &str) -> String {
    text.replace('%', "%25")
        .replace('+', "%2B")
        .replace('#', "%23")
        .replace('&', "%26")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_door_to_the_data_asks_for_a_token_and_names_what_is_wrong() {
    let house = House::open().await;
    let stranger = Client::new(house.stack.env("GATEWAY_URL"), None);
    for (method, path) in [
        ("GET", "/things/x/properties/y"),
        ("PUT", "/things/x/properties/y"),
        ("POST", "/things/x/actions/y"),
        ("GET", "/things/x/events"),
        ("GET", "/things/x/readings"),
        ("GET", "/readings"),
    ] {
        let refused = tokio::task::block_in_place(|| stranger.ask(method, path, &[], b"")).unwrap();
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (401, "Bearer"),
            "{method} {path}"
        );
    }
    for (path, status, word) in [
        ("/readings?frm=x", 400, "frm"),
        ("/readings?from=yesterday", 400, "yesterday"),
        ("/readings?limit=10001", 400, "10001"),
        ("/readings?bucket=1ms", 400, "1ms"),
        ("/readings?cursor=nonsense", 400, "cursor"),
        ("/readings?format=xml", 400, "xml"),
        ("/readings?bucket=1h&format=senml", 400, "senml"),
        ("/readings?thing=_pack", 400, "_pack"),
        ("/things/x/readings?thing=y", 400, "thing"),
        ("/things/x%00/readings", 400, "name"),
        ("/things/x/readings?name=%00", 400, "U+0000"),
        ("/things/x/events?bucket=1h", 400, "bucket"),
        ("/things/x/properties/y%00", 400, "name"),
        ("/things/x/properties/y", 404, "no value"),
    ] {
        let reply = house.get(path).await;
        let problem = reply.json();
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (status, "application/problem+json"),
            "{path}"
        );
        assert!(
            problem["detail"].as_str().unwrap().contains(word),
            "{path}: {problem}"
        );
    }
    let html = house
        .ask("GET", "/readings", &[("Accept", "text/html")], "")
        .await;
    assert_eq!(html.status, 406);
    assert_eq!(
        house.get("/things/nobody/readings").await.json(),
        json!({ "readings": [] })
    );
}
