//! A thing that floods the quarantine: what is not kept is counted exactly, and nobody else's evidence goes.
use super::{
    OPEN, SOON,
    operator::{replay, streams},
};
use telltale_cli::stack::StackOptions;
use telltale_tests::{
    load::{Load, over_http},
    pipeline::Pipeline,
};

const CAP: i64 = 50;
const FLOOD: usize = 400;
const OTHERS: usize = 20;

fn broken(thing: &str, count: usize) -> impl Iterator<Item = Load> {
    (0..count).map(move |n| Load {
        thing: thing.to_owned(),
        key: format!("k{n}"),
        payload: format!(r#"{{"temperature":{n}"#).into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_quarantine_cannot_keep_is_counted_exactly_and_others_keep_theirs() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let js = streams(&pipeline).await;
    let mut config = js
        .get_stream("QUARANTINE")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    config.max_messages_per_subject = CAP;
    js.update_stream(config).await.unwrap();

    let first: Vec<Load> = broken("early", OTHERS).collect();
    let flood: Vec<Load> = broken("flood", FLOOD).chain(broken("late", OTHERS)).collect();
    let client = pipeline.http.clone();
    tokio::task::spawn_blocking(move || {
        over_http(&client, &first, 4);
        over_http(&client, &flood, 16);
    })
    .await
    .unwrap();

    let unkept = i64::try_from(FLOOD).unwrap() - CAP;
    let kept = CAP + 2 * i64::try_from(OTHERS).unwrap();
    pipeline.until(OPEN, kept, SOON).await;
    let overflow = "select count(*) from events where name = 'quarantine_overflow'";
    pipeline.until(overflow, unkept, SOON).await;
    let status = pipeline.at_rest(SOON).await;
    let balance = &status["balance"];
    assert_eq!(
        [&balance["quarantined"], &balance["unkept"], &balance["missing"]],
        [kept, unkept, 0],
        "{status}"
    );
    assert_eq!(
        pipeline
            .rows("select thing, count(*) from quarantine group by 1 order by 1")
            .await,
        [
            format!("early|{OTHERS}"),
            format!("flood|{CAP}"),
            format!("late|{OTHERS}")
        ]
    );
    let metric = |name: &str| pipeline.metric("validate", name);
    assert!((metric("telltale_unkept_total") - unkept as f64).abs() < 0.5);
    assert!((metric("telltale_quarantined_total") - kept as f64).abs() < 0.5);
    // Each that is not kept is named: its id, its sequence, and what it was.
    let named = "select count(distinct data->>'id') from events
                 where name = 'quarantine_overflow' and data->>'sha256' is not null and data->>'rawseq' is not null";
    assert_eq!(pipeline.count(named).await, Some(unkept));

    // Given back without being mended, while their subject is full: each is open again, or a new one in its place.
    let done = replay(&pipeline, &["--thing", "flood", "--yes"]).await;
    assert_eq!(done["replayed"], CAP, "{done}");
    let open = "select count(*) from quarantine where thing = 'flood' and state = 'open' and generation = 1";
    pipeline.until(open, CAP, SOON).await;
    let status = pipeline.at_rest(SOON).await;
    assert_eq!(
        [&status["balance"]["quarantined"], &status["balance"]["unkept"]],
        [kept, unkept],
        "{status}"
    );
    let reopened = "select count(*) from quarantine where note like 'refused again%'";
    println!("opened again: {:?} of {CAP}", pipeline.count(reopened).await);
}
