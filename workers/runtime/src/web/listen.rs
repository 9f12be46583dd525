//! Accepting connections, no more than there is room for.
use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// How long open connections may take to finish when the process stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of file descriptors, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener with a number of places.
#[derive(Debug)]
pub struct Accept {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Accept {
    /// With that number of places.
    pub fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(connections_max)),
        }
    }

    /// The next connection and its place; none once stopped. Whoever finds no place waits in the kernel's queue.
    pub async fn next(
        &mut self,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            place = self.places.clone().acquire_owned() => place.expect("never closed"),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, from)| stream.set_nodelay(true).map(|()| (stream, from))) {
                Ok((stream, from)) => return Some((stream, from.ip(), place)),
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Waits for the connections that are left, but not for ever.
pub async fn finish(tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        warn!("{} connections did not finish in time", tasks.len());
    }
}

/// Binds where clients connect. Secrets would cross the network in the clear, so beyond this machine only on
/// request.
pub async fn bind(address: SocketAddr, is_insecure: bool) -> anyhow::Result<TcpListener> {
    use anyhow::Context as _;
    if !address.ip().is_loopback() && !is_insecure {
        anyhow::bail!(
            "{address} is reachable from other machines, and there is no TLS here: put a TLS proxy before \
             it, or say --insecure"
        );
    }
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_others_reach_must_be_asked_for() {
        let everywhere = "0.0.0.0:0".parse().unwrap();
        assert!(
            bind(everywhere, false)
                .await
                .unwrap_err()
                .to_string()
                .contains("--insecure")
        );
        assert!(bind(everywhere, true).await.is_ok());
        assert!(bind("127.0.0.1:0".parse().unwrap(), false).await.is_ok());
    }
}
