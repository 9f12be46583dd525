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
    load::{self, Load},
    pipeline::Pipeline,
};

/// What a worker may take to finish; then it would be killed.
const GRACE: Duration = Duration::from_secs(14);
/// The broker waits 30 s before it delivers again what nobody acknowledged or gave back.
const LONGEST_WAY_MS: f64 = 20_000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn told_to_stop_twenty_times_at_full_load_nothing_waits_for_its_acknowledgement_to_expire() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let over = Arc::new(AtomicBool::new(false));
    let sending = {
        let (client, over) = (pipeline.http.clone(), Arc::clone(&over));
        tokio::task::spawn_blocking(move || {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                let loads: Vec<Load> = (sent..sent + 500)
                    .map(|n| Load {
                        thing: format!("t{}", n % 100),
                        key: format!("k{n}"),
                        payload: format!(r#"{{"number":{n}}}"#).into(),
                    })
                    .collect();
                sent += load::over_http(&client, &loads, 24).accepted;
            }
            sent
        })
    };
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
    let sent = i64::try_from(sending.await.unwrap()).unwrap();
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
