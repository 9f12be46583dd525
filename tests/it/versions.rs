//! Two versions of a stage side by side, and every process replaced under load.
use clap::Parser as _;
use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use telltale_cli::stack::{BRIDGE, StackOptions, WORKERS};
use telltale_tests::{http, inventory, newer::BREAKING, pipeline::Pipeline};

const SOON: Duration = Duration::from_secs(60);

/// Which version stands beside this one.
#[derive(clap::Parser)]
struct Told {
    /// A folder of programs of another version; else trial workers that play the next one
    #[arg(long, env = "TELLTALE_OTHER_VERSION", value_name = "FOLDER")]
    other_version: Option<PathBuf>,
}

/// The program of that stage in the other version; none where nobody plays it.
fn other(kind: &str) -> Option<PathBuf> {
    match Told::parse_from(["versions"]).other_version {
        Some(folder) => Some(folder.join(format!("telltale-{kind}"))),
        None => newer(kind),
    }
}

fn newer(kind: &str) -> Option<PathBuf> {
    ["validate", "annotate"]
        .contains(&kind)
        .then(|| telltale_tests::examples().join(format!("newer_{kind}")))
}

/// Puts a copy of the other version, where there is one, in the place of a process. Says its name.
async fn replace(pipeline: &Pipeline, kind: &str, old: &str) -> String {
    let copy = match other(kind) {
        Some(program) => pipeline.stack.start_copy_of(kind, program).await,
        None => pipeline.stack.start_copy(kind).await,
    };
    let copy = copy.unwrap();
    pipeline.stack.stop_one(old).await.unwrap();
    copy
}

fn post(client: &http::Client, number: usize, property: &str) -> bool {
    let (path, key) = (format!("/things/t{}/readings", number % 50), format!("k{number}"));
    let body = format!(r#"{{"{property}":{number}}}"#);
    let headers = [("Idempotency-Key", key.as_str())];
    client
        .post(&path, &headers, body.as_bytes())
        .is_ok_and(|answer| answer.status == 202)
}

/// Rows that are what their device sent, each reading once.
const RIGHT: &str = "select count(distinct message_id) from readings where name = 'number' \
                     and message_id = thing || ':k' || value and quality is distinct from 4";

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_share_a_durable_and_what_the_newer_adds_harms_nothing() {
    const EACH: usize = 1_500;
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let before = inventory::roads(&pipeline.stack).await;
    let mut copies = Vec::new();
    for kind in WORKERS {
        if let Some(program) = other(kind) {
            copies.push((kind, pipeline.stack.start_copy_of(kind, program).await.unwrap()));
        }
    }
    assert_eq!(
        inventory::roads(&pipeline.stack).await,
        before,
        "no start changes a durable"
    );
    let diff = pipeline.telltale(&["provision", "--diff"]).await;
    assert_eq!(
        diff.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&diff.stdout)
    );

    // Until both versions of each stage have had their part.
    let mut sent = 0;
    let busy = |pipeline: &Pipeline| {
        let handled = |name: &str| pipeline.metric(name, "telltale_processed_total") >= 20.0;
        copies.iter().all(|(kind, copy)| handled(kind) && handled(copy))
    };
    let end = Instant::now() + SOON;
    while sent < EACH || !busy(&pipeline) {
        assert!(Instant::now() < end, "both versions work");
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                for part in 0..8 {
                    let client = &pipeline.http;
                    scope.spawn(move || {
                        for number in (sent..sent + EACH).skip(part).step_by(8) {
                            assert!(post(client, number, "number"), "number {number} is accepted");
                        }
                    });
                }
            });
        });
        sent += EACH;
    }
    let sent = i64::try_from(sent).unwrap();
    pipeline.until(RIGHT, sent, SOON).await;
    pipeline.at_rest(SOON).await;
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(sent));
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
    if Told::parse_from(["versions"]).other_version.is_none() {
        // What the newer one knows about the thing has a place in SQL already.
        let added = "select count(*) from readings where annotation ->> 'newer' = 'true'";
        let added = pipeline.count(added).await.unwrap();
        assert!(
            0 < added && added < sent,
            "{added} of {sent} came through the newer one"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaking_version_is_quarantined_by_the_older_and_stored_by_the_newer() {
    const EACH: usize = 20;
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let newer = |kind: &str| newer(kind).unwrap();
    pipeline
        .stack
        .start_copy_of("validate", newer("validate"))
        .await
        .unwrap();
    pipeline.stack.stop_one("validate").await.unwrap();
    for number in 0..2 * EACH {
        // Mixed, so that a pack holds both.
        let property = if number % 2 == 0 { "number" } else { BREAKING };
        assert!(post(&pipeline.http, number, property));
    }
    let each = i64::try_from(EACH).unwrap();
    let understood = "select count(*) from quarantine where stage = 'annotate' and reason = 'version' \
                      and errors -> 0 ->> 'pointer' = '/type' \
                      and errors -> 0 ->> 'message' like '%telltale.reading.v2%telltale.reading.v1%replay%'";
    pipeline.until(understood, each, SOON).await;
    pipeline.at_rest(SOON).await;
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(each));

    pipeline
        .stack
        .start_copy_of("annotate", newer("annotate"))
        .await
        .unwrap();
    pipeline.stack.stop_one("annotate").await.unwrap();
    let replay = pipeline
        .telltale(&["quarantine", "replay", "--reason", "version", "--yes"])
        .await;
    assert!(
        replay.status.success(),
        "{}",
        String::from_utf8_lossy(&replay.stderr)
    );
    let stored =
        "select count(*) from readings where name = 'breaking' and message_id = thing || ':k' || value";
    pipeline.until(stored, each, SOON).await;
    pipeline.at_rest(SOON).await;
    assert_eq!(
        pipeline.count("select count(*) from readings").await,
        Some(2 * each)
    );
}

/// A reading may have to be sent again while its bridge is replaced; it is accepted after no longer than this.
const LONGEST: Duration = Duration::from_secs(5);

/// Devices that know two bridges, and go to the other one when theirs does not take a reading.
#[derive(Default)]
struct Devices {
    bridges: Mutex<Vec<http::Client>>,
    next: AtomicUsize,
    again: AtomicUsize,
    longest: Mutex<Duration>,
    stop: AtomicBool,
}

impl Devices {
    fn run(&self) {
        let mut at = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            loop {
                let bridge = {
                    let bridges = self.bridges.lock().unwrap();
                    bridges[at % bridges.len()].clone()
                };
                if post(&bridge, number, "number") {
                    break;
                }
                at += 1;
                self.again.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(20));
            }
            let mut longest = self.longest.lock().unwrap();
            *longest = longest.max(began.elapsed());
            drop(longest);
            // Load, and not as much as the machine bears: others test beside us.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_is_replaced_under_load_and_nothing_is_lost_doubled_or_refused_for_long() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let devices = Devices::default();
    devices.bridges.lock().unwrap().push(pipeline.http.clone());
    let mut replaced = 0;
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| devices.run());
            }
            let _stopped = Stop(&devices.stop);
            tokio::runtime::Handle::current().block_on(async {
                // To the other version, and back.
                for kind in WORKERS {
                    let copy = replace(&pipeline, kind, kind).await;
                    more(&mut pipeline).await;
                    pipeline.stack.start_one(kind).await.unwrap();
                    pipeline.stack.stop_one(&copy).await.unwrap();
                    more(&mut pipeline).await;
                    replaced += 2;
                }
                let second = match other(BRIDGE) {
                    Some(program) => pipeline.stack.start_copy_of(BRIDGE, program).await,
                    None => pipeline.stack.start_copy(BRIDGE).await,
                };
                let second = second.unwrap();
                let address = pipeline.stack.told(&second, "TELLTALE_HTTP_LISTEN").unwrap();
                let token = pipeline.stack.env("BRIDGE_TOKEN").to_owned();
                let client = http::Client::new(format!("http://{address}"), Some(token));
                devices.bridges.lock().unwrap().push(client);
                for name in [BRIDGE, &second] {
                    pipeline.stack.stop_one(name).await.unwrap();
                    more(&mut pipeline).await;
                    pipeline.stack.start_one(name).await.unwrap();
                    replaced += 1;
                }
            });
        });
    });
    let sent = i64::try_from(devices.next.into_inner()).unwrap();
    let (again, longest) = (devices.again.into_inner(), devices.longest.into_inner().unwrap());
    eprintln!(
        "{sent} readings, {replaced} replacements, {again} sent again, the longest accepted after {longest:?}"
    );
    assert!(again > 0, "the bridges were missed");
    assert!(longest < LONGEST, "one reading was refused for {longest:?}");
    pipeline.until(RIGHT, sent, SOON).await;
    let status = pipeline.at_rest(SOON).await;
    assert_eq!(status["balance"]["missing"], 0, "{status}");
    assert_eq!(pipeline.count("select count(*) from readings").await, Some(sent));
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
}

/// Stops the devices also where the test fails, or it would wait for them for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until a hundred more readings have come through from end to end.
async fn more(pipeline: &mut Pipeline) {
    let have = pipeline.count("select count(*) from readings").await.unwrap();
    pipeline
        .at_least("select count(*) from readings", have + 100, SOON)
        .await;
}
