//! How long a registration lasts (W3C WoT Discovery §7.2.2).
use super::site::{Site, lamp};
use serde_json::{Value, json};
use std::time::Duration;
use telltale_schemas::Timestamp;
use telltale_tests::eventually;

const WITHIN: Duration = Duration::from_secs(10);

fn times(site: &Site, id: &str) -> Value {
    site.get(&format!("/things/{id}")).body["registration"].take()
}

fn at(times: &Value, member: &str) -> Timestamp {
    times[member].as_str().unwrap().parse().unwrap()
}

fn lasting(id: &str, registration: &Value) -> Value {
    let mut td = lamp(id);
    td["registration"] = registration.clone();
    td
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_decides_when_a_registration_expires_whatever_its_author_says() {
    let site = Site::start().await;
    let wish = json!({"ttl": 3600, "expires": "2100-01-01T00:00:00Z", "created": "1999-01-01T00:00:00Z"});
    assert_eq!(site.put(&lasting("urn:lamp:1", &wish)).status, 201);
    let first = times(&site, "urn:lamp:1");
    assert_eq!(first["ttl"].as_f64(), Some(3600.0));
    assert_eq!(
        at(&first, "expires"),
        at(&first, "modified").plus_micros(3_600_000_000)
    );
    assert!(at(&first, "created") > at(&wish, "created"), "it is ours to say");
    assert_eq!(
        site.original("urn:lamp:1"),
        lamp("urn:lamp:1"),
        "and nothing of the description"
    );

    // An empty patch makes it last anew.
    assert_eq!(site.patch("urn:lamp:1", &json!({})).status, 204);
    let renewed = times(&site, "urn:lamp:1");
    assert!(
        at(&renewed, "expires") > at(&first, "expires"),
        "{first} {renewed}"
    );
    assert_eq!(renewed["created"], first["created"]);

    // What the author says of expiry beside a ttl is ignored, and without one it is not.
    site.patch(
        "urn:lamp:1",
        &json!({"registration": {"expires": "2100-01-01T00:00:00Z"}}),
    );
    assert!(at(&times(&site, "urn:lamp:1"), "expires") < at(&wish, "expires"));
    let absolute = json!({"registration": {"ttl": null, "expires": "2100-01-01T00:00:00Z"}});
    assert_eq!(site.patch("urn:lamp:1", &absolute).status, 204);
    let absolute = times(&site, "urn:lamp:1");
    assert_eq!(
        (&absolute["expires"], &absolute["ttl"]),
        (&wish["expires"], &Value::Null)
    );
    assert_eq!(
        site.patch("urn:lamp:1", &json!({"registration": null})).status,
        204
    );
    assert_eq!(times(&site, "urn:lamp:1")["expires"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_taken_away_and_told_and_what_is_kept_alive_is_not() {
    let site = Site::start().await;
    let events = site.events("/events/thing_deleted", None);
    let wish = json!({"ttl": 1.5});
    site.put(&lasting("urn:lamp:gone", &wish));
    site.put(&lasting("urn:lamp:kept", &wish));
    eventually("the one is gone while the other is kept alive", WITHIN, || {
        assert_eq!(site.patch("urn:lamp:kept", &json!({})).status, 204);
        (site.get("/things/urn:lamp:gone").status == 404).then_some(())
    });
    let told = events.next();
    assert_eq!(told.data, json!({"id": "urn:lamp:gone"}));
    assert_eq!(site.get("/things/urn:lamp:kept").status, 200);
    // It was never told that it changed: what lasts anew is no news.
    assert_eq!(site.events("/events", Some(0)).next().kind, "thing_created");
    let stream = site.broker.context().await.get_stream("THINGS").await.unwrap();
    let last = stream
        .get_last_raw_message_by_subject("thing.local.*.expired")
        .await
        .unwrap();
    let message: Value = serde_json::from_slice(&last.payload).unwrap();
    assert_eq!(telltale_schemas::check::message(&message), []);
    assert_eq!(message["subject"], "urn:lamp:gone");
    assert_eq!(site.put(&lamp("urn:lamp:gone")).status, 201, "it may come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_over_already_makes_a_thing_that_nobody_sees() {
    let site = Site::start().await;
    let over = lasting("urn:lamp:1", &json!({"expires": "2020-01-01T00:00:00Z"}));
    assert_eq!(site.put(&over).status, 201);
    assert_eq!(site.get("/things/urn:lamp:1").status, 404);
    assert_eq!(site.post(&lamp("urn:lamp:1")).status, 201, "its place is free");
}
