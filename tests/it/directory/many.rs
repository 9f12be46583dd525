//! Many things in one request, a description a line.
use super::site::{Site, lamp};
use serde_json::{Value, json};

pub(super) const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn told(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_created_in_one_request_and_each_line_is_told_what_came_of_it() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:7"));
    let mut lines: Vec<String> = (0..500)
        .map(|n| lamp(&format!("urn:lamp:{n}")).to_string())
        .collect();
    lines[20] = "no JSON".to_owned();
    lines[30] = json!({"title": "no description"}).to_string();
    lines[40] = String::new();
    let mut anonymous = lamp("");
    anonymous.as_object_mut().unwrap().remove("id");
    lines[50] = anonymous.to_string();
    let body = lines.join("\r\n");
    let answer = site
        .http
        .send("POST", "/things", &[NDJSON], body.as_bytes())
        .unwrap();
    assert_eq!((answer.status, &*answer.content_type), (200, NDJSON.1));
    let mut told = told(&answer.text);
    assert_eq!(told.pop(), Some(json!({"created": 496, "refused": 3})));
    let numbers: Vec<u64> = told.iter().map(|one| one["line"].as_u64().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=500).filter(|n| *n != 41).collect::<Vec<_>>(),
        "in order, the empty one left out"
    );
    let of = |line: u64| told.iter().find(|one| one["line"] == line).unwrap();
    assert_eq!(of(1), &json!({"line": 1, "status": 201, "id": "urn:lamp:0"}));
    assert_eq!(of(8)["status"], 409, "it was there: {}", of(8));
    assert_eq!(of(21)["status"], 400);
    assert!(of(31)["validationErrors"][0]["field"].is_string(), "{}", of(31));
    let id = of(51)["id"].as_str().unwrap();
    assert_eq!(site.original(id)["id"], id, "it has got an id");
    assert_eq!(site.original("urn:lamp:499"), lamp("urn:lamp:499"));

    let nothing = site.http.send("POST", "/things", &[NDJSON], b"\n\n").unwrap();
    assert_eq!(
        (nothing.status, &*nothing.content_type),
        (400, "application/problem+json")
    );
}
