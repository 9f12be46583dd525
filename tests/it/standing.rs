//! The stack itself: it starts, stays, and ends only what it started.
use std::time::{Duration, Instant};
use telltale_cli::stack::{Stack, StackOptions};

const SOON: Duration = Duration::from_secs(60);

/// Waits until `is` says yes; fails after a deadline.
async fn eventually<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !is().await {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_come_back_on_the_same_ports_with_the_same_data() {
    let stack = Stack::start(StackOptions {
        workers: false,
        ..StackOptions::default()
    })
    .await
    .unwrap();
    let dir = stack.dir().to_owned();
    let context = stack.context().unwrap();
    let owner = context.sql_admin().await.unwrap();
    owner
        .batch_execute("create table kept (n int); insert into kept values (7)")
        .await
        .unwrap();
    context
        .sql()
        .await
        .unwrap()
        .simple_query("select * from readings")
        .await
        .unwrap();

    let nats = context.nats().await.unwrap();
    let js = telltale_nats::client::context(nats);
    js.get_stream("RAW").await.unwrap();

    for name in ["postgres", "nats"] {
        let other = if name == "nats" { "postgres" } else { "nats" };
        let (pid, others) = (stack.kill(name).unwrap(), stack.pid(other));
        eventually(name, || async { stack.pid(name).is_some_and(|now| now != pid) }).await;
        stack.ready(name, SOON).await.unwrap();
        assert!(stack.restarts(name) >= 1);
        assert_eq!(stack.pid(other), others, "{other} had nothing to do with it");
    }
    let owner = context.sql_admin().await.unwrap();
    assert_eq!(
        owner
            .query_one("select n from kept", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        7
    );
    js.get_stream("RAW").await.unwrap();
    stack.shutdown().await;
    assert!(!dir.exists(), "nobody keeps the folder of a test");
}
