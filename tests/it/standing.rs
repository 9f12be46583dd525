//! The stack itself: it starts, stays, and ends only what it started.
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};
use telltale_cli::{
    envfile,
    stack::{BRIDGE, Build, GATEWAY, Stack, StackOptions, WORKERS, scratch, telltale},
};
use telltale_nats::client;

const SOON: Duration = Duration::from_mins(1);

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
    let js = client::context(context.nats().await.unwrap());
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
    drop(stack);
    assert!(!dir.exists(), "nobody keeps the folder of a test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_comes_back_and_the_others_keep_their_ids_and_a_reading_becomes_a_row() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let names = || WORKERS.into_iter().chain([BRIDGE, GATEWAY, "nats", "postgres"]);
    for victim in WORKERS.into_iter().chain([BRIDGE, GATEWAY]) {
        let before: BTreeMap<_, _> = names().map(|name| (name, stack.pid(name))).collect();
        let killed = stack.kill(victim).unwrap();
        eventually(victim, || async {
            stack.pid(victim).is_some_and(|now| now != killed)
        })
        .await;
        stack.ready(victim, SOON).await.unwrap();
        for (name, pid) in before.into_iter().filter(|(name, _)| *name != victim) {
            assert_eq!(stack.pid(name), pid, "{name} had nothing to do with {victim}");
        }
        assert_eq!(stack.restarts(victim), 1);
    }
    let copy = stack.start_copy("validate").await.unwrap();
    assert_eq!(copy, "validate-2");
    stack.stop_one("validate").await.unwrap();
    publish(stack.env("BRIDGE_URL"), stack.env("BRIDGE_TOKEN"));
    let reader = stack.context().unwrap().sql().await.unwrap();
    eventually("a row", || async {
        !reader
            .query("select 1 from readings", &[])
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    assert_eq!(stack.pid("validate"), None);
    stack.start_one("validate").await.unwrap();
}

fn publish(url: &str, token: &str) {
    let sent = ureq::post(format!("{url}/things/demo/readings"))
        .header("Authorization", format!("Bearer {token}"))
        .send(r#"{"temperature":21.5}"#);
    assert_eq!(sent.unwrap().status(), 202);
}

/// `telltale ARGS` for the stack in `dir`.
fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(telltale(Build::Own).unwrap());
    let output = command
        .args(args)
        .arg("--dir")
        .arg(dir)
        .current_dir(dir)
        .output()
        .unwrap();
    eprintln!(
        "telltale {args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "))
}

#[test]
fn up_leaves_a_stack_that_is_found_again_and_ended_wholly() {
    let dir = scratch("up").unwrap();
    let _ended = Ended(&dir);
    let up = run(&dir, &["up", "--debug", "--detach", "--no-simulate"]);
    assert!(up.status.success());
    let table = String::from_utf8(up.stdout).unwrap();
    assert!(!table.contains('\x1b') && table.contains("publish:"), "{table}");

    let path = dir.join(".telltale/env");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let values = envfile::read(&path).unwrap();
    let script = format!(". '{}' && printf %s \"$BRIDGE_TOKEN\"", path.display());
    let sourced = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(sourced.stdout).unwrap(), values["BRIDGE_TOKEN"]);
    publish(&values["BRIDGE_URL"], &values["BRIDGE_TOKEN"]);

    let again = run(&dir, &["up", "--debug"]);
    assert!(again.status.success());
    assert!(
        String::from_utf8(again.stdout)
            .unwrap()
            .contains("already running")
    );

    let pids = pids(&dir);
    assert!(pids.len() >= 6, "{pids:?}");
    assert!(run(&dir, &["restart", "annotate"]).status.success());
    let unknown = run(&dir, &["start", "anotate"]);
    assert!(!unknown.status.success());
    assert!(
        String::from_utf8(unknown.stderr)
            .unwrap()
            .contains("did you mean `annotate`?")
    );

    let refused = run(&dir, &["down", "--volumes"]);
    assert_eq!(
        refused.status.code(),
        Some(2),
        "nothing is deleted that nobody agreed to"
    );
    assert!(run(&dir, &["down"]).status.success());
    assert!(
        pids.iter().all(|pid| !is_alive(*pid)),
        "all that was started has ended"
    );
    assert_eq!(run(&dir, &["stop", "annotate"]).status.code(), Some(3));

    let up = run(&dir, &["up", "--debug", "--detach", "--no-simulate"]);
    assert!(up.status.success());
    assert_eq!(
        envfile::read(&path).unwrap(),
        values,
        "the second time is like the first"
    );
    assert!(run(&dir, &["down", "--volumes", "--yes"]).status.success());
    assert!(!dir.join(".telltale").exists());
}

/// Ends the stack in a folder and removes it, also where the test fails.
struct Ended<'a>(&'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        run(self.0, &["down", "--volumes", "--yes"]);
        std::fs::remove_dir_all(self.0).expect("the folder of a test can be removed");
    }
}

/// The processes of the stack, by their pid files.
fn pids(dir: &Path) -> Vec<u32> {
    let files = std::fs::read_dir(dir.join(".telltale/run"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .map(|path| {
            let mark: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            u32::try_from(mark["pid"].as_u64().unwrap()).unwrap()
        })
        .collect()
}
