//! What happened to a thing.
use super::{House, SOON};
use serde_json::{Value, json};
use telltale_tests::eventually_async;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_page_by_page_and_by_name() {
    let house = House::open().await;
    for n in 0..5 {
        let (bridge, name) = (house.bridge.clone(), if n % 2 == 0 { "even" } else { "odd" });
        let path = format!("/things/eventful/events/{name}");
        let body = json!({ "n": n }).to_string();
        let post = move || bridge.post(&path, &[super::JSON], body.as_bytes());
        let answer = tokio::task::spawn_blocking(post).await.unwrap().unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let numbers = |document: &Value| -> Vec<i64> {
        let all = document["events"].as_array().unwrap();
        all.iter()
            .map(|event| event["data"]["n"].as_i64().unwrap())
            .collect()
    };
    let all = eventually_async("the events are rows", SOON, || async {
        let document = house.get("/things/eventful/events").await.json();
        (document["events"].as_array().unwrap().len() == 5).then_some(document)
    })
    .await;
    assert_eq!(numbers(&all), [0, 1, 2, 3, 4]);
    assert_eq!(
        numbers(&house.get("/things/eventful/events?name=odd").await.json()),
        [1, 3]
    );
    let first = house.get("/things/eventful/events?limit=3").await;
    let link = first
        .header("link")
        .trim_end_matches("; rel=\"next\"")
        .trim_matches(['<', '>'])
        .to_owned();
    assert_eq!(numbers(&first.json()), [0, 1, 2]);
    assert_eq!(numbers(&house.get(&link).await.json()), [3, 4]);
    let csv = house
        .get("/things/eventful/events?format=csv&limit=1")
        .await
        .text
        .unwrap();
    assert!(
        csv.starts_with("time,thing,name,data,site,message_id,causation_id\r\n"),
        "{csv}"
    );
    assert!(csv.contains(",eventful,even,\"{\"\"n\"\":0}\","), "{csv}");
}
