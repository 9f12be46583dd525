//! F31: a subscriber that stops reading.
use super::{PATIENCE, READINGS, connect, log};
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    eventually_async,
    load::{self, Load},
    pipeline::Pipeline,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_is_cut_alone() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    // Nothing drives its connection once it has subscribed: its socket fills.
    let asleep = tokio::task::block_in_place(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    });
    let pipeline_ref = &pipeline;
    let held = std::thread::scope(|scope| {
        let lazy = scope.spawn(|| {
            asleep.block_on(async {
                let client = connect(pipeline_ref, "client").await;
                let messages = client.subscribe("annotated.>").await.unwrap();
                client.flush().await.unwrap();
                (client, messages)
            })
        });
        lazy.join().unwrap()
    });
    let readers = ["bridge", "validate", "annotate", "store"].map(|name| pipeline.stack.pid(name));

    let text = "x".repeat(200_000);
    let loads: Vec<Load> = (0..150)
        .map(|n| Load {
            thing: format!("t{}", n % 10),
            key: format!("k{n}"),
            payload: format!(r#"{{"text":"{n} {text}"}}"#).into(),
        })
        .collect();
    tokio::task::block_in_place(|| load::over_http(&pipeline.http, &loads, 4));
    pipeline.until(READINGS, 150, PATIENCE).await;
    let cut = eventually_async("the broker cuts it", PATIENCE, || async {
        let text = log(&pipeline, "nats");
        let lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains("Slow Consumer"))
            .map(str::to_owned)
            .collect();
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(cut.len(), 1, "only it is cut: {cut:?}");
    for name in ["bridge", "validate", "annotate", "store"] {
        let text = log(&pipeline, name);
        assert!(!text.contains("lost the connection"), "{name} noticed: {text}");
    }
    assert_eq!(
        readers,
        ["bridge", "validate", "annotate", "store"].map(|name| pipeline.stack.pid(name))
    );
    tokio::time::sleep(Duration::from_millis(10)).await;
    tokio::task::block_in_place(|| drop((held, asleep)));
}
