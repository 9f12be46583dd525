//! HTTP/1.1: `POST /things/{thing}/readings`, `POST /things/{thing}/events/{name}` and `POST /readings`; commands by
//! `GET /things/{thing}/commands`, and answers to them by `POST /things/{thing}/outcomes/{id}`.
//!
//! `Authorization: Bearer <device>.<secret>`. 202 with the id only after the broker's confirmation; every refusal
//! is a problem (RFC 9457).
mod commands;
mod problem;

use crate::{
    Adapter,
    intake::Intake,
    keyring::Ticket,
    metrics::Protocol,
    route::Route,
    uplink::{Receipt, Uplink},
};
use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use std::net::IpAddr;
use telltale_runtime::{
    identity::token::bearer,
    web::{
        self, Peer, Problem,
        body::{self, refuse},
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The device's own id of what it sends.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The HTTP adapter.
#[derive(Debug)]
pub struct Http {
    /// Where devices connect.
    pub listener: TcpListener,
    /// Connections at once.
    pub connections_max: usize,
    /// What `/livez`, `/readyz` and `/metrics` answer with.
    pub face: Router,
}

impl Adapter for Http {
    const NAME: &'static str = "http";

    async fn serve(self, intake: Intake, stop: CancellationToken) -> anyhow::Result<()> {
        let at = self.listener.local_addr().context("read the HTTP address")?;
        info!(%at, "HTTP devices connect to http://{at}");
        let router = router(intake.clone(), stop.clone()).merge(self.face);
        let opened = move || intake.session(Protocol::Http);
        web::serve(self.listener, self.connections_max, router, opened, &stop).await;
        Ok(())
    }
}

/// What requests are answered with.
#[derive(Debug, Clone)]
struct Face {
    intake: Intake,
    stop: CancellationToken,
}

fn router(intake: Intake, stop: CancellationToken) -> Router {
    Router::new()
        .route("/readings", post(uplink))
        .route("/things/{thing}/readings", post(uplink))
        .route("/things/{thing}/events/{name}", post(uplink))
        .route("/things/{thing}/outcomes/{id}", post(uplink))
        .route("/things/{thing}/commands", get(commands::commands))
        .method_not_allowed_fallback(|request: Request| refuse(request.into_body(), problem::method()))
        .fallback(|request: Request| async {
            // A path of our shape has found its route; the rest is told what there is.
            let problem = Problem::from(crate::route::RouteError::Unknown);
            refuse(request.into_body(), problem).await
        })
        .with_state(Face { intake, stop })
}

async fn uplink(State(face): State<Face>, request: Request) -> Response {
    let intake = face.intake;
    let from = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let (head, body) = request.into_parts();
    let admitted = admit(&intake, &head.headers, from).await;
    let admitted = admitted.and_then(|ticket| Ok((ticket, route(&intake, head.uri.path())?)));
    let (ticket, route) = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => return refuse(body, problem).await,
    };
    let content_type = text(&head.headers, &header::CONTENT_TYPE);
    let key = text(&head.headers, &IDEMPOTENCY_KEY);
    let length = body::length(&head.headers);
    let judged = match Intake::judge(&ticket, &route, content_type.as_deref(), key.as_deref(), length) {
        Ok(()) if head.headers.contains_key(header::CONTENT_ENCODING) => {
            intake.count_refused(Protocol::Http, "encoding");
            Err(body::encoded())
        }
        Ok(()) => Ok(()),
        Err(refusal) => {
            intake.refused(Protocol::Http, &ticket, &refusal);
            Err(Problem::from(refusal))
        }
    };
    if let Err(problem) = judged {
        return refuse(body, problem).await;
    }
    let limit = match route {
        Route::Event(..) => crate::uplink::EVENT_MAX,
        Route::Outcome(..) => crate::downlink::ANSWER_MAX,
        Route::Readings(_) | Route::Pack => crate::uplink::PAYLOAD_MAX,
    };
    let payload = match body::read(body, limit).await {
        Ok(payload) => payload,
        Err(unread) => {
            intake.count_refused(Protocol::Http, "body");
            return problem::unread(unread).into_response();
        }
    };
    let is_pack = route == Route::Pack;
    let receipt = intake
        .accept(&Uplink {
            ticket,
            protocol: Protocol::Http,
            route,
            content_type,
            key,
            payload,
        })
        .await;
    answer(receipt, is_pack)
}

/// Who it is comes before what it wants: a stranger learns of no name whether it is one.
async fn admit(intake: &Intake, headers: &HeaderMap, from: IpAddr) -> Result<Ticket, Problem> {
    let Some((device, secret)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()))
    else {
        intake.no_credential(Protocol::Http, from);
        return Err(Problem::unauthorized(
            "say `Authorization: Bearer <device>.<secret>`",
        ));
    };
    let ticket = intake.login(Protocol::Http, device, secret.as_bytes(), from);
    Ok(ticket.await?)
}

fn route(intake: &Intake, path: &str) -> Result<Route, Problem> {
    Route::parse(path.strip_prefix('/').unwrap_or(path)).map_err(|error| {
        intake.count_refused(Protocol::Http, "name");
        Problem::from(error)
    })
}

/// A header's text. What is not UTF-8, or comes twice, is kept wrong, so that it is refused and not ignored.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?.into_owned();
    Some(values.fold(first, |all, next| all + "\u{fffd}" + &next))
}

fn answer(receipt: Receipt, is_pack: bool) -> Response {
    match receipt {
        Receipt::Accepted(ids) if is_pack => {
            (StatusCode::ACCEPTED, Json(json!({ "ids": ids }))).into_response()
        }
        Receipt::Late => Problem::new(
            StatusCode::GONE,
            "no command waits for that answer: it has ended, or there was none of that id",
        )
        .into_response(),
        Receipt::Accepted(ids) => (StatusCode::ACCEPTED, Json(json!({ "id": ids.first() }))).into_response(),
        Receipt::Refused(refusal) => Problem::from(refusal).into_response(),
        Receipt::Busy(busy) => Problem::from(busy).into_response(),
    }
}
