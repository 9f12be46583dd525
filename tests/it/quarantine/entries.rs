//! One entry at a time: refused again, corrected, given up; and what nobody without the right can bring about.
use super::{
    OPEN, SOON,
    operator::{left_in, put_type, quarantine, replay, streams, told},
};
use serde_json::{Value, json};
use std::fs;
use telltale_cli::stack::StackOptions;
use telltale_nats::{async_nats::HeaderMap, client, header};
use telltale_tests::{eventually_async, pipeline::Pipeline};

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_worked_on_until_it_is_settled() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    what_is_refused_again_is_another_entry(&mut pipeline).await;
    what_is_given_up_stays_with_who_and_why(&mut pipeline).await;
    nothing_is_done_that_was_not_agreed_to(&mut pipeline).await;
    a_correction_is_believed_as_the_original_was(&mut pipeline).await;
    without_the_seals_key_nothing_is_lost_unsaid(&mut pipeline).await;
    hostile_bytes_are_shown_and_do_nothing(&mut pipeline).await;
    who_has_no_right_to_replay_cannot_forge_one(&mut pipeline).await;
    let status = pipeline.at_rest(SOON).await;
    assert_eq!(status["balance"]["missing"], 0, "{status}");
    let open = pipeline.count(OPEN).await.unwrap();
    assert_eq!(
        left_in(&pipeline, "QUARANTINE").await,
        u64::try_from(open).unwrap(),
        "what is settled has left the stream"
    );
}

/// Sends it, and waits for its entry.
async fn refused(pipeline: &mut Pipeline, thing: &str, key: &str, payload: &str) -> String {
    let headers = [("Idempotency-Key", key), ("Content-Type", "application/json")];
    let path = format!("/things/{thing}/readings");
    let answer = pipeline.http.post(&path, &headers, payload.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = format!("{thing}:{key}");
    let there = format!("select count(*) from quarantine where message_id = '{id}' and state = 'open'");
    pipeline.until(&there, 1, SOON).await;
    id
}

async fn shown(pipeline: &Pipeline, id: &str) -> Value {
    quarantine(pipeline, &["show", id]).await
}

async fn what_is_refused_again_is_another_entry(pipeline: &mut Pipeline) {
    let things = ["again".to_owned()];
    put_type(pipeline, &things, "string").await;
    for key in ["1", "2", "3"] {
        refused(pipeline, "again", key, r#"{"temperature":1}"#).await;
    }
    let count = quarantine(pipeline, &["list", "--count", "--thing", "again"]).await;
    assert_eq!(
        (&count["reason"], &count["entries"], &count["things"]),
        (&"type".into(), &3.into(), &1.into())
    );
    for generation in 1..=2 {
        let done = replay(pipeline, &["--thing", "again", "--yes"]).await;
        assert_eq!(done["replayed"], 3, "{done}");
        let new = format!(
            "select count(*) from quarantine where state = 'open' and generation = {generation}
             and id like '%.validate.quarantine.{generation}'"
        );
        pipeline.until(&new, 3, SOON).await;
        assert_eq!(pipeline.count(OPEN).await, Some(3), "the old ones are settled");
    }
    let all = shown(pipeline, "again:1").await;
    assert_eq!((&all["state"], &all["generation"]), (&"open".into(), &2.into()));
    assert!(
        all["remedy"].as_str().unwrap().contains("telltale thing put"),
        "{all}"
    );

    put_type(pipeline, &things, "number").await;
    let done = replay(
        pipeline,
        &["again:1", "again:2", "again:3", "--note", "policy", "--by", "ann"],
    )
    .await;
    // A message is named: its two earlier entries are found as well, and left alone.
    assert_eq!(
        (&done["replayed"], &done["before"]),
        (&3.into(), &6.into()),
        "{done}"
    );
    pipeline
        .until("select count(*) from readings where thing = 'again'", 3, SOON)
        .await;
    let again = replay(pipeline, &["again:1"]).await;
    assert_eq!((&again["replayed"], &again["before"]), (&0.into(), &3.into()));
    assert_eq!(
        pipeline
            .rows("select settled_by, note, count(*) from quarantine where note is not null group by 1, 2")
            .await,
        ["ann|policy|3"]
    );
}

async fn what_is_given_up_stays_with_who_and_why(pipeline: &mut Pipeline) {
    let id = refused(pipeline, "given-up", "1", r#"{"temperature":"#).await;
    let plan = pipeline.telltale(&["quarantine", "drop", &id, "--dry-run"]).await;
    assert!(plan.status.success(), "{}", told(&plan));
    assert_eq!(shown(pipeline, &id).await["state"], "open");
    let done = quarantine(pipeline, &["drop", &id, "--note", "a test", "--by", "ben"]).await;
    assert_eq!(done["dropped"], 1);
    let entry = shown(pipeline, &id).await;
    assert_eq!(
        (
            &entry["state"],
            &entry["settled_by"],
            &entry["note"],
            &entry["text"]
        ),
        (
            &"dropped".into(),
            &"ben".into(),
            &"a test".into(),
            &r#"{"temperature":"#.into()
        )
    );
    let done = replay(pipeline, &[&id]).await;
    assert_eq!(done["replayed"], 0, "what was given up is not given back");
    assert_eq!(pipeline.count(OPEN).await, Some(0));
}

async fn nothing_is_done_that_was_not_agreed_to(pipeline: &mut Pipeline) {
    let id = refused(pipeline, "asked", "1", "{").await;
    for (arguments, code) in [
        (["replay", "--all"].as_slice(), 2),
        (&["replay"], 2),
        (&["drop", "--reason", "json"], 2),
        (&["replay", "no-such-id"], 1),
        (&["edit", &id], 2),
        (&["edit", &id, "--set", "temperature=1"], 2),
        (&["replay", "--all", "--dry-run"], 0),
    ] {
        let output = pipeline.telltale(&[&["quarantine"], arguments].concat()).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            told(&output)
        );
    }
    let entry = shown(pipeline, &id).await;
    assert_eq!(
        (&entry["state"], &entry["replay_begun"]),
        (&"open".into(), &Value::Null)
    );
    quarantine(pipeline, &["drop", "--thing", "asked", "--yes"]).await;
}

async fn a_correction_is_believed_as_the_original_was(pipeline: &mut Pipeline) {
    put_type(pipeline, &["cold".to_owned()], "number").await;
    let original = r#"{ "temperature": "cold", "note": 1.50 }"#;
    let id = refused(pipeline, "cold", "key", original).await;
    let edit = ["edit", &id, "--set", "/temperature=-0.85", "--by", "eve"];
    let plan = quarantine(pipeline, &[&edit[..], &["--dry-run"]].concat()).await;
    assert_eq!(plan["sealed"], true);
    assert_eq!(shown(pipeline, &id).await["edited"], Value::Null);
    quarantine(pipeline, &edit).await;
    let entry = shown(pipeline, &id).await;
    assert_eq!(entry["text"], original, "the original stays");
    let text = pipeline.telltale(&["quarantine", "show", &id]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("^^^^^^ /temperature"), "{text}");
    assert!(text.contains("edited    by eve"), "{text}");
    assert!(
        text.contains(r#"{ "temperature": -0.85, "note": 1.50 }"#),
        "{text}"
    );

    replay(pipeline, &[&id]).await;
    let row = "select value, protocol, publisher, received = (
                   select (header->>1)::timestamptz from quarantine, jsonb_array_elements(headers) as header
                   where message_id = 'cold:key' and lower(header->>0) = 'telltale-received'
               ) from readings where message_id = 'cold:key' and name = 'temperature'";
    pipeline
        .until(
            "select count(*) from readings where message_id = 'cold:key'",
            2,
            SOON,
        )
        .await;
    assert_eq!(pipeline.rows(row).await, ["-0.85|http|gateway|true"]);
}

async fn without_the_seals_key_nothing_is_lost_unsaid(pipeline: &mut Pipeline) {
    let id = refused(pipeline, "sealed", "key", r#"{"temperature":"#).await;
    let file = pipeline.stack.dir().join("corrected.json");
    fs::write(&file, r#"{"temperature":4}"#).unwrap();
    let key = pipeline.stack.layout().seal_key();
    let away = key.with_extension("away");
    fs::rename(&key, &away).unwrap();
    let edit = ["quarantine", "edit", &id, "--file", file.to_str().unwrap()];
    let refusal = pipeline.telltale(&edit).await;
    assert_eq!(refusal.status.code(), Some(3), "{}", told(&refusal));
    assert_eq!(shown(pipeline, &id).await["edited"], Value::Null);
    quarantine(pipeline, &[&edit[1..], &["--unsealed"]].concat()).await;
    quarantine_undone(pipeline, &id).await;
    quarantine(pipeline, &[&edit[1..], &["--unsealed"]].concat()).await;
    fs::rename(&away, &key).unwrap();
    replay(pipeline, &[&id]).await;
    pipeline
        .until("select count(*) from readings where thing = 'sealed'", 1, SOON)
        .await;
    let row = "select r.value, r.protocol, r.message_id = 'sealed:' || q.epoch || '-' || q.seq
               from readings r, quarantine q where r.thing = 'sealed' and q.thing = 'sealed'";
    assert_eq!(pipeline.rows(row).await, ["4|nats|true"]);
}

async fn quarantine_undone(pipeline: &Pipeline, id: &str) {
    let undone = pipeline.telltale(&["quarantine", "edit", id, "--undo"]).await;
    assert!(undone.status.success(), "{}", told(&undone));
    let entry = shown(pipeline, id).await;
    assert_eq!(
        (&entry["edited"], &entry["edited_by"]),
        (&Value::Null, &Value::Null)
    );
}

/// B65, B67: what a device sends is shown, and neither moves the cursor nor looks like something else.
async fn hostile_bytes_are_shown_and_do_nothing(pipeline: &mut Pipeline) {
    let payload =
        "{\"a\u{9b}2J\u{202e}\u{7f}<img src=x onerror=alert(1)>\":\"\u{85}\u{1b}]8;;http://x\u{7}\"";
    let id = refused(pipeline, "hostile", "1", payload).await;
    for arguments in [
        ["show", id.as_str()].as_slice(),
        &["show", &id, "-o", "json"],
        &["show", &id, "-o", "ndjson"],
        &["list", "--thing", "hostile", "-o", "table"],
        &["list", "--thing", "hostile", "-o", "json"],
    ] {
        let output = pipeline.telltale(&[&["quarantine"], arguments].concat()).await;
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            !text.is_empty() && !text.contains(bad),
            "{arguments:?}: {}",
            told(&output)
        );
    }
    let raw = pipeline.telltale(&["quarantine", "show", &id, "--raw"]).await;
    assert_eq!(raw.stdout, payload.as_bytes());
    quarantine(pipeline, &["drop", &id]).await;
}

async fn who_has_no_right_to_replay_cannot_forge_one(pipeline: &mut Pipeline) {
    let context = pipeline.stack.context().unwrap();
    let access = client::Access {
        url: pipeline.stack.env("NATS_URL").to_owned(),
        seed: Some(client::read_seed(context.seed_file("client").unwrap()).unwrap()),
        user: "client".to_owned(),
    };
    let nats = client::connect(&access).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::REPLAY, "7"),
        (header::REPLAYED, "again:1"),
        (header::ORIGINAL_SUBJECT, "raw.local.victim"),
        (header::ORIGINAL_RAWSEQ, "1-1"),
        (header::ORIGINAL_PLACE, "victim:1-1"),
        (header::ORIGINAL_TIME, "2001-01-01T00:00:00Z"),
    ] {
        headers.insert(name, value);
    }
    let rows = pipeline.count("select count(*) from readings").await;
    let js = client::context(nats.clone());
    let body = || br#"{"temperature":"#.to_vec().into();
    let into_redo = js
        .publish_with_headers("redo.validate", headers.clone(), body())
        .await
        .unwrap();
    assert!(into_redo.await.is_err(), "nobody confirms what is not allowed");
    assert_eq!(
        streams(pipeline)
            .await
            .get_stream("REDO")
            .await
            .unwrap()
            .cached_info()
            .state
            .messages,
        0
    );
    let sent = nats
        .request_with_headers("raw.local.forger", headers, body())
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&sent.payload).contains("RAW"), "{sent:?}");
    let entries = "select thing, generation, subject from quarantine where thing in ('forger', 'victim')";
    eventually_async("its entry", SOON, || async {
        let found = pipeline.rows(entries).await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(pipeline.rows(entries).await, ["forger|0|raw.local.forger"]);
    assert_eq!(pipeline.count("select count(*) from readings").await, rows);
    let again = json!(replay(pipeline, &["--thing", "forger", "--yes"]).await["replayed"]);
    assert_eq!(again, 1);
    let entries =
        "select count(*) from quarantine where thing = 'forger' and generation = 1 and state = 'open'";
    pipeline.until(entries, 1, SOON).await;
}
