//! History: in every format, page by page, in intervals.
use super::{House, at, written};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use telltale_schemas::{Timestamp, senml};

const STEP: i64 = 7_000_000;

/// A pack of numbers, one each `STEP` from a moment on.
fn numbers(name: &str, unit: &str, first: usize, values: &[f64]) -> Value {
    let records = values.iter().enumerate().map(|(n, value)| {
        let micros = i64::try_from(first + n).unwrap() * STEP;
        json!({ "n": name, "u": unit, "v": value, "t": at(micros).as_seconds() })
    });
    Value::Array(records.collect())
}

async fn all_pages(house: &House, question: &str, list: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut sizes, mut path) = (vec![], vec![], question.to_owned());
    loop {
        let reply = house.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let document = reply.json();
        let page = document[list].as_array().unwrap();
        sizes.push(page.len());
        all.extend(page.iter().cloned());
        let Some(next) = document["next"].as_str() else {
            assert_eq!(reply.header("link"), "");
            return (all, sizes);
        };
        let link = reply
            .header("link")
            .trim_end_matches("; rel=\"next\"")
            .trim_matches(['<', '>'])
            .to_owned();
        assert!(link.ends_with(&format!("cursor={next}")), "{link}");
        path = link;
        assert!(sizes.len() < 100, "pages without end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_read_as_it_was_written_in_each_format() {
    let house = House::open().await;
    let pack = json!([
        { "n": "temperature", "u": "Cel", "v": 21.5, "t": at(1_250_000).as_seconds() },
        { "n": "state", "vs": "=wet, \"cold\"", "t": at(2_000_000).as_seconds() },
        { "n": "open", "vb": false, "t": at(3_000_000).as_seconds() },
        { "n": "picture", "vd": "_-8", "t": at(4_000_000).as_seconds() },
        { "n": "energy", "u": "J", "s": 7.5, "t": at(5_000_000).as_seconds() },
    ]);
    house.bring("page-formats", &pack).await;
    house.rows("page-formats", 5).await;
    let path = format!("/things/page-formats/readings?from={}", at(0));

    let document = house.get(&path).await.json();
    let readings = document["readings"].as_array().unwrap();
    assert_eq!(readings.len(), 5);
    let first = &readings[0];
    assert_eq!(
        (&first["value"], &first["unit"], &first["time"]),
        (&json!(21.5), &json!("Cel"), &json!(at(1_250_000)))
    );
    assert_eq!(readings[1]["value_text"], "=wet, \"cold\"");
    assert_eq!(
        (&readings[2]["value_bool"], &readings[3]["value_data"]),
        (&json!(false), &json!("_-8"))
    );
    assert!(first.get("value_text").is_none() && readings.iter().all(|one| one["quality"] == 2));

    let ndjson = house
        .ask("GET", &path, &[("Accept", "application/x-ndjson")], "")
        .await;
    let lines: Vec<Value> = ndjson
        .text
        .as_ref()
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(&lines, readings);

    let csv = house
        .ask("GET", &path, &[("Accept", "text/csv")], "")
        .await
        .text
        .unwrap();
    let rows: Vec<&str> = csv.split("\r\n").collect();
    assert!(rows[0].starts_with("time,thing,name,value,"), "{csv}");
    assert!(
        rows[1].starts_with(&format!("{},page-formats,temperature,21.5,", at(1_250_000))),
        "{csv}"
    );
    assert!(
        rows[2].contains(",\"=wet, \"\"cold\"\"\","),
        "a text is no formula: {csv}"
    );

    // What came as SenML goes as SenML: the same records.
    let out = house
        .ask("GET", &path, &[("Accept", "application/senml+json")], "")
        .await;
    assert_eq!(out.header("content-type"), "application/senml+json");
    let mut came = senml::resolve(&pack, Timestamp::now()).unwrap();
    for record in &mut came {
        record.n = format!("page-formats/{}", record.n);
    }
    assert_eq!(senml::resolve(&out.json(), Timestamp::now()).unwrap(), came);

    is_last(&house).await;
}

async fn is_last(house: &House) {
    let last = house
        .get("/things/page-formats/properties/temperature")
        .await
        .json();
    assert_eq!(
        (&last["value"], &last["unit"], &last["quality"], &last["time"]),
        (&json!(21.5), &json!("Cel"), &json!(2), &json!(at(1_250_000)))
    );
    assert_eq!(
        house.get("/things/page-formats/properties/picture").await.json()["value"],
        "_-8"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_row_once_and_in_order() {
    let house = House::open().await;
    let values: Vec<f64> = (0..900_u16).map(f64::from).collect();
    for (thing, name) in [("page-a", "x"), ("page-a", "y"), ("page-b", "x"), ("page-c", "x")] {
        house.bring(thing, &numbers(name, "m", 0, &values)).await;
    }
    house.rows("page-a", 1_800).await;
    house.rows("page-b", 900).await;
    let from = at(0);
    let (all, sizes) = all_pages(
        &house,
        &format!("/readings?thing=page-a&thing=page-b&from={from}&limit=1000"),
        "readings",
    )
    .await;
    assert_eq!(sizes, [1_000, 1_000, 700]);
    let place = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let time: Timestamp = text("time").parse().unwrap();
        (time, text("message_id"), row["ordinal"].as_i64().unwrap())
    };
    let places: Vec<_> = all.iter().map(place).collect();
    assert!(places.is_sorted() && places.windows(2).all(|two| two[0] != two[1]));
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &all {
        *counts
            .entry((row["thing"].as_str().unwrap(), row["name"].as_str().unwrap()))
            .or_default() += 1;
    }
    let each = [("page-a", "x"), ("page-a", "y"), ("page-b", "x")].map(|key| (key, 900));
    assert_eq!(counts, BTreeMap::from(each));

    let one = format!("/things/page-a/readings?name=y&from={from}&to={}", at(10 * STEP));
    let (some, _) = all_pages(&house, &one, "readings").await;
    let found: Vec<f64> = some.iter().map(|row| row["value"].as_f64().unwrap()).collect();
    assert_eq!(found, values[..10], "from is part of it, to is not");
    // One page that just fits has none after it.
    let (_, sizes) = all_pages(&house, &format!("{one}&limit=10"), "readings").await;
    assert_eq!(sizes, [10]);
    let (_, sizes) = all_pages(&house, &format!("{one}&limit=4"), "readings").await;
    assert_eq!(sizes, [4, 4, 2]);
}

/// What an interval should be, computed here from what was sent.
fn expected(values: &[(i64, f64)], bucket: i64) -> Vec<(Timestamp, [f64; 6])> {
    let mut intervals: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (micros, value) in values {
        let time = at(*micros).as_micros();
        intervals
            .entry(time - time.rem_euclid(bucket))
            .or_default()
            .push(*value);
    }
    let told = |(start, values): (i64, Vec<f64>)| {
        let (min, max) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let ends = (values[0], values[values.len() - 1]);
        (
            Timestamp::from_micros(start).unwrap(),
            [count, min, max, mean, ends.0, ends.1],
        )
    };
    intervals.into_iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_are_of_the_good_numbers_alone() {
    let house = House::open().await;
    let policy = json!({ "thing": "page-buckets", "policy": { "properties": { "x": { "maximum": 1000, "unit": "m" } } } });
    let entry = house.stack.dir().join("page-buckets.json");
    std::fs::write(&entry, policy.to_string()).unwrap();
    let put = tokio::process::Command::new(telltale_tests::pipeline::binary("telltale"))
        .args(["thing", "put"])
        .arg(&entry)
        .current_dir(house.stack.dir())
        .output()
        .await
        .unwrap();
    assert!(put.status.success(), "{put:?}");
    // Every seventh is out of range, so flagged and kept, and in no interval.
    let value = |n: usize| {
        if n % 7 == 3 {
            5_000.0
        } else {
            (n * 37 % 101) as f64 / 8.0
        }
    };
    let values: Vec<f64> = (0..800).map(value).collect();
    house.bring("page-buckets", &numbers("x", "m", 0, &values)).await;
    house
        .bring(
            "page-buckets",
            &json!([{ "n": "state", "vs": "wet", "t": at(0).as_seconds() }]),
        )
        .await;
    house.rows("page-buckets", 801).await;

    let good: Vec<(i64, f64)> = (0_i64..)
        .map(|n| n * STEP)
        .zip(values.iter().copied())
        .filter(|(_, value)| *value < 1_000.0)
        .collect();
    let path = format!(
        "/things/page-buckets/readings?from={}&to={}&bucket=5m&limit=4",
        at(0),
        at(800 * STEP)
    );
    let (buckets, _) = all_pages(&house, &path, "buckets").await;
    let wanted = expected(&good, 300_000_000);
    assert_eq!(buckets.len(), wanted.len());
    for (bucket, (time, numbers)) in buckets.iter().zip(wanted) {
        assert_eq!(bucket["time"], json!(time));
        for (key, number) in ["count", "min", "max", "mean", "first", "last"]
            .into_iter()
            .zip(numbers)
        {
            let found = bucket[key].as_f64().unwrap();
            assert!(
                (found - number).abs() < 1e-9,
                "{time} {key}: {found}, not {number}"
            );
        }
        assert_eq!((&bucket["name"], &bucket["unit"]), (&json!("x"), &json!("m")));
    }
    let csv = house.get(&format!("{path}&format=csv")).await.text.unwrap();
    assert!(
        csv.starts_with("time,thing,name,unit,count,min,max,mean,first,last\r\n"),
        "{csv}"
    );
    let offset = written("+01:00");
    let day = at(0).to_string().replace('Z', &offset);
    assert_eq!(
        house.get(&format!("/readings?from={day}&bucket=1d")).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rows_come_as_a_stream() {
    let house = House::open().await;
    let values: Vec<f64> = (0..1_000_u16).map(f64::from).collect();
    for pack in 0..10 {
        house
            .bring("page-long", &numbers("x", "m", pack * 1_000, &values))
            .await;
    }
    house.rows("page-long", 10_000).await;
    for (format, lines) in [("ndjson", 10_000), ("csv", 10_001)] {
        let path = format!(
            "/things/page-long/readings?from={}&limit=10000&format={format}",
            at(0)
        );
        let reply = house.get(&path).await;
        assert_eq!(reply.header("transfer-encoding"), "chunked");
        assert_eq!(reply.header("link"), "");
        assert_eq!(reply.text.unwrap().lines().count(), lines);
    }
}
