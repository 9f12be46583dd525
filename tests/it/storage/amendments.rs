//! Verdicts on the quality of rows that came after their messages: event `quality` of `process`.
use super::{changed, database::Database, delivery, number, observation};
use serde_json::json;
use telltale_runtime::{BatchWorker as _, Delivery};
use telltale_schemas::{Event, Flag, Record, quality::Amendment};
use telltale_store::{Storable, Store};

fn tested(name: &str, q: Flag, failed: &[&str]) -> Record {
    Record {
        q: Some(q),
        failed: failed.iter().map(|test| (*test).to_owned()).collect(),
        ..number(name, 1.0)
    }
}

fn reading(n: u64) -> Delivery<Storable> {
    let records = vec![
        tested("a", Flag::NotEvaluated, &[]),
        tested("b", Flag::Suspect, &["gross_range"]),
    ];
    observation(&format!("t:{n}"), n, records)
}

/// What the reading with number `by` tells of record `ordinal` of reading `n`.
fn verdict(by: u64, n: u64, ordinal: u16, q: Flag, failed: &[&str]) -> Delivery<Storable> {
    let amendment = Amendment {
        id: format!("t:{n}"),
        time: super::at(super::TIME),
        ordinal,
        n: "a".to_owned(),
        q,
        failed: failed.iter().map(|test| (*test).to_owned()).collect(),
    };
    let event = Event::new("quality").with("of", json!([amendment]));
    changed(
        delivery(&format!("t:{by}.process.quality"), "t", event),
        |cause| {
            cause.source = String::from("/site/process");
        },
    )
}

async fn give(store: &Store, batch: &[Delivery<Storable>]) {
    let verdicts = store.handle_batch(batch).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
}

const ROWS: &str = "
    select string_agg(concat_ws(' ', message_id, name, quality, failed), ', ' order by message_id, ordinal) from readings";

#[tokio::test]
async fn whatever_the_order_in_which_they_arrive_a_row_is_amended_once_and_to_the_same() {
    let row = || reading(1);
    let first = || verdict(1, 1, 0, Flag::Suspect, &["rate_of_change"]);
    let second = || verdict(2, 1, 0, Flag::Fail, &["rate_of_change", "spike"]);
    let other = || verdict(3, 1, 1, Flag::Fail, &["gross_range", "flat_line"]);
    let orders: [Vec<Vec<Delivery<Storable>>>; 4] = [
        vec![vec![row()], vec![first()], vec![second(), other()]],
        vec![vec![second()], vec![other()], vec![first()], vec![row()]],
        vec![vec![other(), second(), first(), row()]],
        vec![
            vec![first()],
            vec![row(), second()],
            vec![row()],
            vec![first(), other(), second()],
        ],
    ];
    for (n, order) in orders.into_iter().enumerate() {
        let db = Database::fresh().await;
        for batch in &order {
            give(&db.store, batch).await;
        }
        assert_eq!(
            db.text(ROWS).await,
            "t:1 a 4 {rate_of_change,spike}, t:1 b 4 {gross_range,flat_line}",
            "order {n}"
        );
        let waiting = db.text("select count(*)::text from store.amendments").await;
        assert_eq!(waiting, "0", "order {n}");
        let latest = db.text("select quality::text from latest where name = 'a'").await;
        assert_eq!(latest, "4");
    }
}

#[tokio::test]
async fn a_value_that_is_found_good_is_no_longer_untested_and_nothing_becomes_better_than_it_was() {
    let db = Database::fresh().await;
    let batch = [
        reading(1),
        verdict(1, 1, 0, Flag::Pass, &[]),
        verdict(2, 1, 1, Flag::Pass, &[]),
    ];
    give(&db.store, &batch).await;
    assert_eq!(db.text(ROWS).await, "t:1 a 1 {}, t:1 b 3 {gross_range}");
}

#[tokio::test]
async fn an_extension_and_another_thing_amend_nothing() {
    let db = Database::fresh().await;
    let strange = || verdict(1, 1, 0, Flag::Fail, &["spike"]);
    let by_another = changed(strange(), |cause| cause.source = String::from("/site/over-limit"));
    let of_another = changed(strange(), |cause| {
        cause.thing = telltale_nats::Name::new("other").unwrap();
        cause.id = String::from("other:1.process.quality");
    });
    give(&db.store, &[reading(1), by_another, of_another]).await;
    assert_eq!(db.text(ROWS).await, "t:1 a 2 {}, t:1 b 3 {gross_range}");
    assert_eq!(db.count("events").await, 2, "an event they are all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_and_its_verdict_that_two_copies_store_at_one_moment_find_each_other() {
    const ROUNDS: u64 = 150;
    let db = Database::fresh().await;
    let (one, other) = (db.another_store(), db.another_store());
    let rows = async {
        for n in 1..=ROUNDS {
            give(&one, &[reading(n)]).await;
        }
    };
    let verdicts = async {
        for n in 1..=ROUNDS {
            give(&other, &[verdict(n, n, 0, Flag::Fail, &["spike"])]).await;
        }
    };
    tokio::join!(rows, verdicts);
    let found = "select count(*)::text from readings where name = 'a' and quality = 4 and failed = '{spike}'";
    assert_eq!(db.text(found).await, ROUNDS.to_string());
    assert_eq!(db.text("select count(*)::text from store.amendments").await, "0");
}
