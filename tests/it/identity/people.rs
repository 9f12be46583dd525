//! People and their tokens: what each may do over the gateway, and that what is done is written down.
use serde_json::{Value, json};
use std::time::Duration;
use telltale_cli::stack::StackOptions;
use telltale_tests::{eventually_async, pipeline::Pipeline};

const WITHIN: Duration = Duration::from_secs(10);

/// What the gateway answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    challenge: bool,
    cached: Option<String>,
    body: Value,
}

/// The gateway, asked with one token.
#[derive(Clone)]
struct Asker {
    base: String,
    token: Option<String>,
}

impl Asker {
    fn new(pipeline: &Pipeline, token: Option<&str>) -> Self {
        Self {
            base: pipeline.stack.env("GATEWAY_URL").to_owned(),
            token: token.map(str::to_owned),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            request = request.header("content-type", "application/td+json");
        }
        let request = request.body(body).unwrap();
        let sent = tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .allow_non_standard_methods(true)
                .timeout_global(Some(WITHIN))
                .build();
            let mut response = ureq::Agent::new_with_config(config).run(request).unwrap();
            let header = |name: &str| {
                let value = response.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            let (challenge, cached) = (header("www-authenticate").is_some(), header("cache-control"));
            let text = response.body_mut().read_to_string().unwrap();
            Answer {
                status: response.status().as_u16(),
                challenge,
                cached,
                body: serde_json::from_str(&text).unwrap_or_default(),
            }
        });
        sent.await.unwrap()
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, None).await.status
    }
}

/// A new token, made by the command line.
async fn token(pipeline: &Pipeline, name: &str, more: &[&str]) -> String {
    let arguments = [&["token", "create", name, "-o", "json"], more].concat();
    let output = pipeline.telltale(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["name"], name);
    rows[0]["token"].as_str().unwrap().to_owned()
}

fn description(name: &str) -> Value {
    json!({
        "@context": "https://www.w3.org/2022/wot/td/v1.1",
        "id": format!("urn:dev:{name}"),
        "title": name,
        "securityDefinitions": {"none": {"scheme": "nosec"}},
        "security": "none",
        "properties": {"temperature": {"type": "number", "unit": "Cel", "forms": [{"href": "coap://[2001:db8::1]/t"}]}}
    })
}

/// Tokens are listed without their secrets, never given twice, and taken away on request.
async fn listed_and_revoked(pipeline: &Pipeline, reader_token: &str) {
    let output = pipeline.telltale(&["token", "list", "-o", "json"]).await;
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"reader") && names.contains(&"brief"), "{names:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        !shown.contains(reader_token.rsplit_once('.').unwrap().1),
        "{shown}"
    );
    let again = pipeline
        .telltale(&["token", "create", "reader", "--scope", "admin"])
        .await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(
        pipeline
            .telltale(&["token", "revoke", "reader"])
            .await
            .status
            .code(),
        Some(2)
    );
    let revoked = pipeline.telltale(&["token", "revoke", "reader", "--yes"]).await;
    assert!(revoked.status.success(), "{revoked:?}");
}

/// What was done is written down: by whom, and how it was answered.
async fn audited(pipeline: &Pipeline) {
    let query = "select who, what, scope, status, coalesce(thing, '-') from audit order by time, what";
    let told = eventually_async("the writes are audited", WITHIN, || async {
        let rows = pipeline.rows(query).await;
        (rows.len() >= 6).then_some(rows)
    })
    .await;
    for wanted in [
        "operator|token create reader|-",
        "operator|token revoke reader|-",
        "reader|POST /things|things:write|403|-",
        "reader|POST /things/urn:dev:one/credentials|admin|403|urn:dev:one",
    ] {
        assert!(
            told.iter().any(|row| row == wanted),
            "{wanted} is not in {told:?}"
        );
    }
    let put = "|PUT /things/urn:dev:one|things:write|201|urn:dev:one";
    assert!(told.iter().any(|row| row.ends_with(put)), "{told:?}");
    assert!(
        !told.iter().any(|row| row.contains("GET")),
        "reading is not written down"
    );
    let refused = "select count(distinct data->>'reason') from events where name = 'access_refused'
        and site = thing and data->>'protocol' = 'gateway'
        and data->>'reason' in ('missing', 'unknown', 'secret', 'expired')";
    eventually_async("whoever was refused is written down", WITHIN, || async {
        (pipeline.rows(refused).await == ["4"]).then_some(())
    })
    .await;
    assert!(pipeline.metric("gateway", "telltale_gateway_refused_total") >= 5.0);
}

#[tokio::test]
async fn a_token_is_good_for_its_scopes_until_it_ends_and_each_write_is_audited() {
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let reader_token = token(&pipeline, "reader", &["--scope", "things:read"]).await;
    let brief_token = token(&pipeline, "brief", &["--scope", "admin", "--expires", "1s"]).await;
    let admin = Asker::new(&pipeline, Some(pipeline.stack.env("GATEWAY_TOKEN")));
    let reader = Asker::new(&pipeline, Some(&reader_token));
    let brief = Asker::new(&pipeline, Some(&brief_token));
    eventually_async("the gateway knows the token", WITHIN, || async {
        (reader.status("GET", "/things").await == 200).then_some(())
    })
    .await;
    for wrong in [None, Some("reader.guess"), Some("nobody.guess"), Some("reader")] {
        let answer = Asker::new(&pipeline, wrong).ask("GET", "/things", None).await;
        assert_eq!((answer.status, answer.challenge), (401, true), "{wrong:?}");
    }
    let refused = reader.ask("POST", "/things", Some(description("one"))).await;
    assert_eq!(refused.status, 403);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("`reader`") && detail.contains("`things:write`"),
        "{detail}"
    );
    assert_eq!(
        reader.status("POST", "/things/urn:dev:one/credentials").await,
        403
    );
    let created = admin
        .ask("PUT", "/things/urn:dev:one", Some(description("one")))
        .await;
    assert_eq!(created.status, 201, "{}", created.body);
    eventually_async("a token ends by itself", WITHIN, || async {
        (brief.status("GET", "/things").await == 401).then_some(())
    })
    .await;
    listed_and_revoked(&pipeline, &reader_token).await;
    eventually_async("a token that is taken away ends", WITHIN, || async {
        (reader.status("GET", "/things").await == 401).then_some(())
    })
    .await;
    audited(&pipeline).await;
}

#[tokio::test]
async fn a_device_is_given_a_credential_over_the_gateway_and_it_is_taken_away() {
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let admin = Asker::new(&pipeline, Some(pipeline.stack.env("GATEWAY_TOKEN")));
    let path = "/things/lamp/credentials";
    assert_eq!(admin.status("GET", path).await, 404);
    let made = admin.ask("POST", path, None).await;
    assert_eq!(
        (made.status, made.cached.as_deref()),
        (201, Some("no-store")),
        "{}",
        made.body
    );
    let first = made.body["token"].as_str().unwrap().to_owned();
    let bridge = |token: &str, wanted: u16| {
        let client =
            telltale_tests::http::Client::new(pipeline.stack.env("BRIDGE_URL"), Some(token.to_owned()));
        async move {
            eventually_async(&format!("{wanted} at the bridge"), WITHIN, || async {
                let answer = client.post("/things/lamp/readings", &[], b"{\"t\":1}").unwrap();
                (answer.status == wanted).then_some(())
            })
            .await;
        }
    };
    bridge(&first, 202).await;
    let wider = json!({"things": ["lamp", "lamp-2"], "gateway": true});
    let rotated = admin.ask("POST", path, Some(wider)).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    assert_eq!(rotated.body["things"], json!(["lamp", "lamp-2"]));
    assert_eq!(rotated.body["secrets"].as_array().unwrap().len(), 2);
    let second = rotated.body["token"].as_str().unwrap().to_owned();
    bridge(&first, 202).await;
    bridge(&second, 202).await;
    let shown = admin.ask("GET", path, None).await;
    assert_eq!(shown.status, 200);
    assert!(
        shown.body.get("token").is_none() && shown.body.get("secret").is_none(),
        "{}",
        shown.body
    );
    for (wrong, pointer) in [
        (json!({"things": []}), "/things"),
        (json!({"things": ["lamp", "_pack"]}), "/things/1"),
    ] {
        let refused = admin.ask("POST", path, Some(wrong)).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{}", refused.body);
    }
    let unknown = admin.ask("POST", path, Some(json!({"hash": "x"}))).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(admin.status("DELETE", path).await, 204);
    bridge(&first, 401).await;
    bridge(&second, 401).await;
    assert_eq!(admin.status("DELETE", path).await, 404);
}
