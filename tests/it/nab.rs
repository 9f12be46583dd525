//! The scores of the Numenta Anomaly Benchmark through the running pipeline, while `process` is killed.
use bytes::Bytes;
use std::{fmt::Write as _, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    load::{self, Load},
    pipeline::Pipeline,
};

const RULE: &str = r#"{"name": "odd", "anomaly": {"of": "value", "window": 6400, "step": 100}}"#;
const KILLS: i64 = 5;
const WITHIN: Duration = Duration::from_secs(60);

/// What is sent of one file, and the scores that are published for it.
fn file(name: &str) -> Option<(Vec<Load>, Vec<f64>)> {
    let path = telltale_tests::data(&format!("nab/{name}.scores.csv"))?;
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip(1).enumerate();
    let rows = rows.map(|(n, line)| {
        let cells: Vec<&str> = line.split(',').collect();
        let load = Load {
            thing: name.to_owned(),
            // Two rows of one file have the same time; what is in order then is the id.
            key: format!("{n:05}"),
            payload: Bytes::from(format!(
                r#"{{"time":"{}Z","value":{}}}"#,
                cells[0].replace(' ', "T"),
                cells[1]
            )),
        };
        (load, cells[2].parse::<f64>().unwrap())
    });
    Some(rows.unzip())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_score_is_the_published_one_though_process_is_killed_five_times() {
    let files = ["occupancy_t4013", "speed_7578"];
    let Some(given) = files.into_iter().map(file).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    pipeline.apply("odd", RULE).await;
    telltale_tests::eventually_async("the rule is in force", WITHIN, || async {
        (pipeline.metric("process", "telltale_process_rules") >= 1.0).then_some(())
    })
    .await;
    let total: usize = given.iter().map(|(loads, _)| loads.len()).sum();
    let total = i64::try_from(total).unwrap();
    let senders: Vec<_> = given
        .iter()
        .map(|(loads, _)| {
            let (client, loads) = (pipeline.http.clone(), loads.clone());
            // One after the other, as a device does.
            tokio::task::spawn_blocking(move || load::over_http(&client, &loads, 1))
        })
        .collect();
    for kill in 1..=KILLS {
        pipeline
            .at_least(
                "select count(*) from readings where name = 'value_anomaly'",
                total * kill / (KILLS + 2),
                WITHIN,
            )
            .await;
        pipeline.kill("process", WITHIN).await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    pipeline
        .until(
            "select count(*) from readings where name = 'value_anomaly'",
            total,
            WITHIN,
        )
        .await;
    for (name, (_, expected)) in files.into_iter().zip(&given) {
        let found = pipeline
            .rows(&format!(
                "select message_id, value from readings where thing = '{name}' and name = 'value_anomaly' \
                 order by message_id"
            ))
            .await;
        let mut wrong = String::new();
        for (n, (row, expected)) in found.iter().zip(expected).enumerate() {
            let (id, score) = row.split_once('|').unwrap();
            let score: f64 = score.parse().unwrap();
            if id != format!("{name}:{n:05}.process.odd") || (score - expected).abs() >= 1e-9 {
                writeln!(wrong, "row {n}: {row}, not {expected}").unwrap();
            }
        }
        assert_eq!(wrong, "", "{name}");
        assert_eq!(found.len(), expected.len());
    }
}
