//! F10: a worker finds no memory, no file descriptor, no room for its log. F50: its clock is an hour wrong.
use super::{PATIENCE, QUARANTINED, READINGS, log, ready, send, skipped};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use telltale_cli::stack::StackOptions;
use telltale_schemas::Timestamp;
use telltale_tests::{
    eventually_async,
    load::{self, Load},
    pipeline::Pipeline,
};

/// Limits a process that runs.
fn limit(pid: u32, what: Resource, to: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    prlimit(pid, what, limit).unwrap();
}

/// Bytes of address space that a process has.
fn size(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_memory_ends_says_so_and_another_does_its_work() {
    let mut pipeline = Pipeline::start(StackOptions {
        // What it had in hand comes again no earlier.
        ack_wait: Some(Duration::from_secs(5)),
        ..StackOptions::default()
    })
    .await;
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;
    let pid = pipeline.stack.pid("annotate").unwrap();
    limit(pid, Resource::As, size(pid) + (1 << 20));
    let text = "x".repeat(200_000);
    let loads: Vec<Load> = (0..100)
        .map(|n| Load {
            thing: format!("t{}", n % 20),
            key: format!("large{n}"),
            payload: format!(r#"{{"text":"{n}{text}"}}"#).into(),
        })
        .collect();
    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads, 4));
    pipeline.until(READINGS, 120, PATIENCE).await;
    assert!(pipeline.stack.restarts("annotate") >= 1, "it ended");
    assert_ne!(pipeline.stack.pid("annotate"), Some(pid));
    let text = log(&pipeline, "annotate");
    assert!(text.contains("memory allocation of"), "{text}");
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    pipeline.at_rest(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_with_few_file_descriptors_refuses_some_lives_and_serves_again() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let pid = pipeline.stack.pid("bridge").unwrap();
    limit(pid, Resource::Nofile, 64);
    let address = pipeline.stack.env("BRIDGE_URL").replace("http://", "");
    let held: Vec<TcpStream> = (0..200)
        .filter_map(|_| TcpStream::connect(&address).ok())
        .collect();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    eventually_async("it has no more", PATIENCE, || async {
        (open() >= 60).then_some(())
    })
    .await;
    let spent = super::cpu_seconds(pid);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = (super::cpu_seconds(pid) - spent) / 2.0;
    assert!(busy < 0.5, "it tries again without a pause: {busy}");
    let text = log(&pipeline, "bridge");
    assert!(text.contains("Too many open files"), "it says why: {text}");
    drop(held);
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;
    assert_eq!(pipeline.stack.pid("bridge"), Some(pid), "it lives");
    pipeline.at_rest(PATIENCE).await;
}

/// A worker of the stack's, outside it: with more in its environment, and its log elsewhere.
struct Apart(Child);

impl Apart {
    async fn start(pipeline: &Pipeline, name: &str, env: &[(&str, String)], log: impl Into<Stdio>) -> Self {
        pipeline.stack.stop_one(name).await.unwrap();
        let unit = pipeline.stack.supervisor().unit(name).unwrap();
        let spec = unit.spec();
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .envs(spec.env.iter().cloned())
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(&spec.folder)
            .stdin(Stdio::null())
            .stderr(log);
        let apart = Self(command.spawn().unwrap());
        ready(pipeline, name).await;
        apart
    }

    /// Tells it to stop, and says how it ended.
    fn stop(&mut self) -> std::process::ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        tokio::task::block_in_place(|| self.0.wait().unwrap())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_log_finds_no_room_works_on() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let talkative = [("TELLTALE_LOG", "debug".to_owned())];
    let mut annotate = Apart::start(&pipeline, "annotate", &talkative, full).await;
    send(&pipeline, 0, 20);
    pipeline.until(READINGS, 20, PATIENCE).await;
    assert!(annotate.stop().success());
}

/// Debian's `faketime`.
fn libfaketime() -> Option<PathBuf> {
    let libraries = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    libraries
        .iter()
        .map(|folder| PathBuf::from(folder).join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
}

/// When annotate began and ended each of its messages, by its own clock.
async fn hops(pipeline: &Pipeline) -> Vec<(i64, i64)> {
    let js = telltale_nats::client::context(super::connect(pipeline, "operator").await);
    let readings = js.get_stream("READINGS").await.unwrap();
    let last = readings.cached_info().state.last_sequence;
    let mut hops = vec![];
    for sequence in 1..=last {
        let message = readings.get_raw_message(sequence).await.unwrap();
        let header = message.headers.get(telltale_nats::header::HOPS).unwrap();
        let hop = header
            .as_str()
            .split([',', ' '])
            .find(|hop| hop.starts_with("annotate;"))
            .unwrap();
        let mut times = hop.split(';').skip(2).map(|time| time.parse().unwrap());
        hops.push((times.next().unwrap(), times.next().unwrap()));
    }
    hops
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_an_hour_wrong_keeps_its_timers_and_nobodys_time_turns_negative() {
    let Some(library) = libfaketime() else {
        return skipped(
            "libfaketime is not installed (Debian: faketime); nothing else turns one process's clock",
        );
    };
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let clock = pipeline.stack.dir().join("clock");
    fs::write(&clock, "+0").unwrap();
    let env = [
        ("LD_PRELOAD", library.to_string_lossy().into_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_string_lossy().into_owned()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("TELLTALE_LOG_FORMAT", "json".to_owned()),
        ("TELLTALE_LOG", "debug".to_owned()),
    ];
    let path = pipeline.stack.dir().join("annotate.log");
    let mut annotate = Apart::start(&pipeline, "annotate", &env, fs::File::create(&path).unwrap()).await;
    for (round, offset) in ["+0", "+1h", "-1h", "+0"].into_iter().enumerate() {
        fs::write(&clock, offset).unwrap();
        send(&pipeline, 20 * round, 20 * (round + 1));
        let rows = i64::try_from(20 * (round + 1)).unwrap();
        // Timers that went by the clock of the wall would stand still for an hour.
        pipeline.until(READINGS, rows, Duration::from_secs(30)).await;
    }
    assert!(annotate.stop().success());
    let text = fs::read_to_string(&path).unwrap();
    let now = Timestamp::now().as_micros();
    let hours: BTreeSet<i64> = hops(&pipeline)
        .await
        .iter()
        .map(|(start, end)| {
            assert!(start <= end, "a hop took {} us:\n{text}", end - start);
            (start - now + 1_800_000_000).div_euclid(3_600_000_000)
        })
        .collect();
    assert_eq!(hours, BTreeSet::from([-1, 0, 1]), "its clock was wrong both ways");
    pipeline.stack.start_one("annotate").await.unwrap();
    pipeline.at_rest(PATIENCE).await;
    assert_eq!(pipeline.count(QUARANTINED).await, Some(0));
    let hour = "select count(*) from readings where received not between now() - interval '10 min' and now() + interval '1 min'";
    assert_eq!(
        pipeline.count(hour).await,
        Some(0),
        "the receipt's time is the bridge's"
    );
}
