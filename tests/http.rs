//! A blocking HTTP client that takes every status as an answer.
use serde_json::Value;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// The body, `null` where it is no JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// The values of a header, in their order.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.headers.iter().filter(move |(found, _)| found == name);
        own.map(|(_, value)| value.as_str())
    }
}

/// What came back, as it came.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    headers: ureq::http::HeaderMap,
    /// The body; `Err` where it broke off.
    pub text: Result<String, String>,
}

impl Reply {
    /// A header, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let text = self.text.as_deref().unwrap_or_else(|e| panic!("{e}: {self:?}"));
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// Most of a body that is read.
const BODY_MAX: u64 = 256 << 20;

/// One client; keeps its connections.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    /// Against that base URL with that bearer token.
    pub fn new(base: impl Into<String>, token: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .new_agent();
        Self {
            agent,
            base: base.into(),
            token,
        }
    }

    /// Posts; `Err` where there was no answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, String> {
        self.send("POST", path, headers, body)
    }

    /// Sends with any method; `Err` where there was no answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let reply = self.ask(method, path, headers, body)?;
        let headers: Vec<(String, String)> = reply
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), value.into_owned())
            })
            .collect();
        let header = |name: &str| {
            let mut own = headers.iter().filter(|(found, _)| found == name);
            own.next().map(|(_, value)| value.clone())
        };
        let (content_type, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
        let text = reply.text?;
        Ok(Answer {
            status: reply.status,
            content_type,
            retry_after,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
            headers,
        })
    }

    /// Sends with any method; `Err` where there was no answer, while a body that broke off is told with the rest.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let failed = |e: ureq::http::Error| e.to_string();
        let answer = if body.is_empty() && method == "GET" {
            self.agent.run(request.body(()).map_err(failed)?)
        } else {
            self.agent.run(request.body(body).map_err(failed)?)
        };
        let mut response = answer.map_err(|e| e.to_string())?;
        let text = response.body_mut().with_config().limit(BODY_MAX).read_to_string();
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: text.map_err(|e| e.to_string()),
        })
    }

    /// Gets a path's status and text.
    pub fn get(&self, path: &str) -> Result<(u16, String), String> {
        let reply = self.ask("GET", path, &[], b"")?;
        Ok((reply.status, reply.text?))
    }
}
