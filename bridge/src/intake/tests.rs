//! What the intake decides, and what it sends on.
use super::*;
use crate::testing::{House, seal_key, value};
use std::net::Ipv4Addr;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn ticket(house: &House, device: &str) -> Ticket {
    let secret = match device {
        "lamp" => &house.lamp_secret,
        _ => &house.gateway_secret,
    };
    house
        .intake
        .login(Protocol::Http, device, secret.as_bytes(), HERE)
        .await
        .unwrap()
}

fn uplink(ticket: &Ticket, topic: &str, content_type: Option<&str>, payload: &'static str) -> Uplink {
    Uplink {
        ticket: ticket.clone(),
        protocol: Protocol::Http,
        route: Route::parse(topic).unwrap(),
        content_type: content_type.map(Into::into),
        key: None,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

fn keyed(mut uplink: Uplink, key: &str) -> Uplink {
    uplink.key = Some(key.into());
    uplink
}

const JSON: Option<&str> = Some("application/json");

fn judged(ticket: &Ticket, topic: &str, content_type: Option<&str>, length: usize) -> Result<(), Refusal> {
    Intake::judge(ticket, &Route::parse(topic).unwrap(), content_type, None, length)
}

#[tokio::test]
async fn rights_and_sizes_are_judged_before_the_payload_comes() {
    let house = House::new();
    let (lamp, gateway) = (ticket(&house, "lamp").await, ticket(&house, "gateway").await);
    let (own, other, event) = (
        "things/lamp/readings",
        "things/other/readings",
        "things/lamp/events/on",
    );
    let forbidden = || Err(Refusal::Forbidden("other".into()));
    assert_eq!(judged(&lamp, own, JSON, PAYLOAD_MAX), Ok(()));
    assert_eq!(
        judged(&lamp, own, JSON, PAYLOAD_MAX + 1),
        Err(Refusal::TooLarge(PAYLOAD_MAX))
    );
    assert_eq!(judged(&lamp, event, JSON, EVENT_MAX), Ok(()));
    assert_eq!(
        judged(&lamp, event, JSON, EVENT_MAX + 1),
        Err(Refusal::TooLarge(EVENT_MAX))
    );
    assert_eq!(judged(&lamp, other, JSON, 2), forbidden());
    assert_eq!(judged(&lamp, other, JSON, PAYLOAD_MAX + 1), forbidden());
    assert_eq!(judged(&lamp, "readings", JSON, 2), Err(Refusal::NoGateway));
    assert_eq!(judged(&gateway, "readings", JSON, 2), Ok(()));
    assert_eq!(judged(&gateway, other, JSON, 2), Ok(()));
}

#[tokio::test]
async fn a_media_type_that_nothing_decodes_is_refused() {
    let house = House::new();
    let lamp = ticket(&house, "lamp").await;
    for (content_type, of_readings, of_event) in [
        (None, true, true),
        (JSON, true, true),
        (Some(""), true, true),
        (Some("application/json; charset=utf-8"), true, true),
        (Some("application/x-www-form-urlencoded"), true, true),
        (Some("application/senml+cbor"), true, false),
        (Some("application/cloudevents+json"), true, false),
        (Some("multipart/form-data; boundary=x"), false, false),
        (Some("text/html"), false, false),
        (Some("application/json\r\nX: y"), false, false),
        (Some("application/json; ü"), false, false),
    ] {
        let expected = |is_decoded| {
            if is_decoded {
                Ok(())
            } else {
                Err(Refusal::MediaType)
            }
        };
        let readings = judged(&lamp, "things/lamp/readings", content_type, 2);
        assert_eq!(readings, expected(of_readings), "{content_type:?}");
        let event = judged(&lamp, "things/lamp/events/on", content_type, 2);
        assert_eq!(event, expected(of_event), "{content_type:?}");
    }
}

#[tokio::test]
async fn an_id_that_cannot_be_one_is_refused() {
    let house = House::new();
    let lamp = ticket(&house, "lamp").await;
    let route = Route::parse("things/lamp/readings").unwrap();
    let long = "x".repeat(129);
    for key in ["", "a b", "a\r\nb", "ü", &long] {
        assert_eq!(
            Intake::judge(&lamp, &route, None, Some(key), 2),
            Err(Refusal::Key),
            "{key}"
        );
    }
    assert_eq!(Intake::judge(&lamp, &route, None, Some("K-1"), 2), Ok(()));
}

#[tokio::test]
async fn a_wrong_secret_a_strange_device_and_a_revoked_one_stay_outside() {
    let house = House::new();
    let lamp = ticket(&house, "lamp").await;
    for (device, secret) in [
        ("lamp", "guess"),
        ("lamp", ""),
        ("gateway", house.lamp_secret.as_str()),
    ] {
        let login = house
            .intake
            .login(Protocol::Http, device, secret.as_bytes(), HERE)
            .await;
        assert!(matches!(login.unwrap_err(), LoginError::Wrong(_)), "{device}");
    }
    house.keyring.revoke("lamp");
    assert!(lamp.is_revoked());
    let route = Route::parse("things/lamp/readings").unwrap();
    assert_eq!(Intake::judge(&lamp, &route, None, None, 2), Err(Refusal::Revoked));
}

#[tokio::test]
async fn a_rotated_secret_opens_beside_the_old_one_until_that_ends() {
    let house = House::new();
    let old = ticket(&house, "lamp").await;
    let mut credential = house.lamp.clone();
    let secret = credential.rotate(false);
    house.keyring.revise(&credential);
    assert!(!old.is_revoked());
    let login = |secret: String| {
        let intake = house.intake.clone();
        async move {
            intake
                .login(Protocol::Http, "lamp", secret.as_bytes(), HERE)
                .await
        }
    };
    assert!(login(secret.clone()).await.is_ok() && login(house.lamp_secret.clone()).await.is_ok());
    drop(credential.rotate(false));
    house.keyring.revise(&credential);
    assert!(old.is_revoked());
    assert!(login(secret).await.is_ok());
    let refused = login(house.lamp_secret.clone()).await.unwrap_err();
    assert_eq!(refused, LoginError::Wrong(Why::Secret));
}

#[tokio::test]
async fn an_event_that_only_we_raise_is_refused_to_devices() {
    let house = House::new();
    let gateway = ticket(&house, "gateway").await;
    for name in OWN_EVENTS {
        let judged = judged(&gateway, &format!("things/lamp/events/{name}"), JSON, 2);
        assert_eq!(judged, Err(Refusal::OwnEvent(name.into())));
    }
}

#[tokio::test]
async fn who_is_refused_is_told_as_an_event_of_the_device_or_of_the_site() {
    let mut house = House::new();
    let lamp = ticket(&house, "lamp").await;
    for (device, secret) in [("lamp", "guess"), ("", "")] {
        let login = house
            .intake
            .login(Protocol::Mqtt, device, secret.as_bytes(), HERE);
        assert!(login.await.is_err());
    }
    let receipt = house
        .intake
        .accept(&uplink(&lamp, "things/other/readings", JSON, "{}"));
    assert_eq!(
        receipt.await,
        Receipt::Refused(Refusal::Forbidden("other".into()))
    );
    assert!(house.is_idle(), "nothing is written as another");
    let mut told: Vec<(String, Value)> = house
        .intake
        .notes(Instant::now(), false)
        .iter()
        .map(|note| {
            let envelope: Value = serde_json::from_slice(&note.payload).unwrap();
            assert!(check::envelope(Kind::Event, &envelope).is_empty(), "{envelope}");
            let detail = &envelope["data"]["detail"];
            let wanted = detail.get("wanted").cloned().unwrap_or_default();
            (
                note.subject.clone(),
                serde_json::json!([detail["reason"], wanted]),
            )
        })
        .collect();
    told.sort_by_key(|(subject, detail)| (subject.clone(), detail.to_string()));
    let (of_lamp, of_site) = (
        "event.local.lamp.access_refused".to_owned(),
        "event.local.local.access_refused".to_owned(),
    );
    assert_eq!(
        told,
        [
            (of_lamp.clone(), serde_json::json!(["forbidden", "other"])),
            (of_lamp, serde_json::json!(["secret", null])),
            (of_site, serde_json::json!(["missing", null])),
        ]
    );
}

#[tokio::test]
async fn a_thousand_guesses_do_not_keep_a_known_device_out() {
    let house = House::new();
    drop(ticket(&house, "lamp").await);
    let mut slowed = 0;
    for _ in 0..130 {
        let guess = house.intake.login(Protocol::Http, "lamp", b"guess", HERE).await;
        slowed += usize::from(matches!(guess, Err(LoginError::Slowed(_))));
    }
    assert!(slowed > 0, "guesses are slowed");
    drop(ticket(&house, "lamp").await);
}

#[tokio::test]
async fn readings_go_on_as_they_came_sealed_and_under_the_id_that_is_answered() {
    let mut house = House::new();
    let lamp = ticket(&house, "lamp").await;
    let payload = r#"{"temperature":21.5"#;
    let pending = house.intake.accept(&uplink(
        &lamp,
        "things/lamp/readings",
        Some("application/json"),
        payload,
    ));
    let messages = house.confirm().await;
    let Receipt::Accepted(ids) = pending.await else {
        panic!("not accepted")
    };
    let [message] = messages.as_slice() else {
        panic!("not one message")
    };
    assert_eq!(
        (message.subject.as_str(), message.stream),
        ("raw.local.lamp", "RAW")
    );
    assert_eq!(&message.payload[..], payload.as_bytes());
    assert_eq!(value(message, header::ID), Some(ids[0].as_str()));
    assert!(ids[0].starts_with("lamp:") && ids[0].len() == 5 + 26, "{ids:?}");
    assert_eq!(value(message, header::PUBLISHER), Some("lamp"));
    assert_eq!(value(message, header::PROTOCOL), Some("http"));
    assert_eq!(value(message, header::CONTENT_TYPE), Some("application/json"));
    assert_eq!(value(message, header::BACKFILL), None);
    assert_eq!(value(message, header::MSG_ID), None);
    let lookup = |name: &str| value(message, name);
    assert!(seal::verify(
        &seal_key(),
        &message.subject,
        lookup,
        &message.payload
    ));
}

#[tokio::test]
async fn the_right_to_backfill_travels_with_the_message() {
    let mut house = House::new();
    let gateway = ticket(&house, "gateway").await;
    drop(
        house
            .intake
            .accept(&uplink(&gateway, "things/urn:a/readings", None, "{}")),
    );
    let messages = house.confirm().await;
    assert_eq!(value(&messages[0], header::BACKFILL), Some("1"));
    assert_eq!(messages[0].subject, "raw.local.urn=3Aa");
    assert!(value(&messages[0], header::ID).unwrap().starts_with("urn:a:"));
}

#[tokio::test]
async fn the_devices_own_id_is_the_key() {
    let house = House::new();
    let lamp = ticket(&house, "lamp").await;
    let event = r#"{"specversion":"1.0","id":"E-7","type":"x","source":"/x","data":{"t":1}}"#;
    let spaced = r#"{"specversion":"1.0","id":"E 7","type":"x","source":"/x"}"#;
    let plain = r#"{"id":"E-7","t":1}"#;
    let broken = r#"{"specversion":"1.0","id":"E-7""#;
    let of = |content_type, payload| uplink(&lamp, "things/lamp/readings", content_type, payload);
    let (json, cloudevents) = (
        Some("application/json"),
        Some("application/cloudevents+json; charset=utf-8"),
    );
    assert_eq!(key_of(&keyed(of(json, plain), "K")), "K");
    assert_eq!(key_of(&keyed(of(cloudevents, event), "K")), "K");
    assert_eq!(key_of(&of(cloudevents, event)), "E-7");
    assert_eq!(key_of(&of(None, event)), "E-7");
    assert_eq!(
        key_of(&of(Some("application/x-www-form-urlencoded"), event)),
        "E-7"
    );
    for other in [
        of(json, event),
        of(None, plain),
        of(None, spaced),
        of(cloudevents, broken),
    ] {
        assert_eq!(key_of(&other).len(), 26, "a ULID for {:?}", other.content_type);
    }
}

#[tokio::test]
async fn a_pack_is_one_message_for_each_thing_and_one_bad_record_refuses_it() {
    let mut house = House::new();
    let gateway = ticket(&house, "gateway").await;
    let pack = r#"[{"n":"a/t","u":"Cel","v":1},{"n":"b/t","u":"Cel","v":2},{"n":"a/h","u":"%RH","v":3}]"#;
    let pending = house
        .intake
        .accept(&keyed(uplink(&gateway, "readings", None, pack), "P"));
    let messages = house.confirm().await;
    let Receipt::Accepted(mut ids) = pending.await else {
        panic!("not accepted")
    };
    ids.sort();
    assert_eq!(ids, ["a:P", "b:P"]);
    assert_eq!(messages.len(), 2);
    for message in &messages {
        assert_eq!(
            value(message, header::CONTENT_TYPE),
            Some("application/senml+json")
        );
        let records: Value = serde_json::from_slice(&message.payload).unwrap();
        assert!(records.is_array(), "{records}");
    }
    let bad = r#"[{"n":"a/t","u":"Cel","v":1},{"n":"b/t","v":"x"}]"#;
    let receipt = house
        .intake
        .accept(&uplink(&gateway, "readings", None, bad))
        .await;
    let Receipt::Refused(Refusal::Invalid { faults, .. }) = receipt else {
        panic!("{receipt:?}")
    };
    assert!(faults[0].pointer.starts_with("/1"), "{faults:?}");
    assert!(house.is_idle());
}

#[tokio::test]
async fn an_event_is_checked_and_becomes_an_envelope() {
    let mut house = House::new();
    let lamp = ticket(&house, "lamp").await;
    let good = keyed(
        uplink(&lamp, "things/lamp/events/door_open", None, r#"{"side":"left"}"#),
        "7",
    );
    let pending = house.intake.accept(&good);
    let messages = house.confirm().await;
    assert_eq!(pending.await, Receipt::Accepted(vec!["lamp:7".into()]));
    let message = &messages[0];
    assert_eq!(
        (message.subject.as_str(), message.stream),
        ("event.local.lamp.door_open", "EVENTS")
    );
    assert_eq!(value(message, header::MSG_ID), Some("lamp:7"));
    let envelope: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(envelope.data.name, "door_open");
    assert_eq!(envelope.data.detail["side"], "left");
    assert_eq!(
        (envelope.protocol.as_deref(), envelope.publisher.as_deref()),
        (Some("http"), Some("lamp"))
    );
    for (payload, reason) in [
        ("[1]", "shape"),
        ("{\"a\":1,\"a\":2}", "duplicate_key"),
        ("{", "json"),
        ("", "json"),
    ] {
        let receipt = house
            .intake
            .accept(&uplink(&lamp, "things/lamp/events/door_open", None, payload))
            .await;
        let Receipt::Refused(Refusal::Invalid {
            reason: found,
            faults,
        }) = receipt
        else {
            panic!("{receipt:?}")
        };
        assert_eq!(found, reason, "{payload}");
        assert!(!faults.is_empty());
    }
    assert!(house.is_idle());
}

#[tokio::test]
async fn the_receipt_follows_the_confirmation() {
    let mut house = House::new();
    let lamp = ticket(&house, "lamp").await;
    for busy in [Busy::Full, Busy::Away] {
        let mut pending = house
            .intake
            .accept(&uplink(&lamp, "things/lamp/readings", None, "{}"));
        let job = house.next().await;
        assert!(
            futures::FutureExt::now_or_never(&mut pending).is_none(),
            "no receipt before the confirmation"
        );
        house.settle(job, Err(busy));
        assert_eq!(pending.await, Receipt::Busy(busy));
    }
}

#[tokio::test]
async fn what_finds_no_room_is_told_so_at_once() {
    let house = House::new();
    let lamp = ticket(&house, "lamp").await;
    let big: &'static str = Box::leak("x".repeat(PAYLOAD_MAX).into_boxed_str());
    let mut waiting = Vec::new();
    let mut crowded = 0;
    for _ in 0..300 {
        let mut pending = house
            .intake
            .accept(&uplink(&lamp, "things/lamp/readings", None, big));
        match futures::FutureExt::now_or_never(&mut pending) {
            Some(receipt) => {
                assert_eq!(receipt, Receipt::Busy(Busy::Crowded));
                crowded += 1;
            }
            None => waiting.push(pending),
        }
    }
    assert!(crowded > 0 && waiting.len() >= 255, "{crowded} {}", waiting.len());
}
