//! Credentials that are given, rotated, widened and taken away while their devices are connected.
use super::{JSON, Line, OWN, WITHIN, documents, revoked, rotated, until};
use crate::bridging::{device::Device, site::Site};
use serde_json::json;
use std::{net::Ipv4Addr, time::Duration};
use telltale_nats::Name;
use telltale_runtime::identity::issue::{self, Wish};
use telltale_schemas::{Kind, check};
use telltale_tests::eventually_async;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_secret_is_rotated_while_its_device_stays_connected() {
    let site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    let second = rotated(&site, "lamp", Wish::default()).await.token().unwrap();
    until(&site, &second, 202).await;
    device.publish("things/lamp/readings", 1, None, b"{}").await;
    assert_eq!(device.puback().await, (1, 0), "the old secret's session goes on");
    until(&site, &site.lamp, 202).await;
    let third = rotated(&site, "lamp", Wish::default()).await.token().unwrap();
    let dismissed = timeout(SOON, device.dismissed()).await;
    assert_eq!(dismissed.expect("within two seconds"), 0x87);
    until(&site, &site.lamp, 401).await;
    until(&site, &second, 202).await;
    until(&site, &third, 202).await;
    let mut device = Device::admitted(&site, &third).await;
    let alone = Wish {
        alone: true,
        ..Wish::default()
    };
    let last = rotated(&site, "lamp", alone).await.token().unwrap();
    let dismissed = timeout(SOON, device.dismissed()).await;
    assert_eq!(dismissed.expect("within two seconds"), 0x87);
    for (token, status) in [(&second, 401), (&third, 401), (&last, 202)] {
        until(&site, token, status).await;
    }
}

#[tokio::test]
async fn a_credential_that_is_taken_away_ends_what_is_open_over_mqtt_and_http() {
    let site = Site::start().await;
    let mut device = Device::admitted(&site, &site.lamp).await;
    let mut line = Line::from(&site, Ipv4Addr::LOCALHOST).await;
    assert_eq!(line.post(OWN, &site.lamp).await, 202);
    assert!(revoked(&site, "lamp").await);
    let dismissed = timeout(SOON, device.dismissed()).await;
    assert_eq!(dismissed.expect("within two seconds"), 0x87);
    // The session was told, so the bridge knows: the connection that is open gets nothing through any more.
    assert_eq!(line.post(OWN, &site.lamp).await, 401);
    let (_, code) = Device::connect(&site, &site.lamp, "again").await;
    assert_eq!(code, 0x86);
    assert!(!revoked(&site, "lamp").await, "it is gone");
    let fresh = rotated(&site, "lamp", Wish::default()).await;
    assert!(fresh.is_new);
    until(&site, &fresh.token().unwrap(), 202).await;
    until(&site, &site.lamp, 401).await;
}

#[tokio::test]
async fn a_gateway_speaks_for_the_things_it_lists_and_for_no_other() {
    let site = Site::start().await;
    let wish = Wish {
        things: Some(vec!["lamp-1".into(), "lamp-2".into()]),
        gateway: Some(true),
        ..Wish::default()
    };
    let hub = rotated(&site, "hub", wish).await.token().unwrap();
    let senml = [("content-type", "application/senml+json")];
    let pack = |other: &str| format!(r#"[{{"n":"lamp-1/t","v":1}},{{"n":"{other}/t","v":2}}]"#);
    let post = async |pack: String| site.post("/readings", Some(&hub), &senml, pack).await.status;
    assert_eq!(post(pack("lamp-2")).await, 202);
    assert_eq!(site.count("RAW").await, 2);
    assert_eq!(post(pack("lamp-3")).await, 403, "one thing too many refuses all");
    assert_eq!(post(pack("hub")).await, 403, "it is not on its own list");
    assert_eq!(site.count("RAW").await, 2);
    let mut device = Device::admitted(&site, &hub).await;
    for (id, (thing, code)) in (1..).zip([("lamp-1", 0), ("lamp-3", 0x87), ("lamp", 0x87)]) {
        device
            .publish(&format!("things/{thing}/readings"), id, None, b"{}")
            .await;
        assert_eq!(device.puback().await, (id, code), "{thing}");
    }
    // Fewer things: other rights, so that its session has to begin anew.
    let store = issue::bucket(&site.broker.context().await).await.unwrap();
    let fewer = Wish {
        things: Some(vec!["lamp-2".into()]),
        ..Wish::default()
    };
    issue::change(&store, &Name::new("hub").unwrap(), &fewer)
        .await
        .unwrap();
    let dismissed = timeout(SOON, device.dismissed()).await;
    assert_eq!(dismissed.expect("within two seconds"), 0x87);
    let of = async |thing: &str| {
        let path = format!("/things/{thing}/readings");
        site.post(&path, Some(&hub), &[JSON], "{}").await.status
    };
    assert_eq!((of("lamp-1").await, of("lamp-2").await), (403, 202));
}

#[tokio::test]
async fn a_device_is_told_online_and_offline_by_its_session_and_a_gateway_is_not() {
    let site = Site::start().await;
    let gateway = Device::admitted(&site, &site.gateway).await;
    let device = Device::admitted(&site, &site.lamp).await;
    let told = async |end: &str| {
        eventually_async(end, WITHIN, || async {
            documents(&site, "THINGS", end).await.pop()
        })
        .await
    };
    let (subject, online) = told(".online").await;
    assert_eq!(subject, "thing.local.lamp.online");
    assert!(
        check::envelope(Kind::Registration, &online).is_empty(),
        "{online}"
    );
    assert_eq!(online["data"]["by"], json!("lamp"));
    drop((device, gateway));
    let (subject, offline) = told(".offline").await;
    assert_eq!(subject, "thing.local.lamp.offline");
    assert!(
        check::envelope(Kind::Registration, &offline).is_empty(),
        "{offline}"
    );
    assert_eq!(
        site.count("THINGS").await,
        2,
        "each is told once, and of no gateway"
    );
}
