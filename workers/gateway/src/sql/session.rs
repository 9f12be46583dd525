//! One session with PostgreSQL, which can be ended at any moment from our side.
use super::{Trouble, frames::Frames};
use anyhow::bail;
use std::{
    io,
    path::PathBuf,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{CancelToken, Client, Config, NoTls, config::Host, config::SslMode};

/// Longest message that PostgreSQL may send, so the longest row.
pub(crate) const ROW_MAX: usize = 1 << 20;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long asking the server to cancel may take.
const CANCEL: Duration = Duration::from_secs(2);

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where a server listens.
#[derive(Debug, Clone)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Place {
    async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let connected = timeout(CONNECT, async {
            Ok::<Box<dyn Wire>, io::Error>(match self {
                Self::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        });
        connected.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// How to get in.
#[derive(Debug, Clone)]
pub(super) struct Access {
    config: Config,
    places: Vec<Place>,
}

impl Access {
    /// From a URL that may hold a password. No statement may take longer than `time`, and a session whose client is
    /// gone is noticed while it computes.
    pub(super) fn parse(url: &str, time: Duration) -> anyhow::Result<Self> {
        // Never with the text: it may be nearly right, and hold a password.
        let Ok(mut config) = Config::from_str(url) else {
            bail!(
                "the database URL cannot be read: it looks like postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            );
        };
        if config.get_ssl_mode() == SslMode::Require {
            bail!("the database URL demands TLS, which this build does not speak");
        }
        let ports = config.get_ports().to_vec();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let places: Vec<Place> = config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(at, host)| match host {
                Host::Tcp(name) => Place::Tcp(name.clone(), port(at)),
                Host::Unix(folder) => Place::Unix(folder.join(format!(".s.PGSQL.{}", port(at)))),
            })
            .collect();
        if places.is_empty() {
            bail!("the database URL names no host");
        }
        let given = config.get_options().unwrap_or_default().to_owned();
        config.application_name("telltale-gateway").options(format!(
            "{given} -c statement_timeout={} -c lock_timeout=2s -c idle_in_transaction_session_timeout=60s \
             -c default_transaction_read_only=on -c timezone=UTC -c standard_conforming_strings=on \
             -c client_connection_check_interval=1s",
            time.as_millis().max(1)
        ));
        Ok(Self { config, places })
    }

    pub(super) async fn open(&self) -> Result<Session, Trouble> {
        let mut last = Trouble::Away("no host".to_owned());
        for place in &self.places {
            match self.open_at(place).await {
                Ok(session) => return Ok(session),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    async fn open_at(&self, place: &Place) -> Result<Session, Trouble> {
        let away = |error: &dyn std::fmt::Display| Trouble::Away(error.to_string());
        let wire = place.connect().await.map_err(|error| away(&error))?;
        let long = Arc::new(AtomicBool::new(false));
        let wire = Frames::new(wire, ROW_MAX, long.clone());
        let (client, connection) = match timeout(CONNECT, self.config.connect_raw(wire, NoTls)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(away(&error)),
            Err(late) => return Err(away(&late)),
        };
        let driver = tokio::spawn(async move {
            // It ends with its client; what goes wrong, the client's calls report.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        Ok(Session {
            token: client.cancel_token(),
            client,
            driver: Driver(driver),
            place: place.clone(),
            long,
        })
    }
}

/// The task that drives a connection. Dropped, it closes the connection at once, whatever is still to come.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An open session.
pub(crate) struct Session {
    pub(crate) client: Client,
    driver: Driver,
    token: CancelToken,
    place: Place,
    long: Arc<AtomicBool>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// What an error of its client means.
    pub(crate) fn blame(&self, error: tokio_postgres::Error) -> Trouble {
        if self.long.load(Ordering::Relaxed) {
            Trouble::LongRow
        } else {
            Trouble::from(error)
        }
    }

    /// Ends it in order; nothing may be under way.
    pub(super) async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        // A server that does not listen any more is left alone.
        let _gone = timeout(CANCEL, &mut driver.0).await;
    }

    /// Ends it in the middle of whatever it does: the connection is closed, and a server that is still computing is
    /// told to stop.
    pub(super) async fn end(self) {
        let Self {
            client,
            driver,
            token,
            place,
            ..
        } = self;
        drop((driver, client));
        let cancelled = timeout(CANCEL, async {
            let wire = place.connect().await?;
            token
                .cancel_query_raw(wire, NoTls)
                .await
                .map_err(io::Error::other)
        });
        if !matches!(cancelled.await, Ok(Ok(()))) {
            tracing::debug!("a statement could not be cancelled; it ends by its own time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "postgresql://u:s3cret@h:port/d",
            "postgresql://u:s3cret@h/d?sslmode=require",
            "user=u password=s3cret",
        ] {
            let error = Access::parse(url, CONNECT).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let access = Access::parse("postgresql://u:p@h:1/d", Duration::from_secs(3)).unwrap();
        assert!(
            access
                .config
                .get_options()
                .unwrap()
                .contains("statement_timeout=3000")
        );
    }
}
