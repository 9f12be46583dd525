//! F23: what follows is out for long. F36: locks, no connection left, deadlocks and serialisation failures.
//! F40: migrations that are killed, or run twice at once.
use super::{PATIENCE, QUARANTINED, READINGS, cpu_seconds, log, ready, send, unready};
use rustix::process::{Pid, Signal, kill_process};
use std::{path::Path, process::Stdio, time::Duration};
use telltale_cli::{
    context,
    stack::{self, Build, Stack, StackOptions},
};
use telltale_tests::{eventually_async, pipeline::Pipeline};
use tokio_postgres::Client;

async fn owner(pipeline: &Pipeline) -> Client {
    context::connect(pipeline.stack.env("DATABASE_ADMIN_URL"))
        .await
        .unwrap()
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

const SESSIONS: &str = "select count(*) from pg_stat_activity where application_name = 'telltale-store'";
const WAITS: &str = "select count(*) from pg_stat_activity \
                     where application_name = 'telltale-store' and wait_event_type = 'Lock'";

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_asked_about_ever_more_seldom_and_costs_no_attempt_and_hardly_any_processor() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    pipeline.stack.stop_one("postgres").await.unwrap();
    send(&pipeline, 0, 1_000);
    unready(&pipeline, "store", &["work", "postgres"], PATIENCE).await;
    let pid = pipeline.stack.pid("store").unwrap();
    let (began, spent) = (tokio::time::Instant::now(), cpu_seconds(pid));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let busy = (cpu_seconds(pid) - spent) / began.elapsed().as_secs_f64();
    assert!(
        busy < 0.2,
        "store keeps a core {:.0} % busy with waiting",
        busy * 100.0
    );
    // 0.2 s doubling to 30 s, each between half of it and the whole: at most eight in the whole time.
    let text = log(&pipeline, "store");
    let asked = text.lines().filter(|line| line.contains("holding: ")).count();
    assert!((3..=10).contains(&asked), "{asked} attempts:\n{text}");

    pipeline.stack.start_one("postgres").await.unwrap();
    pipeline.until(READINGS, 1_000, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0), "no attempt was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_and_a_full_house_are_waited_for_in_one_session_and_nothing_is_refused() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;

    let locker = owner(&pipeline).await;
    locker
        .batch_execute("begin; lock table store.readings in access exclusive mode")
        .await
        .unwrap();
    send(&pipeline, 20, 60);
    let watcher = owner(&pipeline).await;
    eventually_async("store waits for the lock", PATIENCE, || async {
        (number(&watcher, WAITS).await > 0).then_some(())
    })
    .await;
    unready(&pipeline, "store", &["55P03"], PATIENCE).await;
    for _ in 0..20 {
        let sessions = number(&watcher, SESSIONS).await;
        assert!(sessions <= 2, "{sessions} sessions wait");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    locker.batch_execute("rollback").await.unwrap();
    ready(&pipeline, "store").await;
    pipeline.until(READINGS, 60, PATIENCE).await;

    // Every connection that there is. Store hurries for the one that it has lost as we do, and a session that ends keeps
    // its place a moment longer than its name: until store itself says that there is none.
    send(&pipeline, 60, 80);
    let mut guests = vec![locker];
    let face = pipeline.health("store");
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while !face.get("/readyz").is_ok_and(|(_, text)| text.contains("53300")) {
        assert!(
            tokio::time::Instant::now() < end,
            "store always finds a connection"
        );
        while let Ok(guest) = context::connect(pipeline.stack.env("DATABASE_ADMIN_URL")).await {
            guests.push(guest);
        }
        watcher
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'telltale-store'",
                &[],
            )
            .await
            .unwrap();
        looks.tick().await;
    }
    drop(guests);
    ready(&pipeline, "store").await;
    pipeline.until(READINGS, 80, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_and_a_serialisation_failure_are_tried_again() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;
    let (rival, watcher) = (owner(&pipeline).await, owner(&pipeline).await);
    let waits = || async {
        eventually_async("store waits for its rival", PATIENCE, || async {
            (number(&watcher, WAITS).await > 0).then_some(())
        })
        .await;
    };

    // Store has the readings and wants the ledger; the rival has that and wants the readings. Who waits a second
    // looks for a deadlock and ends it by giving up itself: not the rival, who is more patient.
    rival
        .batch_execute("set deadlock_timeout = '20s'; begin; lock table store.ledger in exclusive mode")
        .await
        .unwrap();
    send(&pipeline, 20, 40);
    waits().await;
    rival
        .batch_execute("lock table store.readings in access exclusive mode; commit")
        .await
        .unwrap();
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    eventually_async("PostgreSQL counts a deadlock", PATIENCE, || async {
        (number(&watcher, deadlocks).await == 1).then_some(())
    })
    .await;
    pipeline.until(READINGS, 40, PATIENCE).await;

    // Somebody makes all transactions serialisable, and changes the ledger meanwhile.
    watcher
        .batch_execute("alter role telltale set default_transaction_isolation = 'repeatable read'")
        .await
        .unwrap();
    watcher
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'telltale-store'",
            &[],
        )
        .await
        .unwrap();
    rival
        .batch_execute("begin isolation level read committed; update store.ledger set seqs = seqs")
        .await
        .unwrap();
    send(&pipeline, 40, 60);
    waits().await;
    let refused = "select xact_rollback from pg_stat_database where datname = current_database()";
    let before = number(&watcher, refused).await;
    rival.batch_execute("commit").await.unwrap();
    eventually_async("a transaction is refused", PATIENCE, || async {
        (number(&watcher, refused).await > before).then_some(())
    })
    .await;
    pipeline.until(READINGS, 60, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
}

/// A `telltale provision --migrate` of its own.
fn migrator(program: &Path, url: &str, stack: &Stack) -> std::process::Child {
    std::process::Command::new(program)
        .args(["provision", "--migrate"])
        .current_dir(stack.dir())
        .env("DATABASE_ADMIN_URL", url)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_midway_is_finished_by_the_one_that_waited() {
    let stack = Stack::start(StackOptions {
        workers: false,
        ..StackOptions::default()
    })
    .await
    .unwrap();
    let admin = context::connect(stack.env("DATABASE_ADMIN_URL")).await.unwrap();
    admin.batch_execute("create database fresh").await.unwrap();
    let (server, _) = stack.env("DATABASE_ADMIN_URL").rsplit_once('/').unwrap();
    let url = format!("{server}/fresh");
    let blocker = context::connect(&url).await.unwrap();
    // The second migration makes this table, and waits for whoever makes it too.
    for statement in [
        "create schema store",
        "begin; create table store.readings (id int)",
    ] {
        blocker.batch_execute(statement).await.unwrap();
    }
    let program = tokio::task::block_in_place(|| stack::telltale(Build::Own)).unwrap();
    let first = migrator(&program, &url, &stack);
    let watcher = context::connect(&url).await.unwrap();
    let waits = "select count(*) from pg_stat_activity \
                 where application_name = 'telltale-migrate' and wait_event_type = 'Lock' and datname = 'fresh'";
    eventually_async("the first is in the middle of it", PATIENCE, || async {
        (number(&watcher, waits).await > 0).then_some(())
    })
    .await;
    assert!(number(&watcher, "select count(*) from store.migrations").await > 0);
    let second = migrator(&program, &url, &stack);
    let sessions = "select count(*) from pg_stat_activity where application_name = 'telltale-migrate' and datname = 'fresh'";
    eventually_async("the second waits for the first", PATIENCE, || async {
        (number(&watcher, sessions).await == 3).then_some(())
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(first.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    blocker.batch_execute("rollback").await.unwrap();
    let (first, second) = tokio::task::block_in_place(|| {
        (
            first.wait_with_output().unwrap(),
            second.wait_with_output().unwrap(),
        )
    });
    assert_eq!(first.status.code(), None, "it was killed");
    assert!(
        second.status.success(),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
    let done = telltale_cli::migrate::migrate(&url).await.unwrap();
    assert!(done.applied.is_empty(), "{done:?}");
    let rows = number(&watcher, "select count(*) from store.migrations").await;
    assert_eq!(usize::try_from(rows).unwrap(), done.known);
    assert_eq!(number(&watcher, "select count(*) from readings").await, 0);
}
