//! One description: create, retrieve, replace, patch, delete (W3C WoT Discovery §7.3.1).
use super::site::{PATCH, Site, TD, lamp};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_description_is_created_by_put_and_replaced_by_put() {
    let site = Site::start().await;
    let mut td = lamp("urn:lamp:1");
    let created = site.put(&td);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(
        created.header("location").collect::<Vec<_>>(),
        ["/things/urn:lamp:1"]
    );
    assert_eq!(site.original("urn:lamp:1"), td);
    let first = site.get("/things/urn:lamp:1");
    assert_eq!(first.content_type, "application/td+json");
    assert!(first.body["registration"]["created"].is_string());
    assert!(first.body["registration"]["retrieved"].is_string());

    td["title"] = "Another".into();
    assert_eq!(site.put(&td).status, 204);
    let second = site.get("/things/urn:lamp:1");
    assert_eq!(second.body["title"], "Another");
    let times = |answer: &Value, member: &str| answer["registration"][member].as_str().unwrap().to_owned();
    assert_eq!(times(&second.body, "created"), times(&first.body, "created"));
    assert!(times(&second.body, "modified") > times(&first.body, "modified"));

    // Given back as it was served, it is as it was.
    let same = site.send("PUT", "/things/urn:lamp:1", &[TD], &second.body);
    assert_eq!(same.status, 204, "{same:?}");
    assert_eq!(site.original("urn:lamp:1"), td);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_description_gets_an_id_and_a_location_and_a_known_one_is_refused() {
    let site = Site::start().await;
    let mut anonymous = lamp("x");
    anonymous.as_object_mut().unwrap().remove("id");
    let created = site.post(&anonymous);
    assert_eq!(created.status, 201, "{created:?}");
    let location = created.header("location").next().unwrap().to_owned();
    let id = location.strip_prefix("/things/").unwrap();
    assert!(id.starts_with("urn:uuid:"), "{location}");
    let mut found = site.original(id);
    assert_eq!(found["id"], id);
    found.as_object_mut().unwrap().remove("id");
    assert_eq!(found, anonymous);

    let named = lamp("urn:lamp:1");
    assert_eq!(site.post(&named).status, 201);
    let again = site.post(&named);
    assert_eq!(
        (again.status, &*again.content_type),
        (409, "application/problem+json")
    );
    assert_eq!(again.body["status"], 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_not_the_path_s_is_refused_with_its_place() {
    let site = Site::start().await;
    for (path, td) in [
        ("/things/urn:lamp:2", lamp("urn:lamp:1")),
        ("/things/urn:lamp:1", {
            let mut td = lamp("x");
            td.as_object_mut().unwrap().remove("id");
            td
        }),
    ] {
        let refused = site.send("PUT", path, &[TD], &td);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], "/id", "{refused:?}");
        assert_eq!(refused.body["validationErrors"][0]["field"], "id");
        assert_eq!(site.get(path).status, 404);
    }
    let long = format!("urn:{}", "x".repeat(70));
    let refused = site.post(&lamp(&long));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.body["errors"][0]["pointer"], "/id", "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_registered_is_404_and_what_is_deleted_is_gone() {
    let site = Site::start().await;
    for method in ["GET", "DELETE", "HEAD"] {
        let answer = site.send(method, "/things/urn:lamp:1", &[], &Value::Null);
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(answer.content_type, "application/problem+json", "{method}");
    }
    assert_eq!(site.patch("urn:lamp:1", &json!({})).status, 404);
    assert_eq!(site.put(&lamp("urn:lamp:1")).status, 201);
    let head = site.send("HEAD", "/things/urn:lamp:1", &[], &Value::Null);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let delete = || site.send("DELETE", "/things/urn:lamp:1", &[], &Value::Null);
    assert_eq!(delete().status, 204);
    assert_eq!(delete().status, 404);
    assert_eq!(site.get("/things/urn:lamp:1").status, 404);
    assert_eq!(
        site.put(&lamp("urn:lamp:1")).status,
        201,
        "a new one of that name"
    );
    let wrong = site.send("POST", "/things/urn:lamp:1", &[TD], &lamp("urn:lamp:1"));
    assert_eq!(wrong.status, 405);
    assert!(
        wrong.header("allow").next().unwrap().contains("PATCH"),
        "{wrong:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_patch_changes_parts_and_nothing_where_the_result_is_no_description() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:1"));
    let patch = json!({
        "description": "On the desk",
        "properties": {"brightness": {"maximum": 50, "unit": null}, "colour": {"type": "string",
            "forms": [{"href": "coap://[2001:db8::1]/colour"}]}}
    });
    let patched = site.patch("urn:lamp:1", &patch);
    assert_eq!((patched.status, patched.text.as_str()), (204, ""), "{patched:?}");
    let mut expected = lamp("urn:lamp:1");
    expected["description"] = "On the desk".into();
    expected["properties"]["brightness"]["maximum"] = 50.into();
    expected["properties"]["brightness"]
        .as_object_mut()
        .unwrap()
        .remove("unit");
    expected["properties"]["colour"] = patch["properties"]["colour"].clone();
    assert_eq!(site.original("urn:lamp:1"), expected);

    for (wrong, pointer) in [
        (json!({"title": null}), "/title"),
        (json!({"id": "urn:lamp:2"}), "/id"),
        (json!({"id": null}), "/id"),
        (
            json!({"properties": {"brightness": {"forms": []}}}),
            "/properties/brightness/forms",
        ),
        (json!({"registration": {"ttl": -1}}), "/registration/ttl"),
        (json!([]), ""),
    ] {
        let refused = site.patch("urn:lamp:1", &wrong);
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
        assert_eq!(
            refused.body["errors"][0]["pointer"], pointer,
            "{wrong}: {refused:?}"
        );
        assert!(refused.body["validationErrors"][0]["description"].is_string());
    }
    for wrong in [TD, ("content-type", "application/json")] {
        let refused = site.send("PATCH", "/things/urn:lamp:1", &[wrong], &json!({"title": "x"}));
        assert_eq!(refused.status, 415);
    }
    assert_eq!(site.original("urn:lamp:1"), expected, "nothing of it was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_somebody_else_has_changed_is_refused_where_it_is_asked_to_be() {
    let site = Site::start().await;
    site.put(&lamp("urn:lamp:1"));
    let tag = |answer: &telltale_tests::http::Answer| answer.header("etag").next().unwrap().to_owned();
    let read = tag(&site.get("/things/urn:lamp:1"));
    let with = |method: &str, tag: &str, body: &Value| {
        let headers = [if method == "PATCH" { PATCH } else { TD }, ("if-match", tag)];
        site.send(method, "/things/urn:lamp:1", &headers, body).status
    };
    let mut changed = lamp("urn:lamp:1");
    changed["title"] = "By another".into();
    assert_eq!(site.put(&changed).status, 204);
    assert_eq!(with("PUT", &read, &lamp("urn:lamp:1")), 412);
    assert_eq!(with("PATCH", &read, &json!({"title": "x"})), 412);
    assert_eq!(with("DELETE", &read, &Value::Null), 412);
    assert_eq!(site.original("urn:lamp:1"), changed);
    let now = tag(&site.get("/things/urn:lamp:1"));
    assert_eq!(with("PATCH", &now, &json!({"title": "x"})), 204);
    assert_eq!(with("DELETE", "*", &Value::Null), 204);
}
