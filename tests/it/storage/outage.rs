//! A database that goes away in the middle of a batch.
use super::database::{Database, servers};
use super::{number, observation};
use std::time::Duration;
use telltale_runtime::{BatchWorker as _, Delivery};
use telltale_store::{Storable, Store};
use tokio::time::Instant;

const SOON: Duration = Duration::from_mins(1);

fn batch(from: u64, size: u64) -> Vec<Delivery<Storable>> {
    (from..from + size)
        .map(|n| observation(&format!("t:{n}"), n, vec![number("a", 1.0)]))
        .collect()
}

/// Gives the batch until it is stored; says how often the database was away.
async fn insist(store: &Store, batch: &[Delivery<Storable>]) -> u32 {
    let deadline = Instant::now() + SOON;
    let mut outages = 0;
    loop {
        match store.handle_batch(batch).await {
            Ok(verdicts) if verdicts.iter().all(Result::is_ok) => return outages,
            Ok(verdicts) => assert!(
                verdicts
                    .iter()
                    .filter_map(|verdict| verdict.as_ref().err())
                    .all(telltale_runtime::Failure::is_outage),
                "{verdicts:?}"
            ),
            Err(failure) => assert!(failure.is_outage() && Instant::now() < deadline, "{failure:?}"),
        }
        outages += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_outage_and_afterwards_everything_is_there_once() {
    let db = Database::fresh().await;
    let mut outages = 0;
    for round in 0..10 {
        let batch = batch(round * 2_000 + 1, 2_000);
        let cut = db.cut_store_after(Duration::from_millis(round * 4));
        let (away, ()) = tokio::join!(insist(&db.store, &batch), cut);
        outages += away;
    }
    assert!(outages > 0, "no batch was ever cut");
    assert_eq!(db.count("readings").await, 20_000);
    assert_eq!(
        db.fates().await,
        [("stored".to_owned(), "{[1,20001)}".to_owned())]
    );
}

#[tokio::test]
async fn a_lock_that_someone_holds_is_an_outage_and_no_refusal() {
    let db = Database::fresh().await;
    let batch = batch(1, 1);
    let lock = db.client().await;
    lock.batch_execute("begin; lock table store.readings in access exclusive mode")
        .await
        .unwrap();
    assert!(db.store.handle_batch(&batch).await.unwrap_err().is_outage());
    lock.batch_execute("rollback").await.unwrap();
    db.store.handle_batch(&batch).await.unwrap();
    assert_eq!(db.count("readings").await, 1);
}

#[tokio::test]
async fn a_database_that_is_not_migrated_is_an_outage_until_it_is() {
    let url = Database::empty().await;
    let store = Store::at(&url).unwrap();
    let batch = batch(1, 1);
    assert!(store.handle_batch(&batch).await.unwrap_err().is_outage());
    telltale_cli::migrate::migrate(&url).await.unwrap();
    assert!(store.handle_batch(&batch).await.unwrap()[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const BATCHES: u64 = 40;
    let stack = servers().await;
    let db = Database::at(stack.env("DATABASE_ADMIN_URL").to_owned()).await;
    let giving = async {
        let mut outages = 0;
        for n in 0..BATCHES {
            outages += insist(&db.store, &batch(n * 500 + 1, 500)).await;
        }
        outages
    };
    let killing = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let killed = stack.kill("postgres").unwrap();
            while stack.pid("postgres").is_none_or(|now| now == killed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stack.ready("postgres", SOON).await.unwrap();
        }
    };
    let (outages, ()) = tokio::join!(giving, killing);
    assert!(outages > 0, "no batch met a killed database");
    let db = Database::at(stack.env("DATABASE_ADMIN_URL").to_owned()).await;
    assert_eq!(db.count("readings").await, i64::try_from(BATCHES * 500).unwrap());
    assert_eq!(
        db.fates().await,
        [("stored".to_owned(), "{[1,20001)}".to_owned())]
    );
    stack.shutdown().await;
}
