//! F18: the broker's disk is full. F24, F25: its files are damaged. F34: PostgreSQL cannot sync. F35: its disk is full.
use super::{PATIENCE, QUARANTINED, READINGS, log, ready, send, skipped, unready};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use telltale_cli::{
    find::database_user,
    servers,
    stack::{Layout, Stack, StackOptions, scratch},
};
use telltale_tests::{eventually_async, pipeline::Pipeline};

/// Files below `folder` whose name ends so, in the order of their names.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Where the broker keeps a stream.
fn folder(stack: &Stack, stream: &str) -> PathBuf {
    let root = stack.layout().nats().join("jetstream");
    let folders: Vec<PathBuf> = files(&root, "meta.inf")
        .into_iter()
        .filter_map(|path| Some(path.parent()?.to_owned()))
        .filter(|path| path.ends_with(stream))
        .collect();
    folders.first().unwrap().clone()
}

/// Turns one bit in the middle of a file.
fn flip(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
}

/// Cuts a file in half.
fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let half = file.metadata().unwrap().len() / 2;
    file.set_len(half).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_stream_has_lost_is_told_to_the_message_and_the_rest_is_served() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    for (round, damage) in [flip as fn(&Path), cut].into_iter().enumerate() {
        // Accepted, validated and not yet annotated: VALID alone has them.
        pipeline.stack.stop_one("annotate").await.unwrap();
        send(&pipeline, 60 * round, 60 * round + 50);
        eventually_async("all is validated", PATIENCE, || async {
            (pipeline.metric("validate", "telltale_in_flight") == 0.0
                && pipeline.metric("validate", "telltale_published_total") > 0.0)
                .then_some(())
        })
        .await;
        pipeline.stack.stop_one("nats").await.unwrap();
        let folder = folder(&pipeline.stack, "VALID");
        let blocks = files(&folder, ".blk");
        let newest = blocks.last().unwrap();
        let before = fs::read(newest).unwrap();
        damage(newest);
        assert_ne!(before, fs::read(newest).unwrap(), "the fault was made");
        // What the server would believe without looking.
        for state in files(&folder, "index.db") {
            fs::remove_file(state).unwrap();
        }
        pipeline.stack.start_one("nats").await.unwrap();
        pipeline.stack.start_one("annotate").await.unwrap();
        for name in ["bridge", "validate", "annotate", "store"] {
            ready(&pipeline, name).await;
        }
        send(&pipeline, 60 * round + 50, 60 * round + 60);
        eventually_async("status tells what is missing", PATIENCE, || async {
            let output = pipeline.telltale(&["status", "-o", "json"]).await;
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let balance = &status["balance"];
            let (missing, stored) = (balance["missing"].as_i64()?, balance["stored"].as_i64()?);
            let accepted = balance["accepted"].as_i64()?;
            let told = output.status.code() != Some(0) && balance["missing_sequences"] != "";
            (balance["in_flight"] == 0 && missing > 0 && missing + stored == accepted && told)
                .then_some(status)
        })
        .await;
    }
    let stored = pipeline.count(READINGS).await.unwrap();
    assert!((20..120).contains(&stored), "{stored} of 120");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_states_of_a_durable_cost_no_message_and_double_none() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    send(&pipeline, 0, 100);
    pipeline.until(READINGS, 100, PATIENCE).await;
    for (round, damage) in [flip as fn(&Path), cut].into_iter().enumerate() {
        pipeline.stack.stop_one("nats").await.unwrap();
        let states = files(
            &folder(&pipeline.stack, "READINGS").join("obs").join("store"),
            "o.dat",
        );
        let state = states.first().expect("the durable has a state");
        damage(state);
        pipeline.stack.start_one("nats").await.unwrap();
        // Where the server throws the durable away, somebody has to make it again.
        eventually_async("store reads again", PATIENCE, || async {
            let (status, text) = pipeline.health("store").get("/readyz").ok()?;
            if text.contains("telltale provision") {
                let output = pipeline.telltale(&["provision"]).await;
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() || said.contains("obs/store"), "{said}");
                if !output.status.success() {
                    // What it advises.
                    pipeline.stack.stop_one("nats").await.unwrap();
                    fs::remove_dir_all(state.parent().unwrap()).unwrap();
                    pipeline.stack.start_one("nats").await.unwrap();
                }
            }
            (status == 200).then_some(())
        })
        .await;
        let sent = 100 + 20 * (round + 1);
        send(&pipeline, sent - 20, sent);
        pipeline
            .until(READINGS, i64::try_from(sent).unwrap(), PATIENCE)
            .await;
        pipeline.at_rest(PATIENCE).await;
    }
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_sync_stops_recovers_and_has_all_that_was_acknowledged() {
    let dir = scratch("faults").unwrap();
    // A stack that is kept syncs; one that is thrown away does not.
    let options = StackOptions {
        dir: Some(dir.clone()),
        ..StackOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    send(&pipeline, 0, 50);
    pipeline.until(READINGS, 50, PATIENCE).await;
    let postmaster = pipeline.stack.pid("postgres").unwrap();
    let said = dir.join("strace.log");
    let spying = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e"])
        .arg("inject=fsync,fdatasync:error=EIO:when=1")
        .args(
            children(postmaster)
                .iter()
                .chain([&postmaster])
                .flat_map(|pid| ["-p".to_owned(), pid.to_string()]),
        )
        .stderr(Stdio::from(fs::File::create(&said).unwrap()))
        .spawn();
    let Ok(mut strace) = spying else {
        return skipped("strace is not installed, nothing else here can make fsync fail");
    };
    send(&pipeline, 50, 150);
    let panicked = eventually_async("PostgreSQL panics", PATIENCE, || async {
        let refused = fs::read_to_string(&said).unwrap().contains("attach");
        let panicked = log(&pipeline, "postgres").contains("PANIC");
        (refused || panicked).then_some(panicked)
    })
    .await;
    if !panicked {
        let why = fs::read_to_string(&said).unwrap();
        return skipped(&format!("strace may not trace PostgreSQL here: {why}"));
    }
    tokio::task::block_in_place(|| {
        strace.kill().unwrap();
        strace.wait().unwrap();
    });
    pipeline.until(READINGS, 150, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    let text = log(&pipeline, "postgres");
    assert!(
        text.contains("could not fsync") || text.contains("could not fdatasync"),
        "{text}"
    );
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    pipeline.stack.shutdown().await;
    drop(pipeline);
    fs::remove_dir_all(dir).ok();
}

/// Processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// A small disk of memory, as long as it lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let owner =
            database_user().map_or_else(String::new, |user| format!(",uid={},gid={}", user.uid, user.gid));
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,mode=700{owner}"),
                "telltale-test",
            ])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Leaves no room on it until the file is removed.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let full = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", &format!("of={}", ballast.display())])
            .output()
            .unwrap();
        assert!(!full.status.success(), "the disk is full");
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_database_holds_everything_and_is_over_when_there_is_room() {
    let dir = scratch("faults").unwrap();
    let home = servers::postgres::home(Layout::at(&dir).folder());
    let Some(disk) = Disk::mount(&home, 160) else {
        return skipped("only root may mount the small disk that is to be full");
    };
    let options = StackOptions {
        dir: Some(dir.clone()),
        ..StackOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    send(&pipeline, 0, 50);
    pipeline.until(READINGS, 50, PATIENCE).await;
    let ballast = disk.fill();

    // More than any page of the tables has room for.
    let text = "x".repeat(100_000);
    let loads: Vec<_> = (0..200)
        .map(|n| telltale_tests::load::Load {
            thing: format!("t{}", n % 20),
            key: format!("full{n}"),
            payload: format!(r#"{{"text":"{n}{text}"}}"#).into(),
        })
        .collect();
    tokio::task::block_in_place(|| telltale_tests::load::over_http(&pipeline.http, &loads, 4));
    unready(&pipeline, "store", &["postgres"], PATIENCE).await;
    eventually_async("PostgreSQL has no room", PATIENCE, || async {
        log(&pipeline, "postgres").contains("No space left").then_some(())
    })
    .await;
    let lag = eventually_async("what is accepted waits in READINGS", PATIENCE, || async {
        let output = pipeline.telltale(&["status", "-o", "json"]).await;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let store = status["workers"]
            .as_array()?
            .iter()
            .find(|worker| worker["name"] == "store" && worker["stream"] == "READINGS")?;
        let waits = store["pending"].as_i64()? + store["in_flight"].as_i64()?;
        (waits > 0).then_some(waits)
    })
    .await;
    assert!(lag <= 200);

    fs::remove_file(&ballast).unwrap();
    pipeline.until(READINGS, 250, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    pipeline.stack.shutdown().await;
    drop((pipeline, disk));
    fs::remove_dir_all(dir).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_broker_refuses_and_is_over_when_there_is_room_and_the_broker_begins_anew() {
    let dir = scratch("faults").unwrap();
    let Some(disk) = Disk::mount(&Layout::at(&dir).nats().join("jetstream"), 64) else {
        return skipped("only root may mount the small disk that is to be full");
    };
    let options = StackOptions {
        dir: Some(dir.clone()),
        ..StackOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    send(&pipeline, 0, 50);
    pipeline.until(READINGS, 50, PATIENCE).await;
    let ballast = disk.fill();
    eventually_async("the bridge refuses for a while", PATIENCE, || async {
        let answer = pipeline
            .http
            .post("/things/t1/readings", &[], br#"{"temperature":1}"#)
            .ok()?;
        // What still went in is counted below.
        (answer.status == 503).then(|| assert!(answer.retry_after.is_some(), "{answer:?}"))
    })
    .await;

    fs::remove_file(&ballast).unwrap();
    // nats-server remembers a write that failed for as long as it runs, whatever room there is.
    pipeline.stack.supervisor().unit("nats").unwrap().restart();
    send(&pipeline, 50, 150);
    let all = "select count(distinct message_id) from readings where message_id like '%:k%'";
    pipeline.until(all, 150, PATIENCE).await;
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    pipeline.stack.shutdown().await;
    drop((pipeline, disk));
    fs::remove_dir_all(dir).ok();
}
