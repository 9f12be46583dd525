//! The broker is full, silent or gone, or the bridge is told to stop: every device hears of it.
use super::{device::Device, site::Site};
use rmqtt_codec::v5;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::timeout;

const OWN: &str = "/things/lamp/readings";
const TOPIC: &str = "things/lamp/readings";
/// No answer yet after this time: as good a proof of silence as waiting can give.
const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_puback_waits_for_the_broker_and_a_ping_does_not() {
    let site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    site.broker.signal(Signal::STOP);
    device.publish(TOPIC, 1, None, b"{}").await;
    device.say(v5::Packet::PingRequest).await;
    assert!(matches!(device.hear().await, Some(v5::Packet::PingResponse)));
    assert!(
        timeout(A_WHILE, device.hear()).await.is_err(),
        "no PUBACK while the broker stands still"
    );
    site.broker.signal(Signal::CONT);
    assert_eq!(device.puback().await, (1, 0));
    assert_eq!(site.count("RAW").await, 1);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_said_over_both_protocols_and_so_is_its_return() {
    let mut site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    assert_eq!(site.post(OWN, Some(&site.lamp), &[], "{}").await.status, 202);
    site.broker.end();
    let answer = site.post(OWN, Some(&site.lamp), &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    device.publish(TOPIC, 1, None, b"{}").await;
    assert_eq!(device.puback().await, (1, 0x80));
    site.broker.restart().await;
    let back = async {
        while site.post(OWN, Some(&site.lamp), &[], "{}").await.status != 202 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), back)
        .await
        .expect("accepts again");
    device.publish(TOPIC, 2, None, b"{}").await;
    assert_eq!(device.puback().await, (2, 0));
}

#[tokio::test]
async fn a_broker_that_stands_still_is_said_in_time() {
    let site = Site::start().await;
    assert_eq!(site.post(OWN, Some(&site.lamp), &[], "{}").await.status, 202);
    site.broker.signal(Signal::STOP);
    let answer = timeout(
        Duration::from_secs(12),
        site.post(OWN, Some(&site.lamp), &[], "{}"),
    )
    .await;
    site.broker.signal(Signal::CONT);
    assert_eq!(answer.expect("an answer in time").status, 503);
}

#[tokio::test]
async fn a_full_stream_is_said_with_the_time_to_come_back() {
    let site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    let js = site.broker.context().await;
    let config = site.stream("RAW").await.get_info().await.unwrap().config;
    let mut full = config.clone();
    full.max_messages = 1;
    js.update_stream(full).await.unwrap();
    assert_eq!(site.post(OWN, Some(&site.lamp), &[], "{}").await.status, 202);
    let answer = site.post(OWN, Some(&site.lamp), &[], "{}").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("5")),
        "{}",
        answer.body
    );
    device.publish(TOPIC, 1, None, b"{}").await;
    assert_eq!(device.puback().await, (1, 0x97));
    assert_eq!(site.count("RAW").await, 1);
    js.update_stream(config).await.unwrap();
    device.publish(TOPIC, 2, None, b"{}").await;
    assert_eq!(device.puback().await, (2, 0));
}

#[tokio::test]
async fn a_stopped_bridge_finishes_what_is_in_hand() {
    let mut site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    site.broker.signal(Signal::STOP);
    device.publish(TOPIC, 1, None, b"{}").await;
    device.say(v5::Packet::PingRequest).await;
    assert!(matches!(device.hear().await, Some(v5::Packet::PingResponse)));
    site.signal(Signal::TERM);
    assert!(
        timeout(A_WHILE, device.hear()).await.is_err(),
        "it waits for the broker"
    );
    site.broker.signal(Signal::CONT);
    assert_eq!(device.puback().await, (1, 0));
    assert_eq!(device.dismissed().await, 0x8b);
    assert!(site.ended().await.success());
    assert_eq!(site.count("RAW").await, 1);
}

#[tokio::test]
async fn many_devices_at_once_are_all_told_and_all_stored() {
    let site = Site::start().await;
    let mut device = Device::admitted(&site, &site.gateway).await;
    for id in 1..=250 {
        device
            .publish(&format!("things/t{}/readings", id % 7), id, None, b"{\"v\":1}")
            .await;
    }
    for id in 1..=250 {
        assert_eq!(device.puback().await, (id, 0));
    }
    assert_eq!(site.count("RAW").await, 250);
}
