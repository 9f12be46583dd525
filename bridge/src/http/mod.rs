//! HTTP/1.1: `POST /things/{thing}/readings`, `POST /things/{thing}/events/{name}` and `POST /readings`.
//!
//! `Authorization: Bearer <device>.<secret>`. 202 with the id only after the broker's confirmation; every refusal
//! is a problem (RFC 9457). The accept loop is ours because `axum::serve` waits for headers for ever.
mod problem;

use crate::{
    Adapter,
    credential::parse_token,
    intake::Intake,
    keyring::Ticket,
    listen,
    metrics::Protocol,
    route::Route,
    uplink::{Receipt, Refusal, Uplink},
};
use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use problem::Problem;
use serde_json::json;
use std::{net::IpAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

/// A request line and its headers must arrive within this time; an idle connection is closed after it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a refused body is read, so that the client sees the answer and not a broken connection.
const REFUSED_BODY_MAX: usize = 1024 * 1024;
/// And for how long.
const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory for the head of a request.
const HEAD_MAX: usize = 32 * 1024;
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
        let router = router(intake.clone()).merge(self.face);
        let tasks = TaskTracker::new();
        let mut accept = listen::Accept::new(self.listener, self.connections_max);
        while let Some((stream, from, place)) = accept.next(&stop).await {
            let (router, stop, session) = (router.clone(), stop.clone(), intake.session(Protocol::Http));
            tasks.spawn(async move {
                if let Err(error) = connection(stream, from, router, &stop).await {
                    debug!(%from, "HTTP connection: {error}");
                }
                drop((place, session));
            });
        }
        listen::finish(&tasks).await;
        Ok(())
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

async fn connection(
    stream: TcpStream,
    from: IpAddr,
    router: Router,
    stop: &CancellationToken,
) -> Result<(), hyper::Error> {
    let service = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(from));
        service.call(request)
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        served = &mut connection => return served,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn router(intake: Intake) -> Router {
    Router::new()
        .route("/readings", post(uplink))
        .route("/things/{thing}/readings", post(uplink))
        .route("/things/{thing}/events/{name}", post(uplink))
        .method_not_allowed_fallback(|request: Request| refuse(request.into_body(), Problem::Method))
        .fallback(|request: Request| async {
            // A path of our shape has found its route; the rest is told what there is.
            let problem = Problem::Nowhere(crate::route::RouteError::Unknown);
            refuse(request.into_body(), problem).await
        })
        .with_state(intake)
}

async fn uplink(State(intake): State<Intake>, request: Request) -> Response {
    let from = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let (head, body) = request.into_parts();
    let (ticket, route) = match admit(&intake, head.uri.path(), &head.headers, from).await {
        Ok(admitted) => admitted,
        Err(problem) => return refuse(body, problem).await,
    };
    let content_type = text(&head.headers, &header::CONTENT_TYPE);
    let key = text(&head.headers, &IDEMPOTENCY_KEY);
    let length = body_length(&head.headers);
    let judged = match Intake::judge(&ticket, &route, content_type.as_deref(), key.as_deref(), length) {
        Ok(()) if head.headers.contains_key(header::CONTENT_ENCODING) => {
            intake.count_refused(Protocol::Http, "encoding");
            Err(Problem::Encoded)
        }
        Ok(()) => Ok(()),
        Err(refusal) => {
            intake.count_refused(Protocol::Http, refusal.word());
            Err(Problem::Refused(refusal))
        }
    };
    if let Err(problem) = judged {
        return refuse(body, problem).await;
    }
    let limit = match route {
        Route::Event(..) => crate::uplink::EVENT_MAX,
        Route::Readings(_) | Route::Pack => crate::uplink::PAYLOAD_MAX,
    };
    let payload = match read(body, limit).await {
        Ok(payload) => payload,
        Err(problem) => {
            intake.count_refused(Protocol::Http, "body");
            return problem.into_response();
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
async fn admit(
    intake: &Intake,
    path: &str,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<(Ticket, Route), Problem> {
    let Some((device, secret)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()))
    else {
        intake.count_refused(Protocol::Http, "credential");
        return Err(Problem::Unauthorized(
            "say `Authorization: Bearer <device>.<secret>`",
        ));
    };
    let ticket = intake
        .login(Protocol::Http, device, secret.as_bytes(), from)
        .await?;
    let route = Route::parse(path.strip_prefix('/').unwrap_or(path)).map_err(|error| {
        intake.count_refused(Protocol::Http, "name");
        Problem::Nowhere(error)
    })?;
    Ok((ticket, route))
}

fn bearer(value: &[u8]) -> Option<(&str, &str)> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| parse_token(token.trim()))?
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

/// What `Content-Length` announces; hyper has refused what is no number.
fn body_length(headers: &HeaderMap) -> usize {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::Refused(Refusal::TooLarge(limit))),
        Ok(Err(_)) => Err(Problem::Body(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(Problem::Body(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

/// Refuses, after the body that is still on its way: closing on a client that writes would cost it the answer.
async fn refuse(body: Body, problem: Problem) -> Response {
    let rest = Limited::new(body, REFUSED_BODY_MAX);
    let mut rest = std::pin::pin!(rest);
    let drained = async { while let Some(Ok(_)) = rest.frame().await {} };
    if tokio::time::timeout(REFUSED_BODY_TIMEOUT, drained).await.is_err() {
        debug!("a refused body did not end");
    }
    problem.into_response()
}

fn answer(receipt: Receipt, is_pack: bool) -> Response {
    match receipt {
        Receipt::Accepted(ids) if is_pack => {
            (StatusCode::ACCEPTED, Json(json!({ "ids": ids }))).into_response()
        }
        Receipt::Accepted(ids) => (StatusCode::ACCEPTED, Json(json!({ "id": ids.first() }))).into_response(),
        Receipt::Refused(refusal) => Problem::Refused(refusal).into_response(),
        Receipt::Busy(busy) => Problem::from(busy).into_response(),
    }
}
