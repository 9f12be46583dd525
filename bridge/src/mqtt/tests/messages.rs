//! What becomes of messages.
use super::*;
use crate::{testing::value, uplink::Busy};
use telltale_nats::header;

#[tokio::test]
async fn a_puback_comes_after_the_confirmation_and_a_ping_is_answered_before_it() {
    let mut site = Site::new();
    let mut device = site.v3().await;
    device.say(to_lamp(7, false).into()).await;
    let job = site.house.next().await;
    device.say(v3::Packet::PingRequest).await;
    assert_eq!(device.hear().await, Some(v3::Packet::PingResponse));
    site.house.settle(job, Ok(()));
    assert_eq!(device.hear().await, Some(puback3(7)));
}

#[tokio::test]
async fn pubacks_keep_the_order_of_the_messages_refusals_too() {
    let mut site = Site::new();
    let mut device = site.v5().await;
    device.say(to_lamp(1, true).into()).await;
    for (id, topic) in [
        (2, "things/other/readings"),
        (3, "somewhere"),
        (4, "things/_x/readings"),
        (5, "readings"),
    ] {
        device.say(publish(topic, id, true).into()).await;
    }
    device.say(to_lamp(6, true).into()).await;
    device.say(v5::Packet::PingRequest).await;
    assert_eq!(device.hear().await, Some(v5::Packet::PingResponse));
    let (first, last) = (site.house.next().await, site.house.next().await);
    site.house.settle(last, Err(Busy::Full));
    site.house.settle(first, Ok(()));
    let mut found = Vec::new();
    for _ in 0..6 {
        found.push(puback5(&mut device).await);
    }
    assert_eq!(
        found,
        [(1, 0), (2, 0x87), (3, 0x90), (4, 0x90), (5, 0x87), (6, 0x97)]
    );
    assert!(site.house.is_idle());
}

#[tokio::test]
async fn content_type_and_id_of_mqtt_5_go_on_and_3_1_1_has_neither() {
    let mut site = Site::new();
    let mut device = site.v5().await;
    let mut message = to_lamp(1, true);
    message.properties = Some(v5::PublishProperties {
        content_type: Some("application/json".into()),
        user_properties: vec![("other".into(), "x".into()), ("id".into(), "K-1".into())],
        ..Default::default()
    });
    device.say(message.into()).await;
    let messages = site.house.confirm().await;
    assert_eq!(value(&messages[0], header::ID), Some("lamp:K-1"));
    assert_eq!(
        value(&messages[0], header::CONTENT_TYPE),
        Some("application/json")
    );
    assert_eq!(value(&messages[0], header::PROTOCOL), Some("mqtt"));
    assert_eq!(puback5(&mut device).await, (1, 0));
    let mut old = site.v3().await;
    old.say(to_lamp(1, false).into()).await;
    let messages = site.house.confirm().await;
    assert_eq!(value(&messages[0], header::CONTENT_TYPE), None);
    assert_eq!(old.hear().await, Some(puback3(1)));
}

#[tokio::test]
async fn wrong_content_bad_ids_and_large_payloads_have_their_reason() {
    let site = Site::new();
    let mut device = site.v5().await;
    let properties = |content_type: Option<&str>, id: Option<&str>| v5::PublishProperties {
        content_type: content_type.map(Into::into),
        user_properties: id.map(|id| ("id".into(), id.into())).into_iter().collect(),
        ..Default::default()
    };
    let cases = [
        (
            "things/lamp/readings",
            properties(Some("text/html"), None),
            2,
            0x99,
        ),
        ("things/lamp/readings", properties(None, Some("a b")), 2, 0x83),
        (
            "things/lamp/readings",
            properties(None, None),
            256 * 1024 + 1,
            0x83,
        ),
        (
            "things/lamp/events/on",
            properties(None, None),
            16 * 1024 + 1,
            0x83,
        ),
        ("things/lamp/events/on", properties(None, None), 2, 0x99),
    ];
    for (id, (topic, properties, size, reason)) in (1..).zip(cases) {
        let message = Publish {
            payload: Bytes::from(vec![b'['; size]),
            properties: Some(properties),
            ..publish(topic, id, true)
        };
        device.say(message.into()).await;
        assert_eq!(puback5(&mut device).await, (id, reason), "{topic} {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_3_1_1_is_a_late_close_without_puback() {
    for refused in ["things/other/readings", "nowhere"] {
        let site = Site::new();
        let mut device = site.v3().await;
        device.say(publish(refused, 1, false).into()).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(device.hear().await, None, "{refused}");
        let pause = begun.elapsed();
        assert!(
            (Duration::from_secs(1)..=Duration::from_secs(6)).contains(&pause),
            "{pause:?}"
        );
    }
    let mut site = Site::new();
    let mut device = site.v3().await;
    device.say(to_lamp(1, false).into()).await;
    device.say(to_lamp(2, false).into()).await;
    let (first, second) = (site.house.next().await, site.house.next().await);
    site.house.settle(second, Ok(()));
    site.house.settle(first, Err(Busy::Away));
    assert_eq!(device.hear().await, None, "no PUBACK may overtake a refusal");
}

#[tokio::test]
async fn a_packet_id_in_flight_is_published_once() {
    let mut site = Site::new();
    let mut device = site.v5().await;
    device.say(to_lamp(1, true).into()).await;
    device
        .say(
            Publish {
                dup: true,
                ..to_lamp(1, true)
            }
            .into(),
        )
        .await;
    drop(site.house.confirm().await);
    assert_eq!(puback5(&mut device).await, (1, 0));
    assert_eq!(puback5(&mut device).await, (1, 0x91));
    device.say(to_lamp(1, true).into()).await;
    drop(site.house.confirm().await);
    assert_eq!(puback5(&mut device).await, (1, 0));

    let mut old = site.v3().await;
    old.say(to_lamp(1, false).into()).await;
    old.say(
        Publish {
            dup: true,
            ..to_lamp(1, false)
        }
        .into(),
    )
    .await;
    drop(site.house.confirm().await);
    assert_eq!(old.hear().await, Some(puback3(1)));
    old.say(v3::Packet::PingRequest).await;
    assert_eq!(
        old.hear().await,
        Some(v3::Packet::PingResponse),
        "one PUBACK and no second"
    );
    assert!(site.house.is_idle());
}

#[tokio::test]
async fn qos_0_is_taken_without_a_word_and_dropped_without_one() {
    let mut site = Site::new();
    let mut device = site.v3().await;
    device
        .say(publish("things/other/readings", 0, false).into())
        .await;
    device.say(to_lamp(0, false).into()).await;
    assert_eq!(site.house.confirm().await[0].subject, "raw.local.lamp");
    device.say(v3::Packet::PingRequest).await;
    assert_eq!(device.hear().await, Some(v3::Packet::PingResponse));
    assert!(site.house.is_idle());
}

#[tokio::test]
async fn more_than_the_window_ends_mqtt_5_and_not_3_1_1() {
    let mut site = Site::new();
    let mut device = site.v5().await;
    for id in 1..=257 {
        device.say(to_lamp(id, true).into()).await;
    }
    assert_eq!(disconnect5(&mut device).await, 0x93);
    for _ in 0..256 {
        drop(site.house.confirm().await);
    }
    let mut old = site.v3().await;
    for id in 1..=2000 {
        old.say(to_lamp(id, false).into()).await;
    }
    for id in 1..=2000 {
        drop(site.house.confirm().await);
        assert_eq!(old.hear().await, Some(puback3(id)));
    }
}
