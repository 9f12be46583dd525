//! The list, page by page (W3C WoT Discovery §7.3.1.5).
use super::site::{Site, lamp};
use serde_json::Value;
use telltale_tests::http::Answer;

fn ids(members: &Value) -> Vec<String> {
    let members = members.as_array().unwrap().iter();
    members.map(|td| td["id"].as_str().unwrap().to_owned()).collect()
}

/// The target of the link of that relation.
fn link(answer: &Answer, rel: &str) -> Option<String> {
    let found = answer
        .header("link")
        .find(|link| link.contains(&format!("rel=\"{rel}\"")))?;
    Some(found.split_once('<')?.1.split_once('>')?.0.to_owned())
}

fn etag(answer: &Answer) -> String {
    let canonical = answer
        .header("link")
        .find(|link| link.contains("rel=\"canonical\""))
        .unwrap();
    canonical.split_once("etag=").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_in_the_order_of_ids_and_its_pages_lead_to_each_other_under_one_tag() {
    let site = Site::start().await;
    let empty = site.get("/things");
    assert_eq!((empty.status, empty.text.as_str()), (200, "[]"));
    let mut wanted: Vec<String> = (0..7).map(|n| format!("urn:lamp:{n}")).collect();
    for id in wanted.iter().rev() {
        assert_eq!(site.put(&lamp(id)).status, 201);
    }
    let whole = site.get("/things");
    assert_eq!(whole.content_type, "application/ld+json");
    assert_eq!(ids(&whole.body), wanted);
    assert_eq!(link(&whole, "next"), None);
    assert_eq!(link(&whole, "canonical").as_deref(), Some("/things"));

    let (mut next, mut seen, mut pages) = (Some("/things?limit=3".to_owned()), Vec::new(), 0);
    while let Some(path) = next {
        let page = site.get(&path);
        assert_eq!(etag(&page), etag(&whole), "nothing has come or gone");
        seen.extend(ids(&page.body));
        next = link(&page, "next");
        assert!(
            next.as_ref().is_none_or(|next| next.contains("limit=3")),
            "{next:?}"
        );
        pages += 1;
    }
    assert_eq!((pages, &seen), (3, &wanted));

    site.patch("urn:lamp:3", &serde_json::json!({"title": "x"}));
    assert_eq!(etag(&site.get("/things")), etag(&whole), "its order is the same");
    site.send("DELETE", "/things/urn:lamp:3", &[], &Value::Null);
    wanted.remove(3);
    let fewer = site.get("/things?offset=2&limit=2");
    assert_ne!(etag(&fewer), etag(&whole));
    assert_eq!(ids(&fewer.body), wanted[2..4]);
    site.put(&lamp("urn:lamp:3"));
    assert_eq!(
        etag(&site.get("/things")),
        etag(&whole),
        "the same things as before"
    );
    let head = site.send("HEAD", "/things?limit=1", &[], &Value::Null);
    assert_eq!((head.status, link(&head, "next").is_some()), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_has_its_total_and_its_next_page() {
    let site = Site::start().await;
    for n in 0..3 {
        site.put(&lamp(&format!("urn:lamp:{n}")));
    }
    let first = site.get("/things?limit=2&format=collection");
    assert_eq!(first.body["@context"], "https://www.w3.org/2022/wot/discovery");
    assert_eq!(first.body["@type"], "ThingCollection");
    assert_eq!(first.body["@id"], "/things?offset=0&limit=2&format=collection");
    assert_eq!(
        (&first.body["total"], ids(&first.body["members"]).len()),
        (&3.into(), 2)
    );
    let next = first.body["next"].as_str().unwrap();
    assert_eq!(link(&first, "next").as_deref(), Some(next));
    let last = site.get(next);
    assert_eq!(ids(&last.body["members"]), ["urn:lamp:2"]);
    assert_eq!(last.body.get("next"), None);
    let plain = site.get("/things?limit=2&format=array");
    assert_eq!(ids(&plain.body).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_is_refused_and_one_beyond_the_end_is_empty() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:1"));
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1e3",
        "offset=-1",
        "offset=99999999999999999999",
        "format=xml",
        "sort_by=title",
        "limit=1&limit=2",
        "cursor=tampered",
    ] {
        let refused = site.get(&format!("/things?{query}"));
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
        assert_eq!(refused.content_type, "application/problem+json", "{query}");
    }
    for (query, count) in [
        ("limit=1000000000", 1),
        ("offset=5", 0),
        ("offset=4294967295&limit=1", 0),
    ] {
        let page = site.get(&format!("/things?{query}"));
        assert_eq!((page.status, ids(&page.body).len()), (200, count), "{query}");
        assert_eq!(link(&page, "next"), None, "{query}");
    }
}
