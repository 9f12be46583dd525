//! Quality control through the running pipeline, flag for flag as others have it.
use serde_json::{Value, json};
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_schemas::Timestamp;
use telltale_tests::{eventually_async, http::Client, pipeline::Pipeline};

const SOON: Duration = Duration::from_secs(60);

/// As an entry has them.
fn tests(vector: &Value) -> Value {
    let parameters = &vector["parameters"];
    let seconds = |name: &str| format!("{}s", parameters[name]);
    match vector["test"].as_str().unwrap() {
        "gross_range" => json!({"gross_range": parameters}),
        "spike" => json!({"spike": {
            "method": parameters["method"],
            "suspect": parameters["suspect_threshold"],
            "fail": parameters["fail_threshold"],
        }}),
        "rate_of_change" => json!({"rate_of_change": {"threshold": parameters["threshold_per_second"]}}),
        "flat_line" => json!({"flat_line": {
            "tolerance": parameters["tolerance"],
            "suspect": seconds("suspect_seconds"),
            "fail": seconds("fail_seconds"),
        }}),
        other => panic!("{other} is a test that we do not have"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vectors_of_ioos_are_flags_in_sql_though_process_is_killed_on_the_way() {
    let Some(file) = telltale_tests::data("qartod.json") else {
        return;
    };
    let vectors: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let entries = vectors.iter().enumerate().map(|(n, vector)| {
        let properties = json!({"p": {"quality": tests(vector)}});
        json!({"thing": format!("v{n}"), "policy": {"properties": properties}}).to_string()
    });
    let file = pipeline.stack.dir().join("things.ndjson");
    std::fs::write(&file, entries.collect::<Vec<_>>().join("\n")).unwrap();
    let put = pipeline.telltale(&["thing", "put", file.to_str().unwrap()]).await;
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let start = Timestamp::now().plus_micros(-12 * 3_600_000_000);
    let longest = vectors
        .iter()
        .map(|vector| vector["values"].as_array().unwrap().len());
    for step in 0..longest.max().unwrap() {
        for (n, vector) in vectors.iter().enumerate() {
            let Some(value) = vector["values"].get(step) else {
                continue;
            };
            let interval = vector["parameters"]["interval_seconds"].as_i64().unwrap_or(60);
            let time = start.plus_micros(i64::try_from(step).unwrap() * interval * 1_000_000);
            let body = json!({"time": time, "p": value}).to_string();
            let path = format!("/things/v{n}/readings");
            let answer = pipeline
                .http
                .post(&path, &[("content-type", "application/json")], body.as_bytes());
            assert_eq!(answer.unwrap().status, 202);
        }
        if step == 6 {
            pipeline.kill("process", SOON).await;
        }
    }
    let token = Some(pipeline.stack.env("GATEWAY_TOKEN").to_owned());
    let gateway = Client::new(pipeline.stack.env("GATEWAY_URL"), token);
    for (n, vector) in vectors.iter().enumerate() {
        let wanted: Vec<u8> = serde_json::from_value(vector["flags"].clone()).unwrap();
        let wanted: Vec<String> = wanted.iter().map(u8::to_string).collect();
        let pipeline = &pipeline;
        let rows = format!("select quality from readings where thing = 'v{n}' order by time");
        eventually_async(&format!("{}: {wanted:?}", vector["test"]), SOON, || async {
            (pipeline.rows(&rows).await == wanted).then_some(())
        })
        .await;
        // The gateway tells what was amended, too.
        let path = format!("/things/v{n}/readings?from={start}");
        let answer = gateway.get(&path).unwrap();
        let listed: Value = serde_json::from_str(&answer.1).unwrap();
        let listed = listed["readings"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .iter();
        let listed: Vec<String> = listed.map(|reading| reading["quality"].to_string()).collect();
        assert_eq!(listed, wanted, "{path}");
        let latest = format!("select quality from latest where thing = 'v{n}'");
        assert_eq!(pipeline.rows(&latest).await, [wanted.last().unwrap().clone()]);
        let test = vector["test"].as_str().unwrap();
        let strange = format!(
            "select failed from readings where thing = 'v{n}' and failed <> case
                 when quality in (3, 4) then array['{test}'] when quality = 9 then array['missing'] else '{{}}'
             end"
        );
        assert_eq!(pipeline.rows(&strange).await, Vec::<String>::new(), "{test}");
    }
}
