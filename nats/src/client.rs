//! A connection as one of our identities.
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, jetstream};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::{debug, info, warn};

/// How long one connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A link that swallows everything is noticed after about two of these.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Longest pause between two attempts to reconnect: a restarted broker is found within a second.
const RECONNECT_DELAY_MAX_MS: u64 = 1_000;

/// Who connects, and where to.
#[derive(Clone)]
pub struct Access {
    /// `nats://host:port`, several separated by commas.
    pub url: String,
    /// NKEY seed; none for a server without authorisation.
    pub seed: Option<String>,
    /// The name of the connection; the inbox prefix is `_INBOX_<user>`.
    pub user: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be parsed.
    #[error("`{url}` is no address of a NATS server")]
    Url {
        /// What was given.
        url: String,
        /// What the client says.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server is there, and does not let this user in.
    #[error("the NATS server at `{url}` does not admit `{user}`")]
    Refused {
        /// The server's address.
        url: String,
        /// Who asked.
        user: String,
        /// What the client says.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Nothing answers; worth another try.
    #[error("no NATS server answers at `{url}`")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the client says.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// Why a seed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file cannot be read.
    #[error("cannot read the NKEY seed from `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is no user's seed. The text itself is not shown.
    #[error("`{path}` holds no NKEY seed of a user")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Connected, or again.
    Connected,
    /// Lost; the client goes on trying.
    Disconnected,
    /// The server refused a subject: the identity lacks a right that the program believes it has.
    Denied(String),
    /// Closed for good.
    Closed,
}

/// Connects. One attempt: the caller decides whether to try again. A connection that was made and lost
/// reconnects by itself, for ever.
pub async fn connect(access: &Access) -> Result<Client, ConnectError> {
    connect_with(access, |_| {}).await
}

/// [`connect`], and `notify` learns what becomes of the connection. It must not block.
pub async fn connect_with(
    access: &Access,
    notify: impl Fn(Notice) + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let notify = Arc::new(notify);
    // The client reports each failed attempt to reconnect; one line for an outage is enough.
    let away = Arc::new(AtomicBool::new(false));
    let mut options = ConnectOptions::new()
        .name(&access.user)
        .custom_inbox_prefix(inbox_prefix(&access.user))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| {
            let shift = u32::try_from(attempts.min(10)).unwrap_or(10);
            Duration::from_millis((1 << shift).min(RECONNECT_DELAY_MAX_MS))
        })
        .event_callback(move |event| {
            if let Some(notice) = note(&event, &away) {
                notify(notice);
            }
            std::future::ready(())
        });
    if let Some(seed) = &access.seed {
        options = options.nkey(seed.clone());
    }
    let urls: Vec<&str> = access.url.split(',').map(str::trim).collect();
    options.connect(urls.as_slice()).await.map_err(|source| {
        let url = access.url.clone();
        match source.kind() {
            ConnectErrorKind::ServerParse => ConnectError::Url { url, source },
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Refused {
                    url,
                    user: access.user.clone(),
                    source,
                }
            }
            _ => ConnectError::Unreachable { url, source },
        }
    })
}

fn note(event: &Event, away: &AtomicBool) -> Option<Notice> {
    match event {
        Event::Connected => {
            away.store(false, Ordering::Relaxed);
            info!("connected to NATS");
            Some(Notice::Connected)
        }
        Event::Disconnected => {
            if !away.swap(true, Ordering::Relaxed) {
                warn!("lost the connection to NATS, reconnecting");
            }
            Some(Notice::Disconnected)
        }
        Event::Closed => Some(Notice::Closed),
        Event::ServerError(async_nats::ServerError::Other(text)) if text.contains("ermissions") => {
            warn!("NATS refuses: {text}");
            Some(Notice::Denied(text.clone()))
        }
        Event::SlowConsumer(subscription) => {
            warn!(
                subscription,
                "messages of a subscription were dropped, it is read too slowly"
            );
            None
        }
        other => {
            debug!("NATS: {other}");
            None
        }
    }
}

/// The inbox prefix of a user: it may subscribe to nothing else by itself.
pub fn inbox_prefix(user: &str) -> String {
    format!("_INBOX_{user}")
}

/// Reads an NKEY seed from a file that holds nothing else.
pub fn read_seed(path: impl AsRef<Path>) -> Result<String, SeedError> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|source| SeedError::Read {
        path: path.to_owned(),
        source,
    })?;
    let seed = text.trim();
    match nkeys::KeyPair::from_seed(seed) {
        Ok(pair) if pair.key_pair_type() == nkeys::KeyPairType::User => Ok(seed.to_owned()),
        _ => Err(SeedError::Malformed {
            path: path.to_owned(),
        }),
    }
}

/// JetStream over a connection, with our time-outs.
pub fn context(client: Client) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT)
        .ack_timeout(REQUEST_TIMEOUT)
        .build(client)
}

/// What one message may take, headers included, by this connection's server.
pub fn max_payload(client: &Client) -> usize {
    client.max_payload()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_shows_no_seed() {
        let access = Access {
            url: "nats://127.0.0.1:4222".into(),
            seed: Some("SUSECRET".into()),
            user: "store".into(),
        };
        assert!(!format!("{access:?}").contains("SECRET"));
    }
}
