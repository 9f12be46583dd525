//! Very many things: annotate keeps its rate, and its memory has a bound.
//!
//! In the suite with a few thousand. By hand with a hundred thousand, built for release:
//! `TELLTALE_THINGS=100000 cargo test --release --workspace --test it -- --nocapture very_many`.
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use telltale_cli::stack::StackOptions;
use telltale_nats::{
    Lane, Name, Outgoing, Publisher,
    async_nats::{Client, jetstream},
    client, header, publish, subject,
};
use telltale_schemas::{Envelope, Flag, Reading, Record, Timestamp};
use telltale_tests::{eventually_async, pipeline::Pipeline};

/// As many as a site had before.
const FEW: usize = 1_000;
/// Readings in a pack, as validate packs them.
const PACK: usize = 50;
/// What annotate may have in memory at any time.
const MEMORY_MAX: u64 = 128_000_000;
/// Of its rate with few things.
const SHARE_MIN: f64 = 0.9;
/// What each has in common with the others of its model.
const PROPERTIES: [&str; 8] = [
    "air_temperature",
    "air_humidity",
    "air_pressure",
    "wind_speed",
    "wind_direction",
    "surface_temperature",
    "visibility",
    "rain_rate",
];

/// By hand, how many; else as many as the suite has time for.
fn many() -> Option<usize> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let wanted = std::env::var("TELLTALE_THINGS").ok()?;
    Some(wanted.parse().expect("TELLTALE_THINGS is a number"))
}

/// The entry of a weather station: its model's policy, its own place, and a description of a usual length.
fn entry(n: usize) -> Value {
    let per_property = |make: &dyn Fn(&str) -> Value| -> Value {
        PROPERTIES
            .iter()
            .map(|name| ((*name).to_owned(), make(name)))
            .collect()
    };
    let affordance = |name: &str| {
        json!({
            "title": name, "type": "number", "unit": "Cel", "minimum": -40, "maximum": 80, "readOnly": true,
            "observable": true, "forms": [{"href": format!("things/station-{n}/properties/{name}"), "op": "readproperty"}],
        })
    };
    json!({
        "thing": format!("station-{n}"),
        "policy": {
            "declared": true, "interval": 60,
            "properties": per_property(&|_| json!({"type": "number", "unit": "Cel", "minimum": -40, "maximum": 80, "readOnly": true})),
        },
        "annotation": {
            "foi": format!("urn:road:A8:km{n}"),
            "platform": format!("urn:pillar:{n}"),
            "location": {"type": "Point", "coordinates": [7.0 + n as f64 / 1e5, 43.6]},
            "properties": per_property(&|name| json!({"observed": format!("http://vocab.nerc.ac.uk/standard_name/{name}/"), "ucum": "Cel"})),
        },
        "td": {
            "@context": "https://www.w3.org/2022/wot/td/v1.1", "id": format!("station-{n}"), "title": format!("Station {n}"),
            "securityDefinitions": {"bearer": {"scheme": "bearer"}}, "security": "bearer",
            "properties": per_property(&affordance),
        },
    })
}

async fn register(client: &Client, things: std::ops::Range<usize>) {
    let js = client::context(client.clone());
    let bucket = js.get_key_value("things").await.unwrap();
    let bucket = &bucket;
    stream::iter(things)
        .map(|n| async move {
            bucket
                .put(format!("station-{n}"), entry(n).to_string().into())
                .await
        })
        .buffer_unordered(256)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

/// A pack of readings, each of another thing.
fn pack(site: &Name, run: &str, number: usize, things: usize) -> Outgoing {
    let now = Timestamp::now();
    let reading = |n: usize| {
        let record = |name: &str| Record {
            u: Some("Cel".to_owned()),
            v: Some(21.5),
            q: Some(Flag::Pass),
            ..Record::named(name)
        };
        let thing = format!("station-{}", n % things);
        let data = Reading {
            records: PROPERTIES[..2].iter().map(|name| record(name)).collect(),
        };
        let envelope = Envelope::new(format!("{thing}:{run}-{n}"), "/local/validate", thing, now, data);
        serde_json::to_value(envelope).unwrap()
    };
    let readings: Value = (number * PACK..(number + 1) * PACK).map(reading).collect();
    Outgoing {
        subject: subject::pack(site),
        headers: vec![(header::CONTENT_TYPE, header::CLOUDEVENT_BATCH.to_owned())],
        payload: Bytes::from(readings.to_string()),
        stream: Lane::Valid.stream(),
    }
}

async fn annotated(js: &jetstream::Context) -> u64 {
    let stream = js.get_stream("READINGS").await.unwrap();
    stream.cached_info().state.last_sequence
}

/// Gives annotate so many readings, spread over so many things; readings a second until the last is annotated.
async fn rate(client: &Client, run: &str, readings: usize, things: usize) -> f64 {
    let js = client::context(client.clone());
    let site = Name::new("local").unwrap();
    let packs: Vec<Outgoing> = (0..readings / PACK)
        .map(|number| pack(&site, run, number, things))
        .collect();
    let end = annotated(&js).await + u64::try_from(packs.len() * PACK).unwrap();
    let publisher = Publisher::new(client.clone(), publish::Options::default());
    let publisher = &publisher;
    let began = Instant::now();
    stream::iter(packs)
        .map(|pack| async move { publisher.send(pack).await })
        .buffer_unordered(64)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
    eventually_async("all is annotated", Duration::from_secs(600), || async {
        (annotated(&js).await >= end).then_some(())
    })
    .await;
    readings as f64 / began.elapsed().as_secs_f64()
}

/// The most that a process ever had in memory, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn very_many_things_are_annotated_at_the_rate_of_few_and_in_bounded_memory() {
    let by_hand = many();
    let things = by_hand.unwrap_or(3_000);
    let readings = if by_hand.is_some() {
        2 * things.max(50_000)
    } else {
        6_000
    };
    let pipeline = Pipeline::start(StackOptions::default()).await;
    // Nothing else is measured, and nothing else shall take the processors.
    for idle in ["bridge", "validate", "store"] {
        pipeline.stack.stop_one(idle).await.unwrap();
    }
    let client = pipeline.stack.context().unwrap().nats().await.unwrap();
    let began = Instant::now();
    register(&client, 0..things).await;
    let registered = began.elapsed();
    rate(&client, "warm", readings / 4, FEW).await;
    let (mut few, mut all) = (Vec::new(), Vec::new());
    for round in 0..if by_hand.is_some() { 3 } else { 1 } {
        few.push(rate(&client, &format!("few{round}"), readings, FEW).await);
        all.push(rate(&client, &format!("all{round}"), readings, things).await);
    }
    let memory = || peak(pipeline.stack.pid("annotate").unwrap());
    let warm = memory();
    // And one that knows nothing yet.
    pipeline.stack.restart_one("annotate").await.unwrap();
    let cold = rate(&client, "cold", readings, things).await;
    let memory = memory().max(warm);
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (few, all) = (median(few), median(all));
    eprintln!(
        "{things} things registered in {registered:.1?}; readings a second: {few:.0} over {FEW} things, {all:.0} over \
         all, {cold:.0} after a start; annotate had at most {} MB",
        memory / 1_000_000
    );
    assert!(memory < MEMORY_MAX, "{memory} bytes");
    // A few seconds beside other tests say nothing about a rate.
    assert!(
        by_hand.is_none() || all >= SHARE_MIN * few,
        "{all:.0} a second is less than {SHARE_MIN} of {few:.0}"
    );
}
