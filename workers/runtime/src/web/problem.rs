//! Refusals as RFC 9457 problem details.
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{borrow::Cow, time::Duration};
use telltale_schemas::kinds::Fault;

/// The media type of a refusal.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// When to come back to whoever cannot be served now.
const AWAY_RETRY: Duration = Duration::from_secs(2);

/// Why a request was refused: the answer itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<Fault>,
    is_validation: bool,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    #[serde(rename = "validationErrors", skip_serializing_if = "Vec::is_empty")]
    validation_errors: Vec<ValidationError<'a>>,
}

/// A fault in the words of W3C WoT Discovery §7.3.1.6.
#[derive(Serialize)]
struct ValidationError<'a> {
    field: String,
    description: &'a str,
}

impl<'a> ValidationError<'a> {
    /// `/properties/a/forms/0` is `properties.a.forms.0` there, and the whole `(root)`.
    fn of(fault: &'a Fault) -> Self {
        let field = fault.pointer.trim_start_matches('/').replace('/', ".");
        let field = field.replace("~1", "/").replace("~0", "~");
        Self {
            field: if field.is_empty() {
                "(root)".to_owned()
            } else {
                field
            },
            description: &fault.message,
        }
    }
}

impl Problem {
    /// With that status; `detail` is one sentence for people: the value that was wrong and what to do.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
            is_validation: false,
            retry_after: None,
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400 for a document with faults, each with its place.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let first = faults.first().map(|fault| match fault.pointer.as_str() {
            "" => fault.message.clone(),
            pointer => format!("{} at `{pointer}`", fault.message),
        });
        let detail = first.map_or(Cow::Borrowed("the document is not valid"), Cow::Owned);
        Self::bad_request(detail).with_errors(faults)
    }

    /// 401: no credential that could be checked.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503: something that we need does not answer; try again soon.
    pub fn away(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(AWAY_RETRY)
    }

    /// 500: our fault. The log has it; the client is told nothing of it.
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!("a request failed: {error:#}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request failed here, and the log says why",
        )
    }

    /// What exactly was wrong, and where.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.errors = errors;
        self
    }

    /// The faults once more as `validationErrors`, which W3C directories name them.
    #[must_use]
    pub fn with_validation_errors(mut self) -> Self {
        self.is_validation = true;
        self
    }

    /// When to try again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The status that it is answered with.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// For people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The document: `type`, `title`, `status`, `detail`, and `errors` with JSON Pointers.
    ///
    /// # Panics
    /// Never: the document is a JSON object.
    pub fn to_json(&self) -> Vec<u8> {
        let details = Details {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            validation_errors: self
                .errors
                .iter()
                .filter(|_| self.is_validation)
                .map(ValidationError::of)
                .collect(),
        };
        serde_json::to_vec(&details).expect("problem details are a JSON object")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Body::from(self.to_json())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: whoever comes back a moment early is refused again.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())),
            );
        }
        response
    }
}

impl From<telltale_schemas::Refusal> for Problem {
    fn from(refusal: telltale_schemas::Refusal) -> Self {
        Self::invalid(refusal.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_place_and_says_when_to_come_back() {
        let problem = Problem::invalid(vec![Fault::at("/title", "`7` is no text")]);
        let told: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(told["status"], 400);
        assert_eq!(told["detail"], "`7` is no text at `/title`");
        assert_eq!(told["errors"][0]["pointer"], "/title");
        assert_eq!(told.get("validationErrors"), None);
        let problem = Problem::invalid(vec![Fault::at("", "x"), Fault::at("/a~1b/0/c", "y")]);
        let told: serde_json::Value =
            serde_json::from_slice(&problem.with_validation_errors().to_json()).unwrap();
        assert_eq!(told["validationErrors"][0]["field"], "(root)");
        assert_eq!(told["validationErrors"][1]["field"], "a/b.0.c");
        let busy = Problem::away("x").with_retry_after(Duration::from_millis(1_200));
        assert_eq!(busy.into_response().headers()[header::RETRY_AFTER], "2");
    }
}
