//! axum's extractors, with problems for what they refuse.
use super::{Problem, body};
use axum::{
    extract::{FromRequest, FromRequestParts, Request, rejection::PathRejection},
    http::request::Parts,
};
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// The variables of a path, percent-decoded. What is no UTF-8, or no such value, is 400.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        match found {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::bad_request(format!(
                "the path cannot be read: {}",
                rejection.body_text()
            ))),
        }
    }
}

/// The parameters of a query. What is unknown (where `T` denies that), double or no such value is 400.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::bad_request(format!(
                "the query cannot be read: {}",
                rejection.body_text()
            ))),
        }
    }
}

/// The whole body, of at most `MAX` bytes; more is 413, what does not come in time 408.
#[derive(Debug, Clone)]
pub struct Whole<const MAX: usize>(pub Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Whole<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if body::length(request.headers()) > MAX {
            return Err(body::Unread::TooLarge(MAX).into());
        }
        Ok(Self(body::read(request.into_body(), MAX).await?))
    }
}
