//! The gateway: things, their descriptions, their data and their actions, for people and programs over HTTP, and
//! the directory over NATS.
//!
//! Whoever asks shows a token; each handler says first which scope it takes. Refusals are problems (RFC 9457).
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | writing the bucket `things`, and telling what changed; the command line uses it too |
//! | [`directory`] | the W3C directory of Thing Descriptions, `.well-known`, CoRE links |
//! | [`auth`] | people's tokens and what they are for, the audit, the credentials of devices |
//! | [`data`] | properties, actions, events, history |
//! | [`query`] | `POST /query` |
//! | [`sql`] | sessions with PostgreSQL, and rows as the body of an answer |
//! | [`app`] | what all handlers share |
//! | [`openapi`], [`asyncapi`] | what there is over HTTP, and over NATS, for programs to read |
//! | [`presence`] | which things are heard of, and which are overdue |
//! | `streams` | how many answers without an end a token may have |
//! | [`service`] | the directory as a NATS service |
pub mod app;
pub mod asyncapi;
pub mod auth;
mod data;
mod directory;
mod metrics;
mod openapi;
mod presence;
mod process;
mod query;
pub mod registry;
mod service;
mod sql;
mod streams;

pub use app::App;
pub use process::{command, run};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
};
use telltale_runtime::web::{
    Problem,
    body::{self, refuse},
    door::Door,
};
use utoipa_axum::router::OpenApiRouter;

/// Every route with what is said of it. A module adds its own here.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .merge(directory::routes())
        .merge(auth::routes())
        .merge(data::routes())
        .merge(query::routes())
}

/// The whole HTTP face.
fn router(app: App, door: Door) -> Router {
    let (routes, document) = api().split_for_parts();
    routes
        .merge(openapi::routes(document))
        .merge(asyncapi::routes())
        .method_not_allowed_fallback(|request: Request| {
            let problem = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "not with this method; `Allow` names those that there are",
            );
            refuse(request.into_body(), problem)
        })
        .fallback(|request: Request| {
            let problem = Problem::not_found("no such place; /openapi.json has them all");
            refuse(request.into_body(), problem)
        })
        .layer(middleware::from_fn_with_state(app.clone(), auth::watch))
        .layer(middleware::from_fn(body::drain))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            door.clone().pass(request, next)
        }))
        .with_state(app)
}
