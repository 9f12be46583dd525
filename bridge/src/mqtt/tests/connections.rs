//! How connections begin and end.
use super::*;
use v3::ConnectAckReason::{BadUserNameOrPassword, NotAuthorized, UnacceptableProtocolVersion};

#[tokio::test]
async fn what_there_is_not_ends_a_session_of_mqtt_5_with_its_reason() {
    let properties = |properties| Publish {
        properties: Some(properties),
        ..to_lamp(1, true)
    };
    let cases: [(u8, v5::Packet); 9] = [
        (
            0x9b,
            Publish {
                qos: QoS::ExactlyOnce,
                ..to_lamp(1, true)
            }
            .into(),
        ),
        (
            0x9a,
            Publish {
                retain: true,
                ..to_lamp(1, true)
            }
            .into(),
        ),
        (0x90, publish("things/+/readings", 1, true).into()),
        (0x90, publish("things/lamp/#", 1, true).into()),
        (0x90, publish("things/lamp\0/readings", 1, true).into()),
        (0x90, publish("", 1, true).into()),
        (
            0x94,
            properties(v5::PublishProperties {
                topic_alias: Some(nz(1)),
                ..Default::default()
            })
            .into(),
        ),
        (
            0x82,
            Publish {
                dup: true,
                ..to_lamp(0, true)
            }
            .into(),
        ),
        (
            0x82,
            v5::Packet::PublishRelease(v5::PublishAck2 {
                packet_id: nz(9),
                reason_code: v5::PublishAck2Reason::Success,
                properties: vec![],
                reason_string: None,
            }),
        ),
    ];
    for (reason, packet) in cases {
        let mut site = Site::new();
        let mut device = site.v5().await;
        let shown = format!("{packet:?}");
        device.say(packet).await;
        assert_eq!(disconnect5(&mut device).await, reason, "{shown}");
        assert!(site.house.is_idle(), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_there_is_not_closes_a_session_of_mqtt_3_1_1() {
    let cases: [v3::Packet; 5] = [
        Publish {
            qos: QoS::ExactlyOnce,
            ..to_lamp(1, false)
        }
        .into(),
        Publish {
            retain: true,
            ..to_lamp(1, false)
        }
        .into(),
        publish("things/+/readings", 1, false).into(),
        v3::Packet::PublishReceived { packet_id: nz(3) },
        connack3(v3::ConnectAckReason::ConnectionAccepted),
    ];
    for packet in cases {
        let mut site = Site::new();
        let mut device = site.v3().await;
        let shown = format!("{packet:?}");
        device.say(packet).await;
        assert_eq!(device.hear().await, None, "{shown}");
        assert!(site.house.is_idle(), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_connect_and_broken_bytes_end_the_session() {
    let site = Site::new();
    let mut device = site.v5().await;
    device.say(site.connect5().into()).await;
    assert_eq!(disconnect5(&mut device).await, 0x82);
    for bytes in [
        [0xc0, 1, 0].as_slice(),
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x30, 0x80, 0x80, 0x80, 0x01, 0x00],
        &[0x32, 9, 0, 3, b'a', 0xff, b'b', 0, 1, 0, b'x'],
        &[0x36, 6, 0, 1, b'a', 0, 1, 0],
    ] {
        let mut device = site.v5().await;
        device.raw(bytes).await;
        assert!(disconnect5(&mut device).await >= 0x80, "{bytes:x?}");
    }
}

#[tokio::test]
async fn subscriptions_are_judged_filter_by_filter() {
    let site = Site::new();
    let mut old = site.v3().await;
    let topic_filters = vec![
        ("#".into(), QoS::AtMostOnce),
        ("things/lamp/commands/+".into(), QoS::ExactlyOnce),
        ("things/lamp/commands/#".into(), QoS::AtMostOnce),
        ("things/pillar/commands/+".into(), QoS::AtLeastOnce),
    ];
    old.say(v3::Packet::Subscribe {
        packet_id: nz(5),
        topic_filters,
    })
    .await;
    let status = vec![
        v3::SubscribeReturnCode::Failure,
        v3::SubscribeReturnCode::Success(QoS::AtLeastOnce),
        v3::SubscribeReturnCode::Success(QoS::AtMostOnce),
        v3::SubscribeReturnCode::Failure,
    ];
    assert_eq!(
        old.hear().await,
        Some(v3::Packet::SubscribeAck {
            packet_id: nz(5),
            status
        })
    );
    let mut device = site.v5().await;
    let subscribe = |filters: &[&str], id: Option<u32>| v5::Subscribe {
        packet_id: nz(7),
        id: id.and_then(std::num::NonZeroU32::new),
        user_properties: vec![],
        topic_filters: filters
            .iter()
            .map(|one| ((*one).into(), v5::SubscriptionOptions::default()))
            .collect(),
    };
    let own = "things/lamp/commands/+";
    for (packet, expected) in [
        (
            subscribe(&[own, "#", "things/pillar/commands/+", "$share/g/a"], None),
            vec![0, 0x8f, 0x87, 0x9e],
        ),
        (subscribe(&[own], Some(1)), vec![0xa1]),
    ] {
        device.say(v5::Packet::Subscribe(packet)).await;
        let Some(v5::Packet::SubscribeAck(ack)) = device.hear().await else {
            panic!("no SUBACK")
        };
        assert_eq!(ack.status.into_iter().map(u8::from).collect::<Vec<_>>(), expected);
    }
    device
        .say(v5::Packet::Unsubscribe(v5::Unsubscribe {
            packet_id: nz(6),
            user_properties: vec![],
            topic_filters: vec!["a".into(), own.into()],
        }))
        .await;
    let Some(v5::Packet::UnsubscribeAck(ack)) = device.hear().await else {
        panic!("no UNSUBACK")
    };
    assert_eq!(
        ack.status,
        [
            v5::UnsubscribeAckReason::NoSubscriptionExisted,
            v5::UnsubscribeAckReason::Success
        ]
    );
}

#[tokio::test]
async fn whoever_cannot_say_who_it_is_is_refused() {
    let site = Site::new();
    let with = |change: fn(&mut v3::Connect)| {
        let mut connect = site.connect3();
        change(&mut connect);
        connect
    };
    let will = |retain| v3::LastWill {
        qos: QoS::AtMostOnce,
        retain,
        topic: "w".into(),
        message: Bytes::new(),
    };
    let cases = [
        (with(|c| c.password = Some("guess".into())), BadUserNameOrPassword),
        (with(|c| c.password = None), BadUserNameOrPassword),
        (with(|c| c.username = None), BadUserNameOrPassword),
        (with(|c| c.client_id = "x".repeat(300).into()), NotAuthorized),
        (
            v3::Connect {
                last_will: Some(will(false)),
                ..site.connect3()
            },
            NotAuthorized,
        ),
    ];
    for (connect, code) in cases {
        let mut device = site.dial(v3::Codec::default());
        let shown = format!("{:?} {:?}", connect.username, connect.last_will);
        device.say(connect.into()).await;
        assert_eq!(device.hear().await, Some(connack3(code)), "{shown}");
        assert_eq!(device.hear().await, None);
    }
    for (bytes, code) in [
        (
            b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04abcd".as_slice(),
            UnacceptableProtocolVersion,
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00",
            UnacceptableProtocolVersion,
        ),
    ] {
        let mut device = site.dial(v3::Codec::default());
        device.raw(bytes).await;
        assert_eq!(device.hear().await, Some(connack3(code)), "{bytes:x?}");
        assert_eq!(device.hear().await, None);
    }
}

#[tokio::test]
async fn mqtt_5_is_told_why_it_is_refused() {
    let site = Site::new();
    let will = |retain, qos| v5::LastWill {
        qos,
        retain,
        topic: "w".into(),
        message: Bytes::new(),
        will_delay_interval_sec: None,
        correlation_data: None,
        message_expiry_interval: None,
        content_type: None,
        user_properties: vec![],
        is_utf8_payload: None,
        response_topic: None,
    };
    let with_will = |retain, qos| v5::Connect {
        last_will: Some(will(retain, qos)),
        ..site.connect5()
    };
    for (connect, reason) in [
        (
            v5::Connect {
                password: Some("guess".into()),
                ..site.connect5()
            },
            0x86,
        ),
        (
            v5::Connect {
                auth_method: Some("SCRAM".into()),
                ..site.connect5()
            },
            0x8c,
        ),
        (with_will(true, QoS::AtMostOnce), 0x9a),
        (with_will(false, QoS::ExactlyOnce), 0x9b),
        (with_will(false, QoS::AtLeastOnce), 0x83),
    ] {
        let mut device = site.dial(v5::Codec::default());
        device.say(connect.into()).await;
        let Some(v5::Packet::ConnectAck(ack)) = device.hear().await else {
            panic!("no CONNACK")
        };
        assert_eq!(u8::from(ack.reason_code), reason);
        assert!(ack.reason_string.is_some());
        assert!(device.hear().await.is_none());
    }
    let mut device = site.dial(v5::Codec::default());
    device
        .say(
            v5::Connect {
                client_id: "".into(),
                keep_alive: 0,
                ..site.connect5()
            }
            .into(),
        )
        .await;
    let Some(v5::Packet::ConnectAck(ack)) = device.hear().await else {
        panic!("no CONNACK")
    };
    assert!(ack.assigned_client_id.is_some_and(|id| !id.is_empty()));
    assert_eq!(ack.server_keepalive_sec, Some(3600));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_has_five_seconds_and_64_kib() {
    let site = Site::new();
    for bytes in [
        b"".as_slice(),
        b"\x10",
        b"\x10\x80\x80\x04\x00\x04MQTT\x04\x02",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x30\x03\x00\x01a",
        b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05\x02",
    ] {
        let mut device = site.dial(v5::Codec::default());
        device.raw(bytes).await;
        let begun = tokio::time::Instant::now();
        assert!(device.hear().await.is_none(), "{bytes:x?}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{bytes:x?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_for_one_and_a_half_keep_alives_ends_the_session() {
    let site = Site::new();
    let mut device = site.v5().await;
    let begun = tokio::time::Instant::now();
    let heard = timeout(
        Duration::from_secs(200),
        device.stream.read_buf(&mut device.buffer),
    )
    .await;
    assert!(heard.is_ok());
    assert_eq!(disconnect5(&mut device).await, 0x8d);
    assert!((Duration::from_secs(89)..=Duration::from_secs(91)).contains(&begun.elapsed()));
}

#[tokio::test]
async fn a_second_session_takes_over_and_a_third_device_is_left_alone() {
    let mut site = Site::new();
    let mut first = site.v5().await;
    let mut second = site.v5().await;
    assert_eq!(disconnect5(&mut first).await, 0x8e);
    let mut gateway = site.dial(v5::Codec::default());
    gateway
        .say(
            v5::Connect {
                username: Some("gateway".into()),
                password: Some(site.house.gateway_secret.clone().into()),
                ..site.connect5()
            }
            .into(),
        )
        .await;
    assert!(matches!(gateway.hear().await, Some(v5::Packet::ConnectAck(_))));
    second.say(to_lamp(1, true).into()).await;
    drop(site.house.confirm().await);
    assert_eq!(puback5(&mut second).await, (1, 0));
    gateway.say(publish("things/any/readings", 1, true).into()).await;
    assert_eq!(site.house.confirm().await[0].subject, "raw.local.any");
    assert_eq!(puback5(&mut gateway).await, (1, 0));
}

#[tokio::test]
async fn a_revoked_credential_ends_its_session() {
    let site = Site::new();
    let mut device = site.v5().await;
    site.house.keyring.revoke("lamp");
    assert_eq!(disconnect5(&mut device).await, 0x87);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_bridge_tells_what_is_confirmed_meanwhile() {
    let mut site = Site::new();
    let mut device = site.v5().await;
    device.say(to_lamp(1, true).into()).await;
    let job = site.house.next().await;
    site.stop.cancel();
    site.house.settle(job, Ok(()));
    assert_eq!(puback5(&mut device).await, (1, 0));
    assert_eq!(disconnect5(&mut device).await, 0x8b);
    site.tasks.close();
    timeout(WITHIN, site.tasks.wait()).await.unwrap();
}
