//! A broker that the site had before: what it accepted is rows, whatever dies, and commands reach devices behind it.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod broker;

use broker::Broker;
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};
use telltale_bridge::credential::{ANY_THING, Credential, new_token};
use telltale_cli::stack::{Layout, StackOptions, scratch};
use telltale_schemas::td;
use telltale_tests::{eventually_async, http, pipeline::Pipeline, size};

const SOON: Duration = Duration::from_secs(40);
/// Readings that come while NATS is away.
const AWAY: usize = 100;
const ROWS: &str =
    "select count(*) from readings where name = 'temperature' and value = 21.5 and protocol = 'mqtt_client'";

/// A pipeline whose bridge is a client of that broker too.
struct Site {
    pipeline: Pipeline,
    dir: PathBuf,
}

impl Site {
    async fn start(broker: &Broker, version: &str) -> Self {
        let dir = scratch("mqtt-client").unwrap();
        let (token, secret, credential) = new_token("gateway");
        let credential = Credential {
            things: vec![ANY_THING.into()],
            gateway: true,
            backfill: true,
            ..credential
        };
        // The stack takes the gateway that it finds, so that its bridge can be told the token before it starts.
        let layout = Layout::at(&dir);
        fs::create_dir_all(layout.credentials()).unwrap();
        let device = json!({ "token": token, "secret": secret, "credential": credential });
        fs::write(layout.credentials().join("gateway.device"), device.to_string()).unwrap();
        let file = dir.join("token");
        fs::write(&file, &token).unwrap();
        let setting = |name: &str, value: String| (format!("TELLTALE_MQTT_CLIENT_{name}"), value);
        let options = StackOptions {
            dir: Some(dir.clone()),
            env: vec![
                setting("URL", format!("mqtt://127.0.0.1:{}", broker.port)),
                setting("VERSION", version.to_owned()),
                setting("TOKEN_FILE", file.to_str().unwrap().to_owned()),
            ],
            ..StackOptions::default()
        };
        Self {
            pipeline: Pipeline::start(options).await,
            dir,
        }
    }

    async fn rows(&mut self, wanted: usize) {
        self.pipeline
            .until(ROWS, i64::try_from(wanted).unwrap(), SOON)
            .await;
    }

    async fn more_rows_than(&mut self, some: usize) {
        self.pipeline
            .at_least(ROWS, i64::try_from(some).unwrap(), SOON)
            .await;
    }

    fn metric(&self, metric: &str) -> f64 {
        self.pipeline.metric("bridge", metric)
    }

    /// Waits until the bridge is ready, or says that it is not for its broker's sake.
    async fn is_ready(&self, wanted: bool) {
        let health = self.pipeline.health("bridge");
        eventually_async("the bridge's readiness", SOON, || async {
            let (status, text) = health.get("/readyz").ok()?;
            let is_it = if wanted {
                status == 200
            } else {
                status == 503 && text.contains("mqtt_client")
            };
            is_it.then_some(())
        })
        .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = Layout::at(&self.dir).logs().join("bridge.log");
            eprintln!(
                "the bridge said:\n{}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_of_3_1_1_accepted_is_one_row_each_whatever_dies() {
    let mut broker = Broker::v3();
    let mut site = Site::start(&broker, "3.1.1").await;
    let count = size(500, 20_000);
    let sensors = broker.sensors(4, 0, count);
    site.more_rows_than(count / 10).await;
    site.pipeline.kill("bridge", SOON).await;
    site.more_rows_than(count / 4).await;
    site.pipeline.kill("bridge", SOON).await;
    tokio::task::block_in_place(|| sensors.finish());
    nats_is_away_meanwhile(&broker, &mut site, 4, count).await;
    let count = count + AWAY;
    site.pipeline.at_rest(SOON).await;
    assert_eq!(
        site.pipeline.count(ROWS).await,
        i64::try_from(count).ok(),
        "and no more"
    );

    what_is_wrong_holds_nobody_up(&broker, &site);
    a_broker_that_was_killed_is_found_again(&mut broker, &mut site, count).await;
    a_command_reaches_a_lamp_behind_it_and_its_answer_comes_back(&broker, &mut site).await;
}

/// The broker accepts all the same, and keeps what we do not acknowledge.
async fn nats_is_away_meanwhile(broker: &Broker, site: &mut Site, version: u8, before: usize) {
    site.rows(before).await;
    site.pipeline.stack.stop_one("nats").await.unwrap();
    tokio::task::block_in_place(|| broker.sensors(version, before, AWAY).finish());
    eventually_async("what NATS cannot take is not acknowledged", SOON, || async {
        (site.metric("telltale_bridge_mqtt_client_waiting") > 10.0).then_some(())
    })
    .await;
    site.pipeline.stack.start_one("nats").await.unwrap();
    site.rows(before + AWAY).await;
}

fn what_is_wrong_holds_nobody_up(broker: &Broker, site: &Site) {
    let refused = "telltale_bridge_refused_total{protocol=\"mqtt_client\",reason=";
    tokio::task::block_in_place(|| {
        broker.say("things/_pack/readings", b"{}");
        broker.say("things/t1/readings", &vec![b' '; 300_000]);
    });
    for reason in ["\"name\"}", "\"too_large\"}"] {
        telltale_tests::eventually(reason, SOON, || {
            (site.metric(&format!("{refused}{reason}")) >= 1.0).then_some(())
        });
    }
}

async fn a_broker_that_was_killed_is_found_again(broker: &mut Broker, site: &mut Site, before: usize) {
    broker.kill();
    site.is_ready(false).await;
    broker.restart();
    site.is_ready(true).await;
    tokio::task::block_in_place(|| broker.sensors(4, before, 50).finish());
    site.rows(before + 50).await;
}

async fn a_command_reaches_a_lamp_behind_it_and_its_answer_comes_back(broker: &Broker, site: &mut Site) {
    let description = json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1",
        "id": td::thing_id("lamp"),
        "title": "A lamp",
        "securityDefinitions": { "none": { "scheme": "nosec" } },
        "security": "none",
        "actions": { "dim": { "input": { "type": "integer" }, "forms": [{ "href": "http://lamp.example/x" }] } },
    });
    let (url, token) = (
        site.pipeline.stack.env("GATEWAY_URL"),
        site.pipeline.stack.env("GATEWAY_TOKEN"),
    );
    let gateway = http::Client::new(url, Some(token.to_owned()));
    let made = tokio::task::block_in_place(|| {
        let td = [("Content-Type", "application/td+json")];
        gateway.ask("PUT", "/things/lamp", &td, description.to_string().as_bytes())
    });
    assert_eq!(made.unwrap().status, 201);
    let lamp = broker.lamp();
    site.pipeline
        .at_least("select count(*) from readings where thing = 'lamp'", 1, SOON)
        .await;
    let sent = site
        .pipeline
        .telltale(&["command", "send", "lamp", "dim", "80", "--wait"])
        .await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let ended = "select count(*) from commands where thing = 'lamp' and state = 'succeeded'";
    site.pipeline.until(ended, 1, SOON).await;
    let rows = site
        .pipeline
        .rows("select state, sent is not null as s, acknowledged is null as a, output::text from commands where thing = 'lamp'")
        .await;
    assert_eq!(
        rows,
        ["succeeded|true|true|80"],
        "the broker's word is not the device's"
    );
    drop(lamp);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_of_mqtt_5_accepted_is_one_row_each_though_the_bridge_is_killed() {
    let broker = Broker::v5();
    let mut site = Site::start(&broker, "5").await;
    let count = size(500, 20_000);
    let sensors = broker.sensors(5, 0, count);
    site.more_rows_than(count / 10).await;
    site.pipeline.kill("bridge", SOON).await;
    tokio::task::block_in_place(|| sensors.finish());
    nats_is_away_meanwhile(&broker, &mut site, 5, count).await;
    let count = count + AWAY;
    let keyed = "select count(*) from readings where message_id = 't' || (substr(message_id, 5)::int % 5) || ':k' || substr(message_id, 5)";
    let keyed = site.pipeline.count(keyed).await;
    assert_eq!(
        keyed,
        i64::try_from(count).ok(),
        "the publisher's ids are the rows'"
    );
}
