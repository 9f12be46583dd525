//! Every process is killed while readings come in: each accepted one is one row.
//!
//! A hundred thousand of them by hand: `TELLTALE_SIZE=whole cargo test --workspace --test it crashes`.
use bytes::Bytes;
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    load::{self, Load},
    pipeline::Pipeline,
    size,
};

const THINGS: usize = 500;
const VICTIMS: [&str; 5] = ["bridge", "validate", "store", "nats", "postgres"];

fn loads(way: &str, each: usize) -> Vec<Load> {
    (0..each)
        .map(|n| Load {
            thing: format!("{way}-{}", n % THINGS),
            key: format!("k{n}"),
            payload: Bytes::from(format!(r#"{{"temperature":{}.5,"number":{n}}}"#, n % 40)),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_accepted_survives_ten_kills_under_load() {
    // Of each way in; each kill finds many under way.
    let each = size(10_000, 50_000);
    let mut pipeline = Pipeline::start(StackOptions {
        // What a killed one had in hand comes again no earlier.
        ack_wait: Some(Duration::from_secs(5)),
        ..StackOptions::default()
    })
    .await;
    let http = {
        let client = pipeline.http.clone();
        tokio::task::spawn_blocking(move || load::over_http(&client, &loads("http", each), 24))
    };
    let mqtt = {
        let address = pipeline
            .stack
            .env("MQTT_URL")
            .trim_start_matches("mqtt://")
            .trim_end_matches('/')
            .to_owned();
        let user = pipeline.stack.env("MQTT_USER").to_owned();
        let password = pipeline.stack.env("MQTT_PASSWORD").to_owned();
        tokio::spawn(
            async move { load::over_mqtt(&address, &user, &password, &loads("mqtt", each), 100).await },
        )
    };
    let total = i64::try_from(2 * each).unwrap();
    let mut kills = 0;
    for _round in 0..2 {
        for victim in VICTIMS {
            // The next kill comes when a further share of the rows is there, so that all of them fall under load.
            let share = total * (kills + 1) / 14;
            pipeline
                .at_least(
                    "select count(*) / 2 from readings",
                    share,
                    Duration::from_secs(300),
                )
                .await;
            pipeline.kill(victim, Duration::from_secs(60)).await;
            kills += 1;
        }
    }
    let (http, mqtt) = (http.await.unwrap(), mqtt.await.unwrap());
    assert_eq!((http.accepted, mqtt.accepted), (each, each));
    assert!(http.again + mqtt.again > 0, "the kills were felt");
    let status = pipeline.at_rest(Duration::from_secs(180)).await;
    assert_eq!(status["balance"]["missing"], 0, "{status}");
    assert_eq!(
        pipeline.count("select count(*) from readings").await,
        Some(2 * total)
    );
    assert_eq!(
        pipeline
            .count("select count(distinct message_id) from readings")
            .await,
        Some(total)
    );
    assert_eq!(pipeline.count("select count(*) from quarantine").await, Some(0));
    assert_eq!(
        pipeline
            .count("select count(*) from (select from readings group by message_id having count(*) <> 2) q")
            .await,
        Some(0),
        "no reading twice"
    );
}
