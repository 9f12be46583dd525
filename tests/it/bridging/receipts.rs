//! What is accepted is on its stream, and what is refused is nowhere.
use super::{device::Device, site::Site};
use rmqtt_codec::v5;
use std::time::Duration;
use telltale_nats::{
    async_nats::{HeaderValue, jetstream::message::StreamMessage},
    header, seal,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

const JSON: (&str, &str) = ("content-type", "application/json");
const OWN: &str = "/things/lamp/readings";

/// Path, token, headers, body, and the status of the answer.
type Case<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)], &'a [u8], u16);

fn value<'a>(message: &'a StreamMessage, name: &str) -> Option<&'a str> {
    message.headers.get(name).map(HeaderValue::as_str)
}

#[tokio::test]
async fn the_same_reading_over_http_and_mqtt_is_the_same_message_but_for_the_protocol() {
    let site = Site::start().await;
    let payload = br#"{"temperature":21.5}"#;
    let headers = [JSON, ("idempotency-key", "K-1")];
    let answer = site
        .post(
            "/things/urn:lamp%2F1/readings",
            Some(&site.gateway),
            &headers,
            payload,
        )
        .await;
    assert_eq!(
        (answer.status, &answer.body),
        (202, &serde_json::json!({"id": "urn:lamp/1:K-1"}))
    );
    let mut device = Device::admitted(&site, &site.gateway).await;
    device
        .publish("things/urn:lamp%2F1/readings", 1, Some("K-1"), payload)
        .await;
    assert_eq!(device.puback().await, (1, 0));
    let (http, mqtt) = (site.message("RAW", 1).await, site.message("RAW", 2).await);
    assert_eq!(http.subject.as_str(), "raw.local.urn=3Alamp=2F1");
    assert_eq!(http.subject, mqtt.subject);
    assert_eq!(
        (&http.payload[..], &mqtt.payload[..]),
        (payload.as_slice(), payload.as_slice())
    );
    for name in [
        header::ID,
        header::PUBLISHER,
        header::BACKFILL,
        header::CONTENT_TYPE,
    ] {
        assert!(value(&http, name).is_some(), "{name}");
        assert_eq!(value(&http, name), value(&mqtt, name), "{name}");
    }
    assert_eq!(
        (value(&http, header::PROTOCOL), value(&mqtt, header::PROTOCOL)),
        (Some("http"), Some("mqtt"))
    );
    for message in [&http, &mqtt] {
        assert!(seal::verify(
            &site.key,
            &message.subject,
            |name| value(message, name),
            &message.payload
        ));
        assert_eq!(
            message.headers.len(),
            7,
            "no header but ours: {:?}",
            message.headers
        );
    }
}

#[tokio::test]
async fn what_http_refuses_has_its_status_and_leaves_nothing() {
    let site = Site::start().await;
    let lamp = Some(site.lamp.as_str());
    let big = vec![b' '; 256 * 1024 + 1];
    let wrong = format!("{}x", site.lamp);
    let cases: [Case<'_>; 16] = [
        (OWN, None, &[JSON], b"{}", 401),
        (OWN, Some(&wrong), &[JSON], b"{}", 401),
        (OWN, Some("nobody.secret"), &[JSON], b"{}", 401),
        ("/things/other/readings", lamp, &[JSON], b"{}", 403),
        ("/readings", lamp, &[JSON], b"{}", 403),
        ("/things/_pack/readings", lamp, &[JSON], b"{}", 404),
        ("/things/a%00b/readings", lamp, &[JSON], b"{}", 404),
        ("/things/%FF/readings", lamp, &[JSON], b"{}", 404),
        ("/things/lamp", lamp, &[JSON], b"{}", 404),
        (OWN, lamp, &[JSON], &big, 413),
        ("/things/lamp/events/on", lamp, &[JSON], &big[..=16 * 1024], 413),
        (OWN, lamp, &[("content-type", "text/html")], b"{}", 415),
        (OWN, lamp, &[JSON, ("content-encoding", "gzip")], b"{}", 415),
        (OWN, lamp, &[JSON, ("idempotency-key", "a b")], b"{}", 400),
        ("/things/lamp/events/on", lamp, &[JSON], b"[]", 400),
        ("/things/lamp/events/on", lamp, &[JSON], b"{\"a\":1,\"a\":2}", 400),
    ];
    for (path, token, headers, body, status) in cases {
        let answer = site.post(path, token, headers, body).await;
        assert_eq!(
            answer.status, status,
            "{path} {token:?} {headers:?} {}",
            answer.body
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
        assert_eq!(answer.body["status"], status);
        assert_eq!(
            answer.header("www-authenticate").is_some(),
            status == 401,
            "{path}"
        );
    }
    let got = site.try_get(OWN).await;
    assert_eq!(got, Some(405));
    assert_eq!(site.count("RAW").await, 0);
    let events = site.messages("EVENTS").await;
    assert!(
        events
            .iter()
            .all(|event| event.subject.ends_with(".access_refused")),
        "{events:?}"
    );
}

#[tokio::test]
async fn what_only_decoding_can_tell_is_kept() {
    let site = Site::start().await;
    for (sequence, body) in (1..).zip(["", "{", "\u{0}", "[[[", "{\"a\":1e400}"]) {
        let answer = site.post(OWN, Some(&site.lamp), &[], body).await;
        assert_eq!(answer.status, 202, "{body}");
        let message = site.message("RAW", sequence).await;
        assert_eq!(message.payload, body);
        assert_eq!(value(&message, header::ID), answer.body["id"].as_str());
    }
    let event = r#"{"specversion":"1.0","id":"E-7","type":"x","source":"/x","data":{"t":1}}"#;
    let answer = site
        .post(
            OWN,
            Some(&site.lamp),
            &[("content-type", "application/cloudevents+json")],
            event,
        )
        .await;
    assert_eq!(answer.body["id"], "lamp:E-7");
}

#[tokio::test]
async fn what_mqtt_refuses_has_its_reason_and_leaves_nothing() {
    let site = Site::start().await;
    for (token, reason) in [("lamp.wrong", 0x86), ("nobody.secret", 0x86), ("#.secret", 0x86)] {
        let (mut device, found) = Device::connect(&site, token, "x").await;
        assert_eq!(found, reason, "{token}");
        assert!(device.hear().await.is_none());
    }
    let mut device = Device::admitted(&site, &site.lamp).await;
    let big = vec![b' '; 256 * 1024 + 1];
    let cases: [(&str, &[u8], u8); 5] = [
        ("things/other/readings", b"{}", 0x87),
        ("readings", b"{}", 0x87),
        ("things/_pack/readings", b"{}", 0x90),
        ("$SYS/x", b"{}", 0x90),
        ("things/lamp/readings", &big, 0x83),
    ];
    for (id, (topic, payload, reason)) in (1..).zip(cases) {
        device.publish(topic, id, None, payload).await;
        assert_eq!(device.puback().await, (id, reason), "{topic}");
    }
    assert_eq!(site.count("RAW").await, 0);
}

#[tokio::test]
async fn a_gateways_pack_is_split_and_an_event_is_stored_once() {
    let site = Site::start().await;
    let pack = r#"[{"n":"a/t","u":"Cel","v":1},{"n":"b:t","u":"Cel","v":2}]"#;
    let senml = [
        ("content-type", "application/senml+json"),
        ("idempotency-key", "P"),
    ];
    let answer = site.post("/readings", Some(&site.gateway), &senml, pack).await;
    assert_eq!(
        (answer.status, &answer.body),
        (202, &serde_json::json!({"ids": ["a:P", "b:P"]}))
    );
    assert_eq!(site.count("RAW").await, 2);
    let bad = r#"[{"n":"a/t","u":"Cel","v":1},{"n":"t","v":"x"}]"#;
    let answer = site.post("/readings", Some(&site.gateway), &senml, bad).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body["errors"][0]["pointer"]
            .as_str()
            .unwrap()
            .starts_with("/1"),
        "{}",
        answer.body
    );
    assert_eq!(site.count("RAW").await, 2);
    for _ in 0..2 {
        let headers = [JSON, ("idempotency-key", "7")];
        let answer = site
            .post(
                "/things/lamp/events/door_open",
                Some(&site.lamp),
                &headers,
                r#"{"side":"left"}"#,
            )
            .await;
        assert_eq!((answer.status, answer.body["id"].as_str()), (202, Some("lamp:7")));
    }
    assert_eq!(site.count("EVENTS").await, 1);
    assert_eq!(
        site.message("EVENTS", 1).await.subject.as_str(),
        "event.local.lamp.door_open"
    );
}

#[tokio::test]
async fn a_second_session_takes_over_and_a_revoked_credential_ends_it() {
    let site = Site::start().await;
    let mut first = Device::admitted(&site, &site.lamp).await;
    let mut second = Device::admitted(&site, &site.lamp).await;
    assert_eq!(first.dismissed().await, 0x8e);
    second.publish("things/lamp/readings", 1, None, b"{}").await;
    assert_eq!(second.puback().await, (1, 0));
    assert_eq!(site.post(OWN, Some(&site.lamp), &[JSON], "{}").await.status, 202);
    site.revoke("lamp").await;
    let dismissed = timeout(Duration::from_secs(2), second.dismissed()).await;
    assert_eq!(dismissed.expect("within two seconds"), 0x87);
    assert_eq!(site.post(OWN, Some(&site.lamp), &[JSON], "{}").await.status, 401);
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let site = Site::start().await;
    for at in [site.http(), site.mqtt()] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "closed within fifteen seconds");
    }
    let mut device = Device::admitted(&site, &site.lamp).await;
    device.say(v5::Packet::PingRequest).await;
    assert!(matches!(device.hear().await, Some(v5::Packet::PingResponse)));
}
