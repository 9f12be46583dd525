//! How the directory is found, and what it says of itself (W3C WoT Discovery §6; RFC 6690, RFC 9176; OpenAPI, AsyncAPI).
use super::{
    site::{Site, lamp},
    third_party::schema,
};
use serde_json::{Value, json};
use telltale_tests::http::{Answer, Client};

/// Asked by somebody without a token.
fn open(site: &Site, path: &str) -> Answer {
    let nobody = Client::new(site.url(), None);
    nobody.send("GET", path, &[], &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_tells_everybody_where_it_is_and_nobody_what_is_in_it() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:hidden"));
    let own = open(&site, "/.well-known/wot");
    assert_eq!((own.status, &*own.content_type), (200, "application/td+json"));
    assert_eq!(own.body["@type"], "ThingDirectory");
    assert_eq!(own.body["base"], format!("{}/", site.url()));
    assert_eq!(telltale_schemas::td::check(&own.body), []);
    if let Some(schema) = schema() {
        assert!(schema.is_valid(&own.body), "{}", own.text);
    }
    for name in ["thingCreated", "thingUpdated", "thingDeleted"] {
        assert_eq!(own.body["events"][name]["forms"][0]["subprotocol"], "sse");
    }
    let core = open(&site, "/.well-known/core");
    assert_eq!(
        (core.status, &*core.content_type),
        (200, "application/link-format")
    );
    assert!(
        core.text
            .contains("</.well-known/wot>;rt=\"wot.directory\";ct=432"),
        "{}",
        core.text
    );
    assert!(
        !core.text.contains(", ") && !core.text.contains("hidden"),
        "{}",
        core.text
    );
    let chosen = open(&site, "/.well-known/core?rt=core.rd*");
    assert_eq!(chosen.text.matches("rt=\"core.rd-lookup").count(), 2);
    assert_eq!(chosen.text.matches('<').count(), 2);
    assert_eq!(open(&site, "/.well-known/core?rt=none").text, "");
    for path in [
        "/things",
        "/things/urn:lamp:hidden",
        "/events",
        "/search/jsonpath?query=$",
        "/rd-lookup/res",
        "/rd-lookup/ep",
    ] {
        let refused = open(&site, path);
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.header("www-authenticate").next(), Some("Bearer"));
        assert!(!refused.text.contains("hidden"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn things_and_what_they_have_are_looked_up_as_links() {
    let site = Site::start().await;
    for n in 0..3 {
        let mut td = lamp(&format!("urn:lamp:{n}"));
        td["@type"] = json!(["saref:LightSwitch"]);
        td["@context"] = json!(["https://www.w3.org/2022/wot/td/v1.1", {"saref": "https://w3id.org/saref#"}]);
        td["properties"]["brightness"]["@type"] = "saref:Level".into();
        assert_eq!(site.put(&td).status, 201);
    }
    let count = |path: &str| site.get(path).text.matches(";ep=").count();
    assert_eq!(count("/rd-lookup/ep"), 3);
    assert_eq!(count("/rd-lookup/ep?et=saref:LightSwitch"), 3);
    assert_eq!(count("/rd-lookup/ep?ep=urn:lamp:1"), 1);
    assert_eq!(count("/rd-lookup/ep?ep=urn:lamp:*&page=1&count=2"), 1);
    assert_eq!(count("/rd-lookup/res"), 6);
    assert_eq!(count("/rd-lookup/res?rt=wot.thing"), 3);
    let level = site.get("/rd-lookup/res?rt=saref:Level&ep=urn:lamp:2");
    let whole = format!("{}/things/urn:lamp:2", site.url());
    assert_eq!(
        level.text,
        format!(
            "<{whole}/properties/brightness>;rt=\"telltale.property saref:Level\";ep=\"urn:lamp:2\";anchor=\"{whole}\""
        )
    );
    assert_eq!(count("/rd-lookup/res?if=x"), 0);
    for wrong in ["page=-1", "count=x"] {
        assert_eq!(site.get(&format!("/rd-lookup/ep?{wrong}")).status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_is_told_in_full_and_shown_without_anything_from_elsewhere() {
    let site = Site::start().await;
    let api = open(&site, "/openapi.json");
    assert_eq!((api.status, &*api.content_type), (200, "application/json"));
    assert!(api.body["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, method) in [
        ("/things/{id}", "patch"),
        ("/events/{type}", "get"),
        ("/search/jsonpath", "get"),
    ] {
        assert!(api.body["paths"][path][method].is_object(), "{method} {path}");
    }
    let messages = open(&site, "/asyncapi.json");
    assert_eq!(messages.body["asyncapi"], "3.0.0");
    for message in ["reading", "registration"] {
        let schema = &messages.body["components"]["messages"][message]["payload"]["schema"]["$ref"];
        let path = schema.as_str().unwrap().strip_prefix(&site.url()).unwrap();
        let file = open(&site, path);
        assert_eq!(
            (file.status, &*file.content_type),
            (200, "application/schema+json")
        );
        assert_ne!(file.body, Value::Null);
    }
    assert_eq!(open(&site, "/schemas/none.json").status, 404);
    let page = open(&site, "/docs");
    assert!(page.content_type.starts_with("text/html"));
    let policy = page.header("content-security-policy").next().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    for path in ["/docs", "/docs/viewer.js", "/docs/viewer.css"] {
        let file = open(&site, path);
        assert_eq!(file.status, 200, "{path}");
        assert!(
            !file.text.contains("http://") && !file.text.contains("https://"),
            "{path}"
        );
    }
}
