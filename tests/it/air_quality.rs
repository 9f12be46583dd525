//! A year of an air-quality station, replayed; and its first weeks, a file of their own, replayed twice. Third-party data
//! with known numbers.
use std::{fs, path::Path, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_tests::pipeline::Pipeline;

const READINGS: &str = "select count(*) from readings";
const YEAR: i64 = 121_641;
/// Rows of the first weeks, each of this many readings.
const FIRST: usize = 1_000;
const EACH: usize = 13;

async fn replay(pipeline: &mut Pipeline, file: &Path, rows: i64) {
    let mapping = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/mappings/air-quality.toml");
    let done = pipeline
        .telltale(&["replay", file.to_str().unwrap(), "--mapping", mapping])
        .await;
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    let status = pipeline.at_rest(Duration::from_secs(60)).await;
    assert_eq!(pipeline.count(READINGS).await, Some(rows), "{status}");
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_year_is_complete_and_a_second_replay_adds_nothing() {
    let Some(file) = telltale_tests::data("air-quality/AirQualityUCI.csv") else {
        return;
    };
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    replay(&mut pipeline, &file, YEAR).await;
    let missing = "select count(*) from readings where quality = 9";
    assert_eq!(pipeline.count(missing).await, Some(16_701));
    // What is missing reaches no aggregate: no value is the sentinel, which stays readable beside it.
    assert_eq!(
        pipeline
            .count("select count(*) from readings where value = -200")
            .await,
        Some(0)
    );
    assert_eq!(
        pipeline
            .count("select count(*) from readings where quality = 9 and value_text like '-200%'")
            .await,
        Some(16_701)
    );
    assert_eq!(
        pipeline
            .rows("select min(time) at time zone 'UTC' as f, max(time) at time zone 'UTC' as t from readings")
            .await,
        ["2004-03-10T17:00:00|2005-04-04T13:00:00"],
        "the station's clock is at +01:00 all year"
    );

    let text = fs::read(&file).unwrap();
    let lines = text.split_inclusive(|byte| *byte == b'\n').take(1 + FIRST);
    let first = pipeline.stack.dir().join("first.csv");
    fs::write(&first, lines.collect::<Vec<_>>().concat()).unwrap();
    let more = i64::try_from(FIRST * EACH).unwrap();
    for _ in 0..2 {
        replay(&mut pipeline, &first, YEAR + more).await;
    }
}
