//! What the bridge refuses, as RFC 9457 problem details.
use crate::{
    keyring::LoginError,
    route::RouteError,
    uplink::{Busy, Refusal},
};
use axum::http::StatusCode;
use telltale_runtime::web::{Problem, body::Unread};

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong(_) => Self::unauthorized("device and secret do not match"),
            LoginError::Slowed(wait) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts").with_retry_after(wait)
            }
            LoginError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "credentials cannot be checked now",
            )
            .with_retry_after(Busy::Away.retry_after()),
        }
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        let status = match busy {
            Busy::Fast => StatusCode::TOO_MANY_REQUESTS,
            Busy::Full | Busy::Away | Busy::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, busy.text()).with_retry_after(busy.retry_after())
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        Self::not_found(error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Revoked => StatusCode::UNAUTHORIZED,
            Refusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Forbidden(_) | Refusal::NoGateway | Refusal::OwnEvent(_) => StatusCode::FORBIDDEN,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Key | Refusal::Invalid { .. } => StatusCode::BAD_REQUEST,
        };
        let problem = Self::new(status, refusal.to_string());
        match refusal {
            Refusal::Invalid { faults, .. } => problem.with_errors(faults),
            _ => problem,
        }
    }
}

/// Another method than the one of its place.
pub(super) fn method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "readings, events and outcomes are sent with POST, commands are asked for with GET",
    )
}

/// A body that could not be read, in the words of every adapter.
pub(super) fn unread(unread: Unread) -> Problem {
    match unread {
        Unread::TooLarge(limit) => Refusal::TooLarge(limit).into(),
        other => other.into(),
    }
}
