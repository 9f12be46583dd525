//! A thing that floods is held to its rate, and the quiet ones beside it do not wait behind it.
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use telltale_bridge::credential::{self, Credential};
use telltale_cli::stack::StackOptions;
use telltale_nats::client;
use telltale_tests::{
    http::Client,
    load::{self, Load},
    pipeline::Pipeline,
};

const QUIET: usize = 2_000;
/// A machine that compiles beside us makes hundreds of milliseconds of nothing.
const FLOOR_MS: f64 = 1_000.0;

fn quiet(part: &str) -> Vec<Load> {
    (0..QUIET)
        .map(|n| Load {
            thing: format!("{part}-{}", n % 1_000),
            key: format!("k{n}"),
            payload: format!(r#"{{"number":{n}}}"#).into(),
        })
        .collect()
}

/// Posts as fast as it can until told to stop: how many were accepted, and how many held back.
fn flood(client: &Client, over: &AtomicBool) -> (usize, usize) {
    let (accepted, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (client, accepted, held) = (client.clone(), &accepted, &held);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let headers = [("Content-Type", "application/json")];
                    match client.post("/things/noisy/readings", &headers, br#"{"x":1}"#) {
                        Ok(answer) if answer.status == 202 => accepted.fetch_add(1, Ordering::Relaxed),
                        Ok(answer) if answer.status == 429 => {
                            assert_eq!(answer.retry_after.as_deref(), Some("1"));
                            held.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
    });
    (accepted.into_inner(), held.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thing_that_floods_is_held_to_its_rate_and_the_quiet_ones_do_not_wait() {
    let pipeline = Pipeline::start(StackOptions {
        // The one that is held to it must be able to reach it on a slow machine.
        env: vec![("TELLTALE_THING_RATE".to_owned(), "50".to_owned())],
        ..StackOptions::default()
    })
    .await;
    let context = pipeline.stack.context().unwrap();
    let (token, _, credential) = credential::new_token("noisy");
    let credential = Credential {
        things: vec!["noisy".to_owned()],
        ..credential
    };
    let js = client::context(context.nats().await.unwrap());
    let bucket = js.get_key_value(credential::BUCKET).await.unwrap();
    let value = serde_json::to_vec(&credential).unwrap();
    bucket.put("noisy", value.into()).await.unwrap();

    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &quiet("alone"), 8));
    let noisy = Client::new(pipeline.stack.env("BRIDGE_URL"), Some(token));
    let over = AtomicBool::new(false);
    let begun = std::time::Instant::now();
    let (accepted, held) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&noisy, &over));
        load::over_http(&pipeline.http, &quiet("beside"), 8);
        over.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    });
    let most = 50.0 * (begun.elapsed().as_secs_f64() + 2.0);
    assert!(
        held > accepted,
        "it did flood: {accepted} accepted, {held} held back"
    );
    assert!(
        accepted as f64 <= most + 1.0,
        "{accepted} accepted, at most {most}"
    );

    let sql = context.sql_admin().await.unwrap();
    let p99 = async |part: &str| {
        telltale_tests::eventually_async("all quiet ones are stored", Duration::from_secs(60), || async {
            let row = sql
                .query_one(
                    "select count(*), percentile_cont(0.99) within group (order by \
                     (regexp_replace(hops, '^.*;', '')::bigint - extract(epoch from received) * 1e6)::float8 / 1e3) \
                     from store.readings where hops is not null and thing like $1 || '-%'",
                    &[&part],
                )
                .await
                .unwrap();
            let count: i64 = row.get(0);
            (usize::try_from(count) == Ok(QUIET)).then(|| row.get::<_, f64>(1))
        })
        .await
    };
    let (alone, beside) = (p99("alone").await, p99("beside").await);
    eprintln!("quiet p99 {alone:.0} ms alone, {beside:.0} ms beside a flood of {held} held back");
    assert!(
        beside <= 2.0 * alone.max(FLOOR_MS),
        "{alone} ms alone, {beside} ms beside"
    );
}
