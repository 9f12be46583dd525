//! Whether the process can do its work, and its HTTP face: `/livez`, `/readyz`, `/metrics`.
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::Registry;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections served at once; probes and a scraper need a handful.
const CONNECTIONS_MAX: usize = 32;
/// A request line and its headers must arrive within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The checks that make up readiness. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Health {
    /// A check of that name, unready until told otherwise.
    pub fn check(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        let check = Check {
            health: self.clone(),
            name,
        };
        check.set(Some("starting".into()));
        check
    }

    /// Whether all checks are ready.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// Each check with the reason why it is not ready, in alphabetical order.
    pub fn list(&self) -> Vec<(String, Option<String>)> {
        self.lock()
            .iter()
            .map(|(name, why)| (name.clone(), why.clone()))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that has to be well for the process to do its work.
#[derive(Debug, Clone)]
pub struct Check {
    health: Health,
    name: String,
}

impl Check {
    /// It is well.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// It is not, and why: a short text without secrets.
    pub fn set_unready(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, why: Option<String>) {
        self.health.lock().insert(self.name.clone(), why);
    }
}

#[derive(Clone)]
struct Face {
    health: Health,
    registry: Registry,
}

/// `/livez`, `/readyz` and `/metrics`, for a process that shows them beside its own routes too.
pub fn router(health: Health, registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Face { health, registry })
}

/// Serves until `stop`. The listener is bound by the caller, who reports what fails.
pub(crate) async fn serve(
    listener: TcpListener,
    health: Health,
    registry: Registry,
    stop: CancellationToken,
) {
    let router = router(health, registry);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: a moment later there may be one.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tasks.spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!("health connection: {error}");
            }
            drop(place);
        });
    }
}

/// Binds the address of the health server.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn readyz(State(face): State<Face>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let list = face.health.list();
    let ready = list.iter().all(|(_, why)| why.is_none());
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    let mut text = String::new();
    for (name, why) in list.iter().filter(|(_, why)| verbose || why.is_some()) {
        let written = match why {
            None => writeln!(text, "[+]{name} ok"),
            Some(why) => writeln!(text, "[-]{name}: {why}"),
        };
        written.expect("a String takes what is written");
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text)
}

async fn metrics(State(face): State<Face>) -> impl IntoResponse {
    let text = prometheus::TextEncoder::new().encode_to_string(&face.registry.gather());
    match text {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_check_is() {
        let health = Health::default();
        assert!(health.is_ready());
        let (nats, sql) = (health.check("nats"), health.check("postgres"));
        assert!(!health.is_ready());
        nats.set_ready();
        sql.set_ready();
        assert!(health.is_ready());
        sql.set_unready("connection refused");
        assert_eq!(
            health.list(),
            [
                ("nats".into(), None),
                ("postgres".into(), Some("connection refused".into()))
            ]
        );
    }
}
