//! Commands from those who give them to two devices and back, with all that may happen to them at once: at the end the
//! view `commands`, the gateway's stream of changes and the devices tell the same of each, and it is right.
use crate::{
    bridging::device::Device,
    commands_life::{House, SOON},
    directory::{Event, Events, listen},
    downlink::http::{answered, asked},
};
use rmqtt_codec::types::QoS;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};
use telltale_tests::http::Client;

const ON: &str = "/things/lamp/actions/on?expires=1h";
const RESET: &str = "/things/lamp/actions/reset?expires=1h";
const DONE: &str = r#"{"state":"succeeded"}"#;
/// An answer that the bridge could not take yet is given again.
const KNOWN: u8 = 0x10;

/// "Server busy": come again.
const BUSY: u8 = 0x89;

/// The way of a command, as the stream tells it.
const WELL: [&str; 4] = ["queued", "sent", "acknowledged", "succeeded"];

/// The house with two bridges, and what its devices were given.
struct Whole {
    house: House,
    tokens: [String; 2],
    second: String,
    /// By command, how often a device got it.
    given: BTreeMap<String, usize>,
    changes: Changes,
}

/// The gateway's stream of changes, over however many connections.
struct Changes {
    url: String,
    token: String,
    live: Events,
    told: Vec<Event>,
}

impl Changes {
    fn begin(url: String, token: String) -> Self {
        let live = tokio::task::block_in_place(|| listen(&url, &token, None));
        Self {
            url,
            token,
            live,
            told: Vec::new(),
        }
    }

    /// Hears until that is told of the command.
    fn until(&mut self, id: &str, state: &str) {
        while !self
            .told
            .iter()
            .any(|told| told.kind == state && told.data["id"] == id)
        {
            self.told.push(tokio::task::block_in_place(|| self.live.next()));
        }
    }

    /// Goes on where it was, at a gateway that was started again.
    fn again(&mut self) {
        let last = self.told.last().map(|told| told.id);
        self.live = tokio::task::block_in_place(|| listen(&self.url, &self.token, last));
    }
}

impl Whole {
    async fn start() -> Self {
        let house = House::start().await;
        let mut tokens = Vec::new();
        for thing in ["lamp", "pump"] {
            house.lamp(thing).await;
            tokens.push(house.credential(thing).await);
        }
        let stack = &house.pipeline.stack;
        let second = stack.start_copy("bridge").await.unwrap();
        let url = format!("{}/commands/events", stack.env("GATEWAY_URL"));
        let token = stack.env("GATEWAY_TOKEN").to_owned();
        Self {
            tokens: tokens.try_into().unwrap(),
            second,
            given: BTreeMap::new(),
            changes: Changes::begin(url, token),
            house,
        }
    }

    fn told_to(&self, bridge: &str, variable: &str) -> String {
        self.house.pipeline.stack.told(bridge, variable).unwrap()
    }

    /// The lamp, subscribed to its commands at a bridge.
    async fn lamp(&self, bridge: &str) -> Device {
        let address = self.told_to(bridge, "TELLTALE_MQTT_LISTEN");
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let end = tokio::time::Instant::now() + SOON;
        let mut lamp = loop {
            match Device::at((Ipv4Addr::LOCALHOST, port), &self.tokens[0], "lamp").await {
                (lamp, 0) => break lamp,
                // A bridge that has only just begun.
                (_, BUSY) => assert!(tokio::time::Instant::now() < end, "{bridge} is busy for ever"),
                (_, reason) => panic!("{bridge} answers {reason}"),
            }
        };
        let granted = lamp.subscribe("things/lamp/commands/+", QoS::AtLeastOnce).await;
        assert_eq!(granted, 1);
        lamp
    }

    /// That command is what the lamp gets next; it says that it has it.
    async fn takes(&mut self, lamp: &mut Device, id: &str) {
        let got = lamp.command().await;
        assert_eq!(got.id(), id);
        *self.given.entry(id.to_owned()).or_default() += 1;
        lamp.confirm(&got).await;
        self.house.row(id, "acknowledged").await;
    }

    /// While its device is away: asked for twice, expired, taken back, refused; and actuate and the gateway are killed.
    async fn before_anyone_is_there(&mut self) -> Vec<(String, Vec<&'static str>)> {
        let house = &self.house;
        let offline = house.invoke(ON, "offline", "true").await;
        assert_eq!(house.invoke(ON, "offline", "true").await, offline);
        let expired = house
            .invoke("/things/lamp/actions/reset?expires=1s", "expired", "")
            .await;
        let cancelled = house.invoke(ON, "cancelled", "false").await;
        let (_, waits, _) = crate::commands_life::entry(&house.bucket().await, "lamp", &cancelled).await;
        let one = format!("/things/lamp/commands/{cancelled}");
        assert_eq!(house.ask("DELETE", &one, &[], "").await.status, 200);
        // The id of one that is over, past the stream's own memory.
        house.again(&waits).await;
        let refused = "lamp:refused".to_owned();
        let send = ["command", "send", "lamp", "explode", "--key", "refused", "--wait"];
        assert_eq!(house.pipeline.telltale(&send).await.status.code(), Some(1));
        let never = house
            .invoke("/things/pump/actions/reset?expires=1h", "http", "")
            .await;
        for (id, state) in [(&refused, "failed"), (&expired, "expired"), (&never, "queued")] {
            self.changes.until(id, state);
        }
        tokio::join!(
            house.pipeline.kill("actuate", SOON),
            house.pipeline.kill("gateway", SOON)
        );
        self.changes.again();
        vec![
            (offline, WELL.to_vec()),
            (expired, vec!["queued", "expired"]),
            (cancelled, vec!["queued", "cancelled"]),
            (refused, vec!["failed"]),
            (never, vec!["queued", "sent", "succeeded"]),
        ]
    }

    /// The lamp comes, its bridge is killed before it answers, and it goes on at the other; there and back again.
    async fn a_session_moves(&mut self, offline: &str) -> (Device, Vec<(String, Vec<&'static str>)>) {
        let mut lamp = self.lamp("bridge").await;
        self.takes(&mut lamp, offline).await;
        self.house.pipeline.stack.kill("bridge").unwrap();
        let mut lamp = self.lamp(&self.second).await;
        assert_eq!(lamp.answer(offline, DONE).await, 0);
        assert_eq!(lamp.answer(offline, DONE).await, KNOWN, "it answers twice");
        let moved = self.house.invoke(RESET, "moved", "").await;
        self.takes(&mut lamp, &moved).await;
        self.house.pipeline.stack.ready("bridge", SOON).await.unwrap();
        let mut back = self.lamp("bridge").await;
        let next = self.house.invoke(ON, "next", "true").await;
        self.takes(&mut back, &next).await;
        assert!(
            lamp.is_quiet(Duration::from_millis(300)).await,
            "the older session gets nothing more"
        );
        assert_eq!(back.answer(&next, DONE).await, 0);
        assert_eq!(
            back.answer(&moved, r#"{"state":"failed","problem":"stuck"}"#)
                .await,
            0
        );
        let failed = vec!["queued", "sent", "acknowledged", "failed"];
        (back, vec![(moved, failed), (next, WELL.to_vec())])
    }

    /// The broker is killed while the lamp has one command, and it never answers another.
    async fn the_broker_goes_down(&mut self, mut lamp: Device) -> Vec<(String, Vec<&'static str>)> {
        let through = self.house.invoke(RESET, "through", "").await;
        self.takes(&mut lamp, &through).await;
        self.house.pipeline.kill("nats", SOON).await;
        let end = tokio::time::Instant::now() + SOON;
        while ![0, KNOWN].contains(&lamp.answer(&through, DONE).await) {
            assert!(
                tokio::time::Instant::now() < end,
                "the bridge takes answers again"
            );
        }
        self.house.pipeline.stack.ready("gateway", SOON).await.unwrap();
        self.changes.again();
        let silent = self
            .house
            .invoke("/things/lamp/actions/reset?expires=2s", "silent", "")
            .await;
        self.takes(&mut lamp, &silent).await;
        let unknown = vec!["queued", "sent", "acknowledged", "unknown"];
        vec![(through, WELL.to_vec()), (silent, unknown)]
    }

    /// The pump asks at the second bridge for what waits for it, and answers twice.
    async fn the_pump_asks(&mut self, id: &str) {
        let address = self.told_to(&self.second, "TELLTALE_HTTP_LISTEN");
        let pump = Client::new(format!("http://{address}"), Some(self.tokens[1].clone()));
        let (status, body) = asked(&pump, "/things/pump/commands?wait=15s").await;
        assert_eq!(
            (status, body["commands"][0]["id"].as_str()),
            (200, Some(id)),
            "{body}"
        );
        *self.given.entry(id.to_owned()).or_default() += 1;
        assert_eq!(answered(&pump, "pump", id, DONE).await, 202);
        assert_eq!(answered(&pump, "pump", id, DONE).await, 410);
    }

    /// What SQL, the stream and the devices tell of each command is what is expected.
    async fn all_agree(&mut self, expected: &[(String, Vec<&'static str>)]) {
        let rank = |state: &str| {
            WELL.iter()
                .position(|known| *known == state)
                .unwrap_or(WELL.len())
        };
        for (id, states) in expected {
            let end = *states.last().unwrap();
            let row = self.house.row(id, end).await;
            self.changes.until(id, end);
            let given = self.given.get(id).copied().unwrap_or_default();
            assert_eq!(row["attempts"], given, "{id}: {row}");
            for (column, state) in [
                ("queued", "queued"),
                ("sent", "sent"),
                ("acknowledged", "acknowledged"),
            ] {
                assert_eq!(
                    row[column].is_string(),
                    states.contains(&state),
                    "{id} {column}: {row}"
                );
            }
            assert!(row["ended"].is_string(), "{row}");
        }
        let on_the_wire = self.house.stream().await;
        let ids: BTreeSet<&String> = expected.iter().map(|(id, _)| id).collect();
        assert_eq!(on_the_wire.keys().collect::<BTreeSet<_>>(), ids);
        for (id, states) in expected {
            // That it was queued may be told after it was sent: who tells it is another.
            let mut told = on_the_wire[id].clone();
            told.sort_by_key(|state| rank(state));
            assert_eq!(&told, states, "{id}");
            let mut changes: Vec<&str> = Vec::new();
            for change in self
                .changes
                .told
                .iter()
                .filter(|change| change.data["id"] == **id)
            {
                changes.push(&change.kind);
            }
            assert_eq!(
                changes, on_the_wire[id],
                "{id}: the gateway's stream and the broker's"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_commands_sql_the_stream_and_the_devices_agree() {
    let mut whole = Whole::start().await;
    let mut expected = whole.before_anyone_is_there().await;
    let (offline, http) = (expected[0].0.clone(), expected[4].0.clone());
    let (lamp, moved) = whole.a_session_moves(&offline).await;
    expected.extend(moved);
    whole.the_pump_asks(&http).await;
    expected.extend(whole.the_broker_goes_down(lamp).await);
    whole.all_agree(&expected).await;
}
