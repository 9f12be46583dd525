//! A year of an air-quality station, replayed twice. Third-party data with known numbers.
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::pipeline::Pipeline;

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_year_is_complete_and_a_second_replay_adds_nothing() {
    let Some(file) = telltale_tests::data("air-quality/AirQualityUCI.csv") else {
        return;
    };
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let mapping = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/mappings/air-quality.toml");
    for round in 1..=2 {
        let replay = pipeline
            .telltale(&["replay", file.to_str().unwrap(), "--mapping", mapping])
            .await;
        assert!(
            replay.status.success(),
            "round {round}: {}{}",
            String::from_utf8_lossy(&replay.stdout),
            String::from_utf8_lossy(&replay.stderr)
        );
        let status = pipeline.at_rest(Duration::from_secs(60)).await;
        assert_eq!(
            pipeline.count("select count(*) from readings").await,
            Some(121_641),
            "round {round}: {status}"
        );
        assert_eq!(
            pipeline
                .count("select count(*) from readings where quality = 9")
                .await,
            Some(16_701)
        );
        assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
    }
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
}
