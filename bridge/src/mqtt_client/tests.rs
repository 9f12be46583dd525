//! A session against a broker that this test plays, packet by packet.
use super::{
    State,
    codec::{Codec, FILTERS, Hello, Version},
    commands::Heard,
    ids::Ids,
    session::{Keep, Session},
    window::Window,
};
use crate::{
    keyring::Ticket,
    metrics::Protocol,
    testing::{House, value},
    uplink::Busy,
};
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use rmqtt_codec::{
    types::{Publish, QoS},
    v5,
};
use std::{net::Ipv4Addr, num::NonZeroU16, time::Duration};
use telltale_nats::header;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};
use tokio_util::{
    codec::{Decoder as _, Encoder as _},
    sync::CancellationToken,
};

const TOPIC: &str = "things/t/readings";
/// As good a proof of silence as waiting can give.
const A_WHILE: Duration = Duration::from_millis(200);

struct Broker {
    stream: DuplexStream,
    buffer: BytesMut,
    codec: v5::Codec,
}

impl Broker {
    async fn say(&mut self, packet: v5::Packet) {
        let mut out = BytesMut::new();
        self.codec.encode(packet, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn hear(&mut self) -> v5::Packet {
        let hear = async {
            loop {
                if let Some((packet, _)) = self.codec.decode(&mut self.buffer).unwrap() {
                    return packet;
                }
                assert!(
                    self.stream.read_buf(&mut self.buffer).await.unwrap() > 0,
                    "closed"
                );
            }
        };
        timeout(Duration::from_secs(10), hear).await.expect("it speaks")
    }

    /// Lets the bridge in, and gives it what it asks for.
    async fn admit(&mut self, knows_us: bool) {
        let v5::Packet::Connect(connect) = self.hear().await else {
            panic!("no CONNECT");
        };
        assert!(!connect.clean_start && connect.session_expiry_interval_secs == u32::MAX);
        let ack = v5::ConnectAck {
            session_present: knows_us,
            ..v5::ConnectAck::default()
        };
        self.say(v5::Packet::ConnectAck(Box::new(ack))).await;
        let v5::Packet::Subscribe(subscribe) = self.hear().await else {
            panic!("no SUBSCRIBE");
        };
        let filters: Vec<_> = subscribe
            .topic_filters
            .iter()
            .map(|(filter, _)| &**filter)
            .collect();
        assert_eq!(filters, FILTERS);
        let ack = v5::SubscribeAck {
            packet_id: subscribe.packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: vec![v5::SubscribeAckReason::GrantedQos1; FILTERS.len()],
        };
        self.say(v5::Packet::SubscribeAck(ack)).await;
    }

    async fn publish(&mut self, topic: &str, id: u16, is_again: bool, payload: &[u8]) {
        let message = Publish {
            dup: is_again,
            retain: false,
            qos: QoS::AtLeastOnce,
            topic: topic.into(),
            packet_id: NonZeroU16::new(id),
            payload: Bytes::copy_from_slice(payload),
            properties: Some(v5::PublishProperties::default()),
        };
        self.say(message.into()).await;
    }

    async fn acknowledged(&mut self) -> u16 {
        match self.hear().await {
            v5::Packet::PublishAck(ack) => ack.packet_id.get(),
            other => panic!("no PUBACK: {other:?}"),
        }
    }
}

struct Client {
    house: House,
    ticket: Ticket,
    state: State,
}

impl Client {
    async fn new() -> Self {
        let house = House::new();
        let secret = house.gateway_secret.clone();
        let login = house.intake.login(
            Protocol::MqttClient,
            "gateway",
            secret.as_bytes(),
            Ipv4Addr::LOCALHOST.into(),
        );
        let ticket = login.await.unwrap();
        Self {
            house,
            ticket,
            state: State {
                ids: Ids::new("c", None),
                window: Window::default(),
                heard: Heard::default(),
            },
        }
    }

    /// One connection, for as long as the broker's part takes.
    async fn connected<T>(&mut self, is_kept: bool, part: impl AsyncFnOnce(Broker, &mut House) -> T) -> T {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let broker = Broker {
            stream: theirs,
            buffer: BytesMut::new(),
            codec: v5::Codec::default(),
        };
        let keep: Keep = Box::new(move |kept| {
            let put = async move {
                if is_kept {
                    return (kept, Ok(()));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                (kept, Err(anyhow::anyhow!("away")))
            };
            put.boxed()
        });
        let hello = Hello {
            client_id: "c".into(),
            user: None,
            password: None,
        };
        let (intake, stop) = (self.house.intake.clone(), CancellationToken::new());
        let (ticket, codec) = (self.ticket.clone(), Codec::new(Version::V5));
        let state = &mut self.state;
        let serve = async {
            let session = Session::open(ours, codec, hello, ticket, &intake, state).await?;
            session.run(&keep, || {}, &stop).await
        };
        tokio::select! {
            ended = serve => panic!("the session ends: {ended:?}"),
            done = part(broker, &mut self.house) => done,
        }
    }
}

fn id(message: &telltale_nats::publish::Outgoing) -> String {
    value(message, header::ID).unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_acknowledged_once_nats_has_it_and_in_its_turn() {
    let mut client = Client::new().await;
    let part = async |mut broker: Broker, house: &mut House| {
        broker.admit(false).await;
        broker.publish(TOPIC, 1, false, b"{}").await;
        broker.publish(TOPIC, 2, false, b"{}").await;
        let (first, second) = (house.next().await, house.next().await);
        house.settle(second, Ok(()));
        assert!(
            timeout(A_WHILE, broker.hear()).await.is_err(),
            "the first is not settled"
        );
        house.settle(first, Ok(()));
        assert_eq!((broker.acknowledged().await, broker.acknowledged().await), (1, 2));
    };
    client.connected(true, part).await;
}

#[tokio::test]
async fn what_nats_cannot_take_is_offered_again_under_its_id() {
    let mut client = Client::new().await;
    let part = async |mut broker: Broker, house: &mut House| {
        broker.admit(false).await;
        broker.publish(TOPIC, 1, false, b"{}").await;
        let mut seen = Vec::new();
        for _ in 0..2 {
            let job = house.next().await;
            seen.push(id(&job.messages[0]));
            house.settle(job, Err(Busy::Away));
            assert!(timeout(A_WHILE, broker.hear()).await.is_err(), "NATS has nothing");
        }
        seen.push(id(&house.confirm().await[0]));
        assert_eq!(broker.acknowledged().await, 1);
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    };
    client.connected(true, part).await;
}

#[tokio::test]
async fn what_is_delivered_again_has_its_id_unless_the_broker_has_forgotten_us() {
    let mut client = Client::new().await;
    let mut seen = Vec::new();
    for (knows_us, is_again) in [(false, false), (true, true), (true, false), (false, true)] {
        let part = async |mut broker: Broker, house: &mut House| {
            broker.admit(knows_us).await;
            broker.publish(TOPIC, 7, is_again, b"{}").await;
            // It ends before the broker hears of it.
            id(&house.confirm().await[0])
        };
        seen.push(client.connected(true, part).await);
    }
    assert_eq!(seen[0], seen[1], "delivered again");
    assert_ne!(seen[1], seen[2], "said again");
    assert_ne!(seen[2], seen[3], "another session");
}

#[tokio::test]
async fn what_is_wrong_is_acknowledged_and_goes_no_further() {
    let mut client = Client::new().await;
    let part = async |mut broker: Broker, house: &mut House| {
        broker.admit(false).await;
        broker.publish("things/_pack/readings", 1, false, b"{}").await;
        broker.publish("elsewhere", 2, false, b"{}").await;
        broker
            .publish(TOPIC, 3, false, &vec![b' '; crate::uplink::PAYLOAD_MAX + 1])
            .await;
        for id in 1..=3 {
            assert_eq!(broker.acknowledged().await, id);
        }
        assert!(house.is_idle());
    };
    client.connected(true, part).await;
}

#[tokio::test]
async fn nothing_goes_on_before_what_its_id_is_made_of_is_kept() {
    let mut client = Client::new().await;
    let part = async |mut broker: Broker, house: &mut House| {
        broker.admit(false).await;
        broker.publish(TOPIC, 1, false, b"{}").await;
        assert!(timeout(A_WHILE, broker.hear()).await.is_err());
        assert!(
            house.is_idle(),
            "a bridge that is killed now would not know the id again"
        );
    };
    client.connected(false, part).await;
}
