//! What changes, as it happens (W3C WoT Discovery §7.3.2).
use super::{
    many::NDJSON,
    site::{Event, Events, STREAMS_MAX, Site, admit, lamp},
};
use crate::roads::broker::PATIENCE;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};
use telltale_gateway::auth::{Scope, tokens};
use telltale_nats::Name;
use telltale_tests::{eventually, http::Client};

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

/// The last piece of an answer that is whole.
const END: &[u8] = b"\r\n0\r\n\r\n";
/// From the moment that a token is taken away.
const CUT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_streams_and_they_end_with_it() {
    let site = Site::start().await;
    let token = admit(&site.broker, "reader", vec![Scope::ThingsRead]).await;
    let reader = Client::new(site.url(), Some(token.clone()));
    eventually("the token is known", PATIENCE, || {
        (reader.get("/things").ok()?.0 == 200).then_some(())
    });
    let theirs: Vec<Events> = (0..STREAMS_MAX)
        .map(|_| site.events_to(&token, "/events", None))
        .collect();
    let refused = reader.send("GET", "/events", &[], &[]).unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.retry_after.is_some());
    let others = site.events("/events", None);

    let store = tokens::bucket(&site.broker.context().await).await.unwrap();
    assert!(
        tokens::revoke(&store, &Name::new("reader").unwrap())
            .await
            .unwrap()
    );
    let end = Instant::now() + CUT;
    for one in &theirs {
        assert!(
            one.over(end.saturating_duration_since(Instant::now())),
            "it goes on"
        );
    }
    site.put(&lamp("urn:lamp:1"));
    assert_eq!(others.next().kind, "thing_created", "others' go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_under_way_breaks_off_when_its_token_is_taken_away() {
    let site = Site::start().await;
    // More than the systems at both ends hold for a connection.
    let large = |n: usize| {
        let mut td = lamp(&format!("urn:lamp:{n}"));
        td["description"] = "x".repeat(90_000).into();
        td.to_string()
    };
    let all: Vec<String> = (0..120).map(large).collect();
    let made = site
        .http
        .send("POST", "/things", &[NDJSON], all.join("\n").as_bytes());
    assert_eq!(made.unwrap().status, 200);
    let token = admit(&site.broker, "reader", vec![Scope::ThingsRead]).await;
    let reader = Client::new(site.url(), Some(token.clone()));
    eventually("the token is known", PATIENCE, || {
        (reader.get("/things").ok()?.0 == 200).then_some(())
    });
    let begin = |token: &str| {
        let mut line = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        let head = format!(
            "GET /search/jsonpath?query=%24%5B%2A%5D HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        line.write_all(head.as_bytes()).unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = [0; 12];
        line.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        line
    };
    let rest = |mut line: TcpStream| {
        let mut rest = Vec::new();
        // Broken off, it may end in an error.
        line.read_to_end(&mut rest).ok();
        rest
    };
    let (theirs, ours) = (begin(&token), begin(&site.token));
    let store = tokens::bucket(&site.broker.context().await).await.unwrap();
    tokens::revoke(&store, &Name::new("reader").unwrap())
        .await
        .unwrap();
    eventually("the token is gone", CUT, || {
        (reader.get("/things").ok()?.0 == 401).then_some(())
    });
    let theirs = rest(theirs);
    assert!(!theirs.ends_with(END), "{} bytes, and it is whole", theirs.len());
    assert!(rest(ours).ends_with(END), "another's is whole");
}
