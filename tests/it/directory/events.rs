//! What changes, as it happens (W3C WoT Discovery §7.3.2).
use super::site::{Event, Site, lamp};
use serde_json::{Value, json};
use std::time::Duration;

fn delete(site: &Site, id: &str) {
    let answer = site.send("DELETE", &format!("/things/{id}"), &[], &Value::Null);
    assert_eq!(answer.status, 204);
}

/// Types and data, without ids.
fn told(events: &[Event]) -> Vec<(&str, &Value)> {
    events
        .iter()
        .map(|event| (event.kind.as_str(), &event.data))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_updated_and_deleted_is_told_in_order_with_ids_that_grow() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:0"));
    let events = site.events("/events", None);
    let only = site.events("/events/thing_deleted", None);
    site.put(&lamp("urn:lamp:1"));
    site.patch("urn:lamp:1", &json!({"title": "x"}));
    // What changes nothing is no event.
    site.patch("urn:lamp:1", &json!({"title": "x"}));
    delete(&site, "urn:lamp:1");
    let id = json!({"id": "urn:lamp:1"});
    let all: Vec<Event> = (0..3).map(|_| events.next()).collect();
    assert_eq!(
        told(&all),
        [
            ("thing_created", &id),
            ("thing_updated", &id),
            ("thing_deleted", &id)
        ]
    );
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(only.next(), all[2], "the filter lets its own type through");
    assert!(events.silent(Duration::from_millis(300)) && only.silent(Duration::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_again_gets_what_was_missed() {
    let site = Site::start().await;
    for n in 0..20 {
        site.put(&lamp(&format!("urn:lamp:{n:02}")));
    }
    let all = site.events("/events", Some(0));
    let seen: Vec<Event> = (0..20).map(|_| all.next()).collect();
    assert_eq!(seen[0].data["id"], "urn:lamp:00");
    let again = site.events("/events", Some(seen[9].id));
    delete(&site, "urn:lamp:05");
    let missed: Vec<Event> = (0..11).map(|_| again.next()).collect();
    assert_eq!(missed[..10], seen[10..], "then what is new");
    assert_eq!(missed[10].kind, "thing_deleted");
    let filtered = site.events("/events/thing_deleted", Some(seen[0].id));
    assert_eq!(filtered.next(), missed[10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_diff_an_event_has_the_description_or_the_patch_that_changed_it() {
    let site = Site::start().await;
    let events = site.events("/events?diff=true", None);
    let old = lamp("urn:lamp:1");
    site.put(&old);
    let created = events.next();
    assert_eq!(created.kind, "thing_created");
    assert!(created.data["registration"]["created"].is_string());
    assert_eq!(site.unserved(created.data), old);

    let mut new = old.clone();
    new["description"] = "On the desk".into();
    new["properties"]["brightness"]
        .as_object_mut()
        .unwrap()
        .remove("unit");
    site.put(&new);
    let patch = json!({"id": "urn:lamp:1", "description": "On the desk",
        "properties": {"brightness": {"unit": null}}});
    let updated = events.next();
    assert_eq!(told(std::slice::from_ref(&updated)), [("thing_updated", &patch)]);

    delete(&site, "urn:lamp:1");
    let deleted = events.next();
    assert_eq!(
        told(&[deleted]),
        [("thing_deleted", &json!({"id": "urn:lamp:1"}))]
    );

    // Read back later, it is the same: the patch comes from what was before, not from what is now.
    let again = site.events("/events/thing_updated?diff=true", Some(0));
    assert_eq!(again.next(), updated);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_id_that_was_never_given_and_a_type_that_is_none_are_refused() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:1"));
    for wrong in ["999999", "-1", "x", "18446744073709551616", "1; drop"] {
        let refused = site.send("GET", "/events", &[("last-event-id", wrong)], &Value::Null);
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    assert_eq!(site.get("/events/thing_moved").status, 404);
    assert_eq!(site.get("/events?diff=maybe").status, 400);
}
