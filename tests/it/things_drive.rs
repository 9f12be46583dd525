//! What an entry says of a thing decides the next verdict: under load, at once, and nothing is started again.
use serde_json::{Map, Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use telltale_cli::stack::{Stack, StackOptions};
use telltale_schemas::{Timestamp, td};
use telltale_tests::{http, pipeline::Pipeline};

/// Things that report together.
const THINGS: usize = 20;
/// Those that change: one by `thing put`, one by a merge patch of its description at the gateway.
const CHANGED: [&str; 2] = ["dial-0", "dial-1"];
/// Connections that they report over.
const REPORTERS: usize = 4;
/// Between two reports of all over one: together a thousand readings a second.
const EVERY: Duration = Duration::from_millis(80);
/// From the change of an entry to the first verdict by it, and to the last by what was before.
const WITHIN: Duration = Duration::from_secs(2);
/// For what takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// What was reported, and how fast.
struct Reported {
    readings: usize,
    a_second: f64,
}

/// Reports level 50 of each thing until told to stop, no more often than is asked for.
fn report(client: &http::Client, over: &AtomicBool) -> Reported {
    let levels: Map<String, Value> = (0..THINGS)
        .map(|n| (format!("dial-{n}/level"), json!(50)))
        .collect();
    let pack = Value::Object(levels).to_string();
    let (began, mut readings) = (Instant::now(), 0);
    let mut next = began;
    while !over.load(Ordering::Relaxed) {
        let headers = [("Content-Type", "application/json")];
        let answer = client.post("/readings", &headers, pack.as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        readings += THINGS;
        next += EVERY;
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    Reported {
        readings,
        a_second: readings as f64 / began.elapsed().as_secs_f64(),
    }
}

/// Everything that runs, with its process and how often it was started again.
fn processes(stack: &Stack) -> Vec<(String, Option<u32>, u32)> {
    let units = stack.supervisor().all();
    units
        .iter()
        .map(|unit| {
            let state = unit.state();
            (unit.spec().name.clone(), state.pid, state.restarts)
        })
        .collect()
}

/// Writes to the registry what is known of `dial-0` from now on.
async fn put(pipeline: &Pipeline, maximum: u32) {
    let entry = json!({"thing": "dial-0", "policy": {"properties": {"level": {"maximum": maximum}}}});
    let file = pipeline.stack.dir().join("dial.json");
    std::fs::write(&file, entry.to_string()).unwrap();
    let done = pipeline.telltale(&["thing", "put", file.to_str().unwrap()]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Registers `dial-1` at the gateway, by a description.
fn describe(gateway: &http::Client) {
    let td = json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1", "id": td::thing_id("dial-1"), "title": "Dial 1",
        "securityDefinitions": {"none": {"scheme": "nosec"}}, "security": "none",
        "properties": {"level": {"type": "number", "maximum": 100, "forms": [{"href": "coap://[2001:db8::1]/level"}]}},
    });
    let headers = [("Content-Type", "application/td+json")];
    let answer = gateway
        .post("/things", &headers, td.to_string().as_bytes())
        .unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Changes what its description says.
fn patch(gateway: &http::Client, maximum: u32) {
    let patch = json!({"properties": {"level": {"maximum": maximum}}}).to_string();
    let headers = [("Content-Type", "application/merge-patch+json")];
    let answer = gateway
        .send("PATCH", "/things/dial-1", &headers, patch.as_bytes())
        .unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// How many of the readings that came in then have that quality.
async fn count(pipeline: &mut Pipeline, thing: &str, quality: u8, received: &str) -> i64 {
    let query = format!(
        "select count(*) from readings where thing {thing} and quality = {quality} and received {received}"
    );
    pipeline.count(&query).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lower_maximum_flags_the_next_reading_at_a_thousand_a_second_and_nothing_is_started_again() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let stack = &pipeline.stack;
    let gateway = http::Client::new(
        stack.env("GATEWAY_URL"),
        Some(stack.env("GATEWAY_TOKEN").to_owned()),
    );
    put(&pipeline, 100).await;
    describe(&gateway);
    let before = processes(&pipeline.stack);
    let over = Arc::new(AtomicBool::new(false));
    let reporters = [(); REPORTERS].map(|()| {
        let (client, over) = (pipeline.http.clone(), over.clone());
        std::thread::spawn(move || report(&client, &over))
    });
    let judged = |thing: &str, quality: u8| {
        format!("select count(*) from readings where thing = '{thing}' and quality = {quality}")
    };
    let mut changes = vec![];
    for thing in CHANGED {
        pipeline.at_least(&judged(thing, 1), 50, SOON).await;
        let failed = judged(thing, 4);
        assert_eq!(pipeline.count(&failed).await, Some(0), "none fails before");
        changes.push((thing, Timestamp::now()));
        match thing {
            "dial-0" => put(&pipeline, 10).await,
            _ => patch(&gateway, 10),
        }
        pipeline.at_least(&failed, 100, SOON).await;
    }
    over.store(true, Ordering::Relaxed);
    let join = || reporters.map(|reporter| reporter.join().unwrap());
    let reported = tokio::task::spawn_blocking(join).await.unwrap();
    let all = "select count(*) from readings where name = 'level'";
    let readings: usize = reported.iter().map(|one| one.readings).sum();
    let readings = i64::try_from(readings).unwrap();
    pipeline.until(all, readings, SOON).await;

    for (thing, changed) in changes {
        let later = changed.plus_micros(i64::try_from(WITHIN.as_micros()).unwrap());
        let of = format!("= '{thing}'");
        assert_eq!(
            count(&mut pipeline, &of, 1, &format!(">= '{later}'")).await,
            0,
            "{thing}: after {WITHIN:?} none passes"
        );
        assert!(
            count(&mut pipeline, &of, 4, &format!("< '{later}'")).await > 0,
            "{thing}: within {WITHIN:?} one fails"
        );
    }
    let others = "not in ('dial-0', 'dial-1')";
    assert_eq!(
        count(&mut pipeline, others, 4, "is not null").await,
        0,
        "it is these things' matter"
    );
    assert_eq!(processes(&pipeline.stack), before, "nothing was started again");
    let rate: f64 = reported.iter().map(|one| one.a_second).sum();
    assert!(rate > 900.0, "only {rate:.0} readings a second");
}
