//! What a query answers: rows with their types, in three formats, and what is wrong with it at which place.
use super::Door;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_in_each_format_with_its_parameters() {
    let door = Door::open().await;
    let request = json!({
        "sql": "select t, $2::timestamptz as at, $3::float8 * n as x, null as nothing, $4::jsonb -> 'a' as a, n > 1 as b
                from unnest($1::text[]) with ordinality as q(t, n) order by n;  -- done",
        "params": [["one", "t\"w,o\nx"], "2026-01-15T07:41:09.25Z", 1.5, { "a": [1, { "b": null }] }],
    });
    let json = door.ask("json", request.clone()).await;
    let document = json.json();
    assert_eq!(
        (json.status, json.header("content-type")),
        (200, "application/json")
    );
    let at = "2026-01-15T07:41:09.25+00:00";
    let rows = json!([
        ["one", at, 1.5, null, [1, { "b": null }], false],
        ["t\"w,o\nx", at, 3, null, [1, { "b": null }], true],
    ]);
    assert_eq!(document["rows"], rows);
    assert_eq!(
        document["columns"][1],
        json!({ "name": "at", "type": "timestamptz" })
    );
    assert_eq!(
        (&document["count"], &document["truncated"]),
        (&json!(2), &json!(false))
    );

    let ndjson = door.ask("ndjson", request.clone()).await;
    let lines: Vec<Value> = ndjson
        .text
        .as_ref()
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines[1]["t"], "t\"w,o\nx");
    assert_eq!((lines.len(), &lines[0]["a"]), (2, &json!([1, { "b": null }])));

    let csv = door.ask("csv", request).await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    let expected = format!(
        "t,at,x,nothing,a,b\r\none,{at},1.5,,\"[1, {{\"\"b\"\": null}}]\",false\r\n\
         \"t\"\"w,o\nx\",{at},3,,\"[1, {{\"\"b\"\": null}}]\",true\r\n"
    );
    assert_eq!(csv.text.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_are_there_and_every_type_in_them_can_be_written() {
    let door = Door::open().await;
    let admin = door.admin().await;
    let sql = "select relname::text from pg_class
               where relnamespace = 'public'::regnamespace and has_table_privilege('telltale_reader', oid, 'select')";
    let views = admin.query(sql, &[]).await.unwrap();
    assert!(views.len() >= 9);
    for view in &views {
        let view: &str = view.get(0);
        let reply = door.sql(&format!("select * from {view} limit 1")).await;
        assert_eq!(reply.status, 200, "{view}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_place() {
    let door = Door::open().await;
    for (request, status, pointer, word) in [
        (
            json!({ "sql": "select\n  nothing from latest" }),
            400,
            "/sql",
            "line 2, column 3",
        ),
        (
            json!({ "sql": "select 1; select 2" }),
            400,
            "/sql",
            "line 1, column 11",
        ),
        (json!({ "sql": "selec 1" }), 400, "/sql", "select, with"),
        (json!({ "sql": "select 1/0" }), 400, "/sql", "division by zero"),
        (
            json!({ "sql": "select $1::int", "params": ["x"] }),
            400,
            "/sql",
            "invalid input syntax",
        ),
        (
            json!({ "sql": "select $1::int", "params": [] }),
            400,
            "/params",
            "0 values for 1",
        ),
        (
            json!({ "sql": "select $1::int", "params": [[1]] }),
            400,
            "/params/0",
            "int4",
        ),
        (json!({ "sql": "select 1", "limit": 1 }), 400, "", "limit"),
        (json!({ "query": "select 1" }), 400, "", "query"),
        (json!({ "sql": "select" }), 400, "/sql", "without columns"),
        (json!(["select 1"]), 400, "", "struct"),
    ] {
        let reply = door.ask("json", request.clone()).await;
        let problem = reply.json();
        assert_eq!(reply.status, status, "{request}: {problem}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{request}: {problem}");
        let told = problem["errors"][0]["message"].as_str().unwrap();
        assert!(told.contains(word), "{request}: {told}");
    }
    assert_eq!(door.ask("senml", json!({ "sql": "select 1" })).await.status, 400);
    let bare = tokio::task::block_in_place(|| door.http.ask("POST", "/query", &[], b"{}"));
    assert_eq!(bare.unwrap().status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_without_a_token() {
    let door = Door::open().await;
    let stranger = telltale_tests::http::Client::new(door.stack.env("GATEWAY_URL"), None);
    let headers = [("Content-Type", "application/json")];
    let reply =
        tokio::task::block_in_place(|| stranger.ask("POST", "/query", &headers, b"{\"sql\":\"select 1\"}"));
    assert_eq!(reply.unwrap().status, 401);
}
