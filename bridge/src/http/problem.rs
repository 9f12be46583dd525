//! Refusals as RFC 9457 problem details.
use crate::{
    keyring::LoginError,
    route::RouteError,
    uplink::{Busy, Refusal},
};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::time::Duration;
use telltale_schemas::kinds::Fault;

/// Why a request was refused.
#[derive(Debug)]
pub(super) enum Problem {
    /// No credential that could be checked.
    Unauthorized(&'static str),
    /// Not now: the status, why, and when to try again.
    Later(StatusCode, &'static str, Duration),
    Nowhere(RouteError),
    Method,
    Encoded,
    /// The body did not come in time or broke off.
    Body(StatusCode, &'static str),
    Refused(Refusal),
}

#[derive(Serialize)]
struct Details {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::Unauthorized("device and secret do not match"),
            LoginError::Slowed(wait) => Self::Later(StatusCode::TOO_MANY_REQUESTS, "too many attempts", wait),
            LoginError::Busy => Self::Later(
                StatusCode::SERVICE_UNAVAILABLE,
                "credentials cannot be checked now",
                Busy::Away.retry_after(),
            ),
        }
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        let status = match busy {
            Busy::Fast => StatusCode::TOO_MANY_REQUESTS,
            Busy::Full | Busy::Away | Busy::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::Later(status, busy.text(), busy.retry_after())
    }
}

impl Problem {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::Refused(Refusal::Revoked) => StatusCode::UNAUTHORIZED,
            Self::Later(status, ..) | Self::Body(status, _) => *status,
            Self::Nowhere(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoded | Self::Refused(Refusal::MediaType) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Refused(Refusal::Forbidden(_) | Refusal::NoGateway) => StatusCode::FORBIDDEN,
            Self::Refused(Refusal::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(Refusal::Key | Refusal::Invalid { .. }) => StatusCode::BAD_REQUEST,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized(text) | Self::Later(_, text, _) | Self::Body(_, text) => (*text).to_owned(),
            Self::Nowhere(error) => error.to_string(),
            Self::Method => "readings and events are sent with POST".to_owned(),
            Self::Encoded => "a body is taken as it is, without Content-Encoding".to_owned(),
            Self::Refused(refusal) => refusal.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, detail) = (self.status(), self.detail());
        let errors = match &self {
            Self::Refused(Refusal::Invalid { faults, .. }) => faults.clone(),
            _ => Vec::new(),
        };
        let details = Details {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
            errors,
        };
        let body = serde_json::to_vec(&details).expect("problem details are a JSON object");
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Later(_, _, wait) = self {
            // Rounded up: whoever comes back a moment early is refused again.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())),
            );
        }
        response
    }
}
