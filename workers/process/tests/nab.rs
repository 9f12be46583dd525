//! The windowed Gaussian detector gives the published score of every row of two files of the Numenta Anomaly Benchmark.
//! They are third-party data and not part of this repository: `TELLTALE_DATA` says where, `../shared/data` otherwise.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
use std::{path::PathBuf, sync::Arc};
use telltale_process::{Heard, Said, derive::Derive};
use telltale_runtime::Delivery;
use telltale_schemas::{Envelope, Observation, Record, Timestamp, rule::Rule};

/// Rows of the two files.
const FILES: [(&str, usize); 2] = [("occupancy_t4013", 2_500), ("speed_7578", 1_127)];

fn rows(name: &str) -> Vec<(Timestamp, f64, f64)> {
    let data = std::env::var_os("TELLTALE_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let path = data.join("nab").join(format!("{name}.scores.csv"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().skip(1);
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let time = format!("{}Z", cells[0].replace(' ', "T"));
            (
                Timestamp::parse(&time).unwrap(),
                cells[1].parse().unwrap(),
                cells[2].parse().unwrap(),
            )
        })
        .collect()
}

fn heard(n: usize, time: Timestamp, value: f64) -> Heard {
    let envelope: Envelope<Observation> = serde_json::from_value(serde_json::json!({
        "specversion": "1.0", "id": format!("loop:{n:06}"), "type": "telltale.observation.v1",
        "source": "/site/annotate", "subject": "loop", "time": time,
        "data": {"records": [], "annotation": {}}
    }))
    .unwrap();
    Heard {
        cause: Arc::new(Delivery::of(envelope).cause),
        stored: time,
        records: vec![Record {
            v: Some(value),
            ..Record::named("value")
        }],
        annotation: serde_json::Map::default(),
        rule: None,
    }
}

#[test]
fn every_row_has_the_published_score() {
    let rule: Rule = serde_json::from_value(serde_json::json!({
        "name": "odd", "anomaly": {"of": "value", "window": 6400, "step": 100}
    }))
    .unwrap();
    for (name, count) in FILES {
        let mut derive = Derive::default();
        derive.apply("odd", Some(&rule)).unwrap();
        let rows = rows(name);
        assert_eq!(rows.len(), count);
        for (n, (time, value, expected)) in rows.into_iter().enumerate() {
            let mut out = Vec::new();
            derive.hear(&heard(n, time, value), &mut out);
            let Said::Derivation(said) = &out[0].draft.message else {
                panic!("{out:?}");
            };
            let score = said.value("value_anomaly").unwrap();
            assert!(
                (score - expected).abs() < 1e-9,
                "{name}, row {n}: {score}, not {expected}"
            );
        }
    }
}
