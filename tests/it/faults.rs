//! One fault at a time, each with its own outcome, and with proof that it occurred. The numbers are those of
//! `docs/RELIABILITY.md`.
mod database;
mod disks;
mod durables;
mod order;
mod processes;
mod subscribers;

use std::{fs, time::Duration};
use telltale_cli::stack::roads;
use telltale_nats::{
    async_nats,
    client::{self, Access},
};
use telltale_tests::{
    eventually_async,
    load::{self, Load},
    pipeline::Pipeline,
};

/// How long anything here may take on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const READINGS: &str = "select count(*) from readings";
pub(crate) const QUARANTINED: &str = "select count(*) from quarantine";

/// Brings in readings number `from` to `to`, each with an id of its own, and does not give up.
pub(crate) fn send(pipeline: &Pipeline, from: usize, to: usize) {
    let loads: Vec<Load> = (from..to)
        .map(|n| Load {
            thing: format!("t{}", n % 20),
            key: format!("k{n}"),
            payload: format!(r#"{{"temperature":{n}}}"#).into(),
        })
        .collect();
    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads, 8));
}

/// A connection with the rights of one of the stack's identities.
pub(crate) async fn connect(pipeline: &Pipeline, user: &str) -> async_nats::Client {
    let access = Access {
        url: pipeline.stack.env("NATS_URL").to_owned(),
        seed: Some(roads::identity(pipeline.stack.layout(), user).unwrap().seed),
        user: user.to_owned(),
    };
    client::connect(&access).await.unwrap()
}

/// Waits until a process says that it is not ready, in words that hold all of `words`.
pub(crate) async fn unready(pipeline: &Pipeline, name: &str, words: &[&str], within: Duration) -> String {
    let face = pipeline.health(name);
    let mut seen = String::new();
    let end = tokio::time::Instant::now() + within;
    loop {
        if let Ok((status, text)) = face.get("/readyz") {
            if status == 503 && words.iter().all(|word| text.contains(word)) {
                return text;
            }
            seen = text;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{name} does not say {words:?} within {within:?}, but {seen}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn ready(pipeline: &Pipeline, name: &str) {
    let face = pipeline.health(name);
    eventually_async(&format!("{name} is ready"), PATIENCE, || async {
        face.get("/readyz").ok().filter(|(status, _)| *status == 200)
    })
    .await;
}

/// All that a process has logged.
pub(crate) fn log(pipeline: &Pipeline, name: &str) -> String {
    let unit = pipeline.stack.supervisor().unit(name).unwrap();
    String::from_utf8_lossy(&fs::read(unit.log().path()).unwrap()).into_owned()
}

/// Seconds of processor time that a process has taken.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let field = |n: usize| fields.split(' ').nth(n).unwrap().parse::<f64>().unwrap();
    // A hundred ticks a second on every Linux that we know.
    (field(11) + field(12)) / 100.0
}

/// Bytes of memory that a process holds.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Says why a test could not make its fault, where a machine does not let it.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
