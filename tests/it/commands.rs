//! The command line against a running stack.
use serde_json::{Value, json};
use std::{fs, process::Output, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_tests::{eventually_async, pipeline::Pipeline};

const SOON: Duration = Duration::from_secs(20);

fn json_of(output: &Output) -> Value {
    let told = || format!("{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told()))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_against_a_running_stack() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    things_are_put_and_what_is_sent_next_is_judged_by_them(&mut pipeline).await;
    a_tap_prints_exact_senml(&pipeline).await;
    a_replay_twice_adds_no_row(&mut pipeline).await;
    a_simulation_is_the_same_twice(&mut pipeline).await;
    status_names_who_does_not_run(&pipeline).await;
    an_admitted_worker_starts_with_its_views(&mut pipeline).await;
}

async fn things_are_put_and_what_is_sent_next_is_judged_by_them(pipeline: &mut Pipeline) {
    let file = pipeline.stack.dir().join("things.ndjson");
    for (limit, flag) in [(80, 1), (20, 4), (80, 1)] {
        let entry = json!({"thing": "urn:oven", "policy": {"properties": {"heat": {"maximum": limit, "unit": "Cel"}}}});
        fs::write(&file, entry.to_string()).unwrap();
        let put = json_of(
            &pipeline
                .telltale(&["thing", "put", file.to_str().unwrap(), "-o", "json"])
                .await,
        );
        assert_eq!(put[0]["held_by"], 2, "validate and annotate: {put}");
        let sent = pipeline.telltale(&["send", "urn:oven", r#"{"heat":50}"#]).await;
        let id = String::from_utf8(sent.stdout).unwrap();
        let query = format!(
            "select coalesce(max(quality), 0)::bigint from readings where message_id = '{}'",
            id.trim()
        );
        pipeline.at_least(&query, 1, SOON).await;
        assert_eq!(pipeline.count(&query).await, Some(flag), "maximum {limit}");
    }
    let misspelt = pipeline.telltale(&["thing", "show", "urn:ovem"]).await;
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("did you mean `urn:oven`?"));
    assert_eq!(
        json_of(&pipeline.telltale(&["thing", "list", "-o", "json"]).await)[0]["thing"],
        "urn:oven"
    );
    pipeline
        .telltale(&["send", "urn:oven", r#"{"heat":"#, "--id", "broken"])
        .await;
    pipeline
        .at_least("select count(*) from quarantine where reason = 'json'", 1, SOON)
        .await;
    let listed = json_of(&pipeline.telltale(&["quarantine", "list", "-o", "json"]).await);
    assert_eq!(listed[0]["message_id"], "urn:oven:broken");
    let raw = pipeline
        .telltale(&["quarantine", "show", "urn:oven:broken", "--raw"])
        .await;
    assert_eq!(raw.stdout, br#"{"heat":"#);
}

async fn a_tap_prints_exact_senml(pipeline: &Pipeline) {
    let tap = pipeline.telltale(&[
        "tap",
        "annotated",
        "--thing",
        "t1",
        "--as",
        "senml",
        "--limit",
        "1",
        "--for",
        "20s",
    ]);
    let send = async {
        // The tap may not listen yet: what it misses is sent again.
        let mut next = tokio::time::interval(Duration::from_millis(300));
        loop {
            next.tick().await;
            pipeline
                .telltale(&[
                    "send",
                    "t1",
                    r#"{"temperature":21.5,"time":"2026-01-15T07:41:09Z"}"#,
                ])
                .await;
            pipeline
                .telltale(&["send", "t2", r#"[{"n":"temperature","v":1}]"#])
                .await;
        }
    };
    let tapped = tokio::select! {
        tapped = tap => tapped,
        () = send => unreachable!("it sends for ever"),
    };
    // A time that long ago is only taken from who may backfill, as the command line's token may.
    assert_eq!(
        json_of(&tapped),
        json!([{"n": "t1/temperature", "t": 1_768_462_869, "v": 21.5}])
    );
}

async fn a_replay_twice_adds_no_row(pipeline: &mut Pipeline) {
    let (file, mapping) = (
        pipeline.stack.dir().join("day.csv"),
        pipeline.stack.dir().join("day.toml"),
    );
    let rows: Vec<String> = (0..120)
        .map(|n| format!("s{},{},{n}", n % 3, 1_700_000_000 + n * 600))
        .collect();
    fs::write(&file, format!("station,at,level\n{}\n", rows.join("\n"))).unwrap();
    let text = "[thing]\ncolumn='station'\n[time]\ncolumns=['at']\nformat='epoch'\n[policy]\nmissing=[7]\n[properties.level]\nunit='m'\n";
    fs::write(&mapping, text).unwrap();
    for (stored, duplicate) in [(120, 0), (0, 120)] {
        let arguments = [
            "replay",
            file.to_str().unwrap(),
            "--mapping",
            mapping.to_str().unwrap(),
            "-o",
            "json",
        ];
        let replayed = pipeline.telltale(&arguments).await;
        let counts = json_of(&replayed);
        assert_eq!(counts[0]["stored"], stored, "{counts}");
        assert_eq!(counts[0]["duplicate"], duplicate, "{counts}");
        assert_eq!(replayed.status.code(), Some(0));
        let rows = pipeline
            .count("select count(*) from readings where name = 'level'")
            .await;
        let missing = pipeline
            .count("select count(*) from readings where name = 'level' and quality = 9")
            .await;
        assert_eq!((rows, missing), (Some(120), Some(1)));
    }
}

async fn a_simulation_is_the_same_twice(pipeline: &mut Pipeline) {
    for _ in 0..2 {
        let arguments = [
            "simulate", "--things", "10", "--rate", "max", "--count", "200", "--seed", "7", "-o", "json",
        ];
        let played = pipeline.telltale(&arguments).await;
        assert_eq!(json_of(&played)[0]["accepted"], 200);
        assert_eq!(played.status.code(), Some(0));
        pipeline.at_rest(SOON).await;
        let found = pipeline
            .count("select count(distinct message_id) from readings where message_id like '%:7-%'")
            .await;
        assert_eq!(found, Some(200));
    }
}

async fn an_admitted_worker_starts_with_its_views(pipeline: &mut Pipeline) {
    let folder = pipeline.stack.dir().join("extra");
    fs::create_dir_all(folder.join("sql")).unwrap();
    let view = "create or replace view hot as select thing, value from readings where value > 20;";
    fs::write(folder.join("sql/hot.sql"), view).unwrap();
    let manifest = folder.join("manifest.json");
    fs::write(
        &manifest,
        r#"{"name":"extra","inputs":["annotated"],"outputs":["event"],"events":["hot"]}"#,
    )
    .unwrap();
    let admit = pipeline
        .telltale(&["admit", manifest.to_str().unwrap(), "--", "sleep", "600"])
        .await;
    assert!(
        admit.status.success(),
        "{}",
        String::from_utf8_lossy(&admit.stderr)
    );
    let told = String::from_utf8(admit.stdout).unwrap();
    assert!(told.contains("export TELLTALE_NATS_SEED_FILE='"), "{told}");
    assert!(pipeline.count("select count(*) from extra.hot").await.is_some());
    pipeline.stack.start_one("extra").await.unwrap();
    assert!(pipeline.stack.pid("extra").is_some());
    let same = pipeline.telltale(&["provision", "--diff"]).await;
    assert_eq!(
        same.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&same.stdout)
    );
    let ours = pipeline.telltale(&["admit", "no-such-file"]).await;
    assert_eq!(ours.status.code(), Some(1));
}

async fn status_names_who_does_not_run(pipeline: &Pipeline) {
    pipeline.stack.stop_one("annotate").await.unwrap();
    let status = eventually_async("status is wrong", SOON, || async {
        let output = pipeline.telltale(&["status", "-o", "json"]).await;
        (output.status.code() == Some(10)).then_some(output)
    })
    .await;
    let problems = json_of(&status)["problems"].to_string();
    assert!(problems.contains("annotate"), "{problems}");
    pipeline.stack.start_one("annotate").await.unwrap();
    let well = pipeline
        .telltale(&["status", "--wait", "20s", "-o", "json"])
        .await;
    assert_eq!(
        well.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&well.stdout)
    );
}
