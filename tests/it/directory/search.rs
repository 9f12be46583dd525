//! Search by JSONPath (W3C WoT Discovery §7.3.3.1).
use super::site::{Site, escaped, lamp};
use serde_json::{Value, json};
use telltale_tests::http::Answer;

fn search(site: &Site, query: &str) -> Answer {
    site.get(&format!("/search/jsonpath?query={}", escaped(query)))
}

fn sorted(found: &Value) -> Vec<String> {
    let mut found: Vec<String> = found.as_array().unwrap().iter().map(Value::to_string).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_whole_descriptions_or_parts_of_them() {
    let site = Site::start().await;
    let empty = search(&site, "$[*]");
    assert_eq!((empty.status, empty.text.as_str()), (200, "[]"));
    for n in 0..140 {
        let mut td = lamp(&format!("urn:lamp:{n:03}"));
        td["properties"]["brightness"]["maximum"] = n.into();
        assert_eq!(site.put(&td).status, 201);
    }
    let one = search(&site, "$[?@.title == 'Lamp urn:lamp:007']");
    assert_eq!((one.status, &*one.content_type), (200, "application/json"));
    assert_eq!(one.body.as_array().unwrap().len(), 1);
    assert_eq!(site.unserved(one.body[0].clone())["id"], "urn:lamp:007");

    let many = search(&site, "$[?@.properties.brightness.maximum >= 138].id");
    assert_eq!(sorted(&many.body), ["\"urn:lamp:138\"", "\"urn:lamp:139\""]);
    assert_eq!(search(&site, "$[*].title").body.as_array().unwrap().len(), 140);
    // These see all at once, in the order of ids.
    assert_eq!(search(&site, "$[0].id").body, json!(["urn:lamp:000"]));
    assert_eq!(search(&site, "$[-1:].id").body, json!(["urn:lamp:139"]));
    assert_eq!(search(&site, "$..brightness").body.as_array().unwrap().len(), 140);
    assert_eq!(search(&site, "$[?@.title == 'none']").body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_jsonpath_is_refused() {
    let site = Site::start().await;
    for query in ["", "title", "$[", "$[?@.a ==]", "$[?@.a == 'x]", "$[?nothing(@)]"] {
        let refused = search(&site, query);
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
        assert!(
            refused.body["errors"][0]["message"].is_string(),
            "{query}: {refused:?}"
        );
    }
    assert_eq!(search(&site, &format!("${}", "[*]".repeat(500))).status, 400);
    assert_eq!(site.get("/search/jsonpath").status, 400);
    assert_eq!(site.get("/search/sparql?query=ASK%20{}").status, 404);
}
