//! HTTP/1.1 towards strangers: an accept loop with time-outs, bodies with limits, refusals as problems (RFC 9457).
//!
//! The accept loop is ours because `axum::serve` waits for ever: for headers, and for a client that does not read.
//!
//! | module | holds |
//! |---|---|
//! | [`listen`] | accepting connections, no more than there is room for |
//! | [`body`] | reading a body, and refusing one so that the answer arrives |
//! | [`problem`] | refusals as problem details |
//! | [`door`] | who may be meant by a request: `Host` and `Origin` |
//! | `taken` | giving up whoever does not read |
//! | [`extract`] | axum's extractors, with problems for what they refuse |
pub mod body;
pub mod door;
pub mod extract;
pub mod listen;
pub mod problem;
mod taken;

pub use extract::{Path, Query, Whole};
pub use problem::Problem;

use axum::Router;
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::IpAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// A request line and its headers must arrive within this time; an idle connection is closed after it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for the head of a request.
const HEAD_MAX: usize = 32 * 1024;

/// Who is at the other end: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Serves until stopped, then lets what is under way finish, for ten seconds at most.
///
/// `opened` is called for each connection; what it returns is dropped when the connection ends.
pub async fn serve<G: Send + 'static>(
    listener: TcpListener,
    connections_max: usize,
    router: Router,
    opened: impl Fn() -> G,
    stop: &CancellationToken,
) {
    let tasks = TaskTracker::new();
    let mut accept = listen::Accept::new(listener, connections_max);
    while let Some((stream, from, place)) = accept.next(stop).await {
        let (router, stop, guard) = (router.clone(), stop.clone(), opened());
        tasks.spawn(async move {
            if let Err(error) = connection(stream, from, router, &stop).await {
                debug!(%from, "HTTP connection: {error}");
            }
            drop((place, guard));
        });
    }
    listen::finish(&tasks).await;
}

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
            .serve_connection(TokioIo::new(taken::Taken::new(stream)), service)
    );
    tokio::select! {
        served = &mut connection => return served,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
