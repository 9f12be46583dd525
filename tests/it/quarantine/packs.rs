//! What cannot be read inside a pack.
use super::SOON;
use super::operator::streams;
use telltale_cli::stack::StackOptions;
use telltale_nats::{Name, async_nats::HeaderMap, header, subject};
use telltale_tests::pipeline::Pipeline;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reading_of_a_pack_that_cannot_be_read_is_an_entry_of_its_own() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let site = Name::new(pipeline.stack.env("TELLTALE_SITE")).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::CLOUDEVENT_BATCH);
    let streams = streams(&pipeline).await;
    let published = streams
        .publish_with_headers(
            subject::pack(&site),
            headers,
            r#"[{"one":1},{"two":2},"three"]"#.into(),
        )
        .await
        .unwrap();
    published.await.unwrap();
    let entries = "select count(*) from quarantine where stage = 'annotate'";
    pipeline.until(entries, 3, SOON).await;
    let kept = pipeline
        .rows("select convert_from(payload, 'utf8') as bytes from quarantine order by 1")
        .await;
    assert_eq!(kept, [r#""three""#, r#"{"one":1}"#, r#"{"two":2}"#]);
}
