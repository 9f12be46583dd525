//! Whoever is not who it says, or writes as another, is refused, counted and audited.
use super::{JSON, Line, OWN, WITHIN, documents, refusals, revoked, rotated, until};
use crate::bridging::{device::Device, site::Site};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use telltale_nats::{Lane, Name, Subject, async_nats::HeaderValue, header};
use telltale_runtime::identity::issue::Wish;
use telltale_schemas::{Kind, check};
use telltale_tests::eventually_async;

#[tokio::test]
async fn a_wrong_missing_revoked_or_another_s_credential_is_refused_counted_and_audited() {
    let site = Site::start().await;
    let pillar = rotated(&site, "pillar", Wish::default()).await;
    let old = rotated(&site, "old", Wish::default()).await.token().unwrap();
    assert!(revoked(&site, "old").await);
    let (pillar_token, pillar_secret) = (pillar.token().unwrap(), pillar.secret.unwrap());
    let swapped = format!("lamp.{pillar_secret}");
    for (token, reason, status) in [
        (None, "missing", 401),
        (Some("lamp.guess"), "secret", 401),
        (Some(swapped.as_str()), "secret", 401),
        (Some("nobody.guess"), "unknown", 401),
        (Some(old.as_str()), "revoked", 401),
        (Some(pillar_token.as_str()), "forbidden", 403),
    ] {
        let before = refusals(&site, "http", reason).await;
        let answer = site.post(OWN, token, &[JSON], "{}").await;
        assert_eq!(answer.status, status, "{reason}: {}", answer.body);
        assert_eq!(refusals(&site, "http", reason).await, before + 1, "{reason}");
    }
    for (token, reason) in [
        (".", "missing"),
        ("lamp.guess", "secret"),
        (&swapped, "secret"),
        ("nobody.guess", "unknown"),
        (&old, "revoked"),
    ] {
        let before = refusals(&site, "mqtt", reason).await;
        let (mut device, code) = Device::connect(&site, token, "c").await;
        assert_eq!(code, 0x86, "{reason}");
        assert!(device.hear().await.is_none(), "closed");
        assert_eq!(refusals(&site, "mqtt", reason).await, before + 1, "{reason}");
    }
    let mut device = Device::admitted(&site, &pillar_token).await;
    device.publish("things/lamp/readings", 1, None, b"{}").await;
    assert_eq!(device.puback().await, (1, 0x87));
    assert_eq!(refusals(&site, "mqtt", "forbidden").await, 1);
    assert_eq!(site.count("RAW").await, 0, "nothing of it was taken");
    let wanted = [
        ("lamp", "secret"),
        ("local", "missing"),
        ("local", "unknown"),
        ("old", "revoked"),
        ("pillar", "forbidden"),
    ];
    eventually_async("each refusal is an event", WITHIN, || async {
        let events = documents(&site, "EVENTS", ".access_refused").await;
        let has = |thing: &str, reason: &str, protocol: &str| {
            let name = |plain: &str| Name::new(plain).unwrap();
            let subject =
                Subject::named(Lane::Event, name("local"), name(thing), name("access_refused")).to_string();
            events.iter().any(|(found, event)| {
                let detail = &event["data"]["detail"];
                *found == subject && detail["reason"] == reason && detail["protocol"] == protocol
            })
        };
        let all = wanted
            .iter()
            .all(|(thing, reason)| has(thing, reason, "http") && has(thing, reason, "mqtt"));
        all.then_some(())
    })
    .await;
    for (subject, event) in documents(&site, "EVENTS", ".access_refused").await {
        assert!(check::envelope(Kind::Event, &event).is_empty(), "{event}");
        let detail = &event["data"]["detail"];
        assert_eq!(detail["address"], "127.0.0.1");
        if subject.contains(".pillar.") {
            assert_eq!(detail["wanted"], "lamp", "whom it wanted to speak for");
        }
    }
}

#[tokio::test]
async fn one_thing_cannot_write_as_another_whatever_it_sends() {
    let site = Site::start().await;
    rotated(&site, "pillar", Wish::default()).await;
    let lamp = Some(site.lamp.as_str());
    let senml = ("content-type", "application/senml+json");
    let pack = r#"[{"n":"pillar/t","v":1}]"#;
    for (path, headers, body, status) in [
        ("/things/pillar/readings", JSON, "{}", 403),
        ("/things/%70illar/readings", JSON, "{}", 403),
        ("/things/lamp/../pillar/readings", JSON, "{}", 404),
        ("/things/lamp%2F..%2Fpillar/readings", JSON, "{}", 403),
        ("/things/pillar%00/readings", JSON, "{}", 404),
        ("/things/lamp%0Apillar/readings", JSON, "{}", 404),
        ("/things/*/readings", JSON, "{}", 403),
        ("/things/%3E/readings", JSON, "{}", 403),
        ("/things/_pack/readings", JSON, "{}", 404),
        ("/things/pillar/events/on", JSON, "{}", 403),
        ("/things/lamp/events/access_refused", JSON, "{}", 403),
        ("/things/lamp/events/audit", JSON, "{}", 403),
        ("/things/lamp/events/quarantine_overflow", JSON, "{}", 403),
        ("/readings", senml, pack, 403),
    ] {
        let answer = site.post(path, lamp, &[headers], body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let cloudevent =
        r#"{"specversion":"1.0","id":"1","type":"x","source":"/pillar","subject":"pillar","data":{"t":1}}"#;
    let named = [
        JSON,
        ("telltale-publisher", "pillar"),
        ("telltale-id", "pillar:1"),
        ("telltale-received", "2020-01-01T00:00:00Z"),
        ("telltale-backfill", "1"),
        ("nats-msg-id", "pillar:1"),
        ("idempotency-key", "pillar:1"),
    ];
    for (headers, body) in [
        (&named[..], "{}"),
        (&[senml][..], pack),
        (
            &[("content-type", "application/cloudevents+json")][..],
            cloudevent,
        ),
    ] {
        let answer = site.post(OWN, lamp, headers, body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert!(answer.body["id"].as_str().unwrap().starts_with("lamp:"));
    }
    let mut device = Device::admitted(&site, &site.lamp).await;
    for (id, (topic, code)) in (1..).zip([
        ("things/pillar/readings", 0x87),
        ("things/%70illar/readings", 0x87),
        ("things/lamp/../pillar/readings", 0x90),
        ("things/pillar/events/on", 0x87),
        ("things/lamp/events/audit", 0x87),
        ("readings", 0x87),
        ("raw.local.pillar", 0x90),
        ("raw/local/pillar", 0x90),
        ("things/lamp/readings", 0),
    ]) {
        device.publish(topic, id, Some("pillar:1"), b"{}").await;
        assert_eq!(device.puback().await, (id, code), "{topic}");
    }
    let raw = site.messages("RAW").await;
    assert_eq!(raw.len(), 4);
    for message in &raw {
        assert_eq!(message.subject.as_str(), "raw.local.lamp");
        let value = |name: &str| message.headers.get(name).map(HeaderValue::as_str);
        assert_eq!(value(header::PUBLISHER), Some("lamp"));
        assert!(value(header::ID).unwrap().starts_with("lamp:"), "{message:?}");
        assert_ne!(value(header::RECEIVED), Some("2020-01-01T00:00:00Z"));
        assert_eq!((value(header::BACKFILL), value(header::MSG_ID)), (None, None));
    }
    let events = site.messages("EVENTS").await;
    assert!(
        events
            .iter()
            .all(|event| event.subject.as_str() == "event.local.lamp.access_refused"),
        "all else is nowhere"
    );
}

#[tokio::test]
async fn guesses_are_slowed_for_a_name_and_an_address_and_lock_nobody_out() {
    let site = Site::start().await;
    let second = rotated(&site, "lamp", Wish::default()).await.token().unwrap();
    let pillar = rotated(&site, "pillar", Wish::default()).await.token().unwrap();
    until(&site, &site.lamp, 202).await;
    let guesses = (0..8).map(|_| async {
        let mut line = Line::from(&site, Ipv4Addr::LOCALHOST).await;
        let mut slowed = 0;
        for _ in 0..20 {
            match line.post(OWN, "lamp.guess").await {
                401 => {}
                429 => slowed += 1,
                other => panic!("{other}"),
            }
        }
        slowed
    });
    let slowed: u32 = futures::future::join_all(guesses).await.into_iter().sum();
    assert!((20..=60).contains(&slowed), "{slowed} of 160 guesses were slowed");
    let answer = site.post(OWN, Some("lamp.guess"), &[JSON], "{}").await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    // The secret that was known, another device, and the same device elsewhere.
    until(&site, &site.lamp, 202).await;
    let mut here = Line::from(&site, Ipv4Addr::LOCALHOST).await;
    assert_eq!(here.post("/things/pillar/readings", &pillar).await, 202);
    let mut elsewhere = Line::from(&site, Ipv4Addr::new(127, 0, 0, 2)).await;
    assert_eq!(elsewhere.post(OWN, &second).await, 202);
    let wanted = ["secret", "slowed"].map(|reason| json!(reason));
    eventually_async("the guesses are audited", WITHIN, || async {
        let events = documents(&site, "EVENTS", ".access_refused").await;
        let reasons: Vec<Value> = events
            .iter()
            .map(|(_, event)| event["data"]["detail"]["reason"].clone())
            .collect();
        wanted.iter().all(|reason| reasons.contains(reason)).then_some(())
    })
    .await;
    let events = documents(&site, "EVENTS", ".access_refused").await;
    assert!(events.len() <= 4, "a guesser fills no stream: {}", events.len());
}
