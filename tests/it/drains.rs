//! Workers are told to stop, again and again, at full load: what they have in hand is finished or given back at once.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use telltale_cli::stack::{ROAD, StackOptions};
use telltale_tests::{
    http,
    load::{self, Load},
    pipeline::Pipeline,
};

/// What a worker may take to finish; then it would be killed.
const GRACE: Duration = Duration::from_secs(14);
/// The broker waits 30 s before it delivers again what nobody acknowledged or gave back.
const LONGEST_WAY_MS: f64 = 20_000.0;
/// So many readings may be accepted that are no rows yet.
const AHEAD: i64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn told_to_stop_twenty_times_at_full_load_nothing_waits_for_its_acknowledgement_to_expire() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let over = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send(
        pipeline.http.clone(),
        pipeline.stack.context().unwrap().sql_admin().await.unwrap(),
        Arc::clone(&over),
    ));
    pipeline
        .at_least("select count(*) from readings", 200, Duration::from_secs(60))
        .await;
    for n in 0..20 {
        let worker = ROAD[n % ROAD.len()];
        let unit = pipeline.stack.supervisor().unit(worker).unwrap();
        let told = Instant::now();
        unit.stop().await;
        let took = told.elapsed();
        assert!(took < GRACE, "{worker} took {took:?} to stop");
        pipeline.stack.start_one(worker).await.unwrap();
        assert_eq!(pipeline.stack.restarts(worker), 0, "it ended by itself");
    }
    over.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    pipeline
        .until("select count(*) from readings", sent, Duration::from_secs(60))
        .await;
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
    // Of the whole way, from the bridge's receipt to the row; only the owner reads the hops.
    let sql = pipeline.stack.context().unwrap().sql_admin().await.unwrap();
    let late = sql
        .query(
            "select hops, way from (select hops, regexp_replace(hops, '^.*;', '')::bigint / 1e3 \
             - extract(epoch from received) * 1e3 as way from store.readings where hops is not null) as one \
             where way > $1::float8 order by way desc",
            &[&LONGEST_WAY_MS],
        )
        .await
        .unwrap();
    let hops: Vec<&str> = late.iter().map(|row| row.get(0)).collect();
    assert!(
        late.is_empty(),
        "{} of {sent} took too long: {hops:#?}",
        late.len()
    );
}

/// There is always something to do, and never so much that its mere length could be taken for a wait.
async fn send(client: http::Client, sql: tokio_postgres::Client, over: Arc<AtomicBool>) -> i64 {
    let (mut sent, mut stored) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        while stored + AHEAD < sent {
            let row = sql.query_one("select count(*) from readings", &[]).await;
            stored = row.unwrap().get(0);
        }
        let client = client.clone();
        let send = move || load::over_http(&client, &loads(sent), 24).accepted;
        sent += i64::try_from(tokio::task::spawn_blocking(send).await.unwrap()).unwrap();
    }
    sent
}

fn loads(from: i64) -> Vec<Load> {
    (from..from + 500)
        .map(|n| Load {
            thing: format!("t{}", n % 100),
            key: format!("k{n}"),
            payload: format!(r#"{{"number":{n}}}"#).into(),
        })
        .collect()
}
