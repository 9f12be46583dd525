//! What becomes of registrations: each a row, and together what a thing is now.
use super::{at, changed, database::Database, delivery, number, observation};
use serde_json::{Value, json};
use telltale_runtime::{BatchWorker as _, Delivery};
use telltale_schemas::{
    Registration,
    kinds::Change::{self, Created, Deleted, Expired, Moved, Offline, Online, Stale, Updated},
};
use telltale_store::Storable;

const STATE: &str = "select coalesce(string_agg(state || ' ' || revision, ','), 'none') from things";

/// A change of thing `t`, so many seconds after eight.
fn change(second: u32, revision: u64, change: Change) -> Delivery<Storable> {
    of(second, revision, change, &json!({"thing": "t"}))
}

fn of(second: u32, revision: u64, change: Change, entry: &Value) -> Delivery<Storable> {
    let has_entry = matches!(change, Created | Updated);
    let data = Registration {
        change,
        revision,
        entry: has_entry.then(|| serde_json::from_value(entry.clone()).unwrap()),
        by: Some("ada".to_owned()),
        detail: [("second".to_owned(), json!(second))].into_iter().collect(),
    };
    let thing = entry["thing"].as_str().unwrap();
    changed(delivery(&format!("{thing}:{second}"), thing, data), |cause| {
        cause.time = at(&format!("2026-01-15T08:00:{second:02}Z"));
    })
}

async fn keep(db: &Database, batch: &[Delivery<Storable>]) {
    let verdicts = db.store.handle_batch(batch).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
}

#[tokio::test]
async fn every_change_is_a_row_with_who_made_it_and_none_is_there_twice() {
    let db = Database::fresh().await;
    let life = [
        change(1, 1, Created),
        change(2, 1, Online),
        change(3, 2, Updated),
        change(4, 2, Offline),
        change(5, 3, Deleted),
    ];
    for _ in 0..2 {
        keep(&db, &life).await;
        let story = "select string_agg(concat_ws(' ', change, revision, by, detail ->> 'second', entry ->> 'thing'), ', ' order by time)
                     from registrations where thing = 't' and site = 'site' and source = '/site/annotate'";
        assert_eq!(
            db.text(story).await,
            "created 1 ada 1 t, online 1 ada 2, updated 2 ada 3 t, offline 2 ada 4, deleted 3 ada 5"
        );
        assert_eq!(db.text(STATE).await, "none");
    }
}

#[tokio::test]
async fn the_state_of_a_thing_is_what_was_heard_of_its_device_last_in_whichever_order_it_comes() {
    let db = Database::fresh().await;
    keep(&db, &[change(1, 0, Online)]).await;
    assert_eq!(db.text(STATE).await, "none", "a device that nobody registered");
    keep(&db, &[change(2, 1, Created)]).await;
    assert_eq!(db.text(STATE).await, "online 1");
    keep(&db, &[change(9, 1, Stale), change(5, 1, Offline)]).await;
    assert_eq!(db.text(STATE).await, "stale 1");
    keep(&db, &[change(6, 2, Updated)]).await;
    assert_eq!(db.text(STATE).await, "stale 2", "its entry is another matter");
    for (second, ends) in [(10, Moved), (12, Expired)] {
        keep(&db, &[change(second, u64::from(second), ends)]).await;
        assert_eq!(db.text(STATE).await, "none", "{ends:?}");
        keep(&db, &[change(second + 1, u64::from(second + 1), Created)]).await;
    }
    assert_eq!(db.text(STATE).await, "stale 13");
}

#[tokio::test]
async fn a_thing_has_its_description_and_its_times() {
    let db = Database::fresh().await;
    let times = "select concat_ws(' ', to_char(created, 'MI:SS'), to_char(modified, 'MI:SS'), to_char(expires, 'MI:SS'), td ->> 'title')
                 from things where thing = '{}'";
    keep(&db, &[change(1, 1, Created), change(7, 2, Updated)]).await;
    assert_eq!(db.text(&times.replace("{}", "t")).await, "00:01 00:07");
    let described = json!({
        "thing": "u",
        "td": {"title": "Lamp"},
        "registration": {
            "created": "2026-01-15T07:40:00Z", "modified": "2026-01-15T07:41:00Z",
            "expires": "2026-01-15T07:51:00Z", "ttl": 600,
        },
    });
    keep(&db, &[of(9, 3, Updated, &described)]).await;
    assert_eq!(db.text(&times.replace("{}", "u")).await, "40:00 41:00 51:00 Lamp");
}

#[tokio::test]
async fn what_is_silent_and_what_is_undeclared_is_reported() {
    let db = Database::fresh().await;
    let described = json!({"thing": "t", "policy": {"declared": true, "properties": {
        "temperature": {}, "humidity": {}, "pin": {"writeOnly": true}, "position": {}, "air": {},
    }}});
    let report =
        "select coalesce(string_agg(concat_ws(' ', thing, name, verdict), ', ' order by thing, name), 'none')
                  from properties where verdict <> 'well'";
    let records = ["temperature", "position.lat", "wind"].map(|name| number(name, 1.0));
    keep(&db, &[observation("t:1", 1, records.to_vec())]).await;
    assert_eq!(
        db.text(report).await,
        "t position.lat unregistered, t temperature unregistered, t wind unregistered"
    );
    keep(&db, &[of(1, 1, Created, &described)]).await;
    assert_eq!(
        db.text(report).await,
        "t air silent, t humidity silent, t wind undeclared"
    );
    let seen = "select concat_ws(' ', declared, observed, write_only, to_char(last at time zone 'UTC', 'HH24:MI:SS')) from properties where name = ";
    assert_eq!(db.text(&format!("{seen} 'temperature'")).await, "t t f 07:41:09");
    assert_eq!(db.text(&format!("{seen} 'pin'")).await, "t f t");
    let open = json!({"thing": "t", "policy": {"properties": {"temperature": {}}}});
    keep(&db, &[of(2, 2, Updated, &open)]).await;
    assert_eq!(
        db.text(report).await,
        "none",
        "what is declared is not all that there is"
    );
}
