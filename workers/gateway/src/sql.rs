//! PostgreSQL, as two roles that may only read: one for our own questions, one for those of strangers.
//!
//! | module | holds |
//! |---|---|
//! | [`frames`] | a wire on which no message is too long |
//! | [`session`] | a connection that can be ended at any moment |
//! | [`pour`] | rows of a statement as the body of an answer |
//! | [`media`] | the formats of answers |
//! | [`trouble`] | why there is no answer |
mod frames;
pub(crate) mod media;
pub(crate) mod pour;
mod session;
mod trouble;

pub(crate) use session::{ROW_MAX, Session};
pub(crate) use trouble::{Trouble, place};

use session::Access;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telltale_runtime::duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long anybody waits for a place.
const WAIT: Duration = Duration::from_secs(2);

/// Where the data is, and what one question may cost.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SqlArgs {
    /// The PostgreSQL to read history from, as `telltale_reader`
    #[arg(
        long,
        env = "TELLTALE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        default_value = "postgresql://telltale_reader@127.0.0.1:5432/telltale"
    )]
    database_url: String,
    /// The PostgreSQL that `POST /query` asks, as `telltale_query`
    #[arg(
        long,
        env = "TELLTALE_QUERY_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        default_value = "postgresql://telltale_query@127.0.0.1:5432/telltale"
    )]
    query_database_url: String,
    /// Questions about history at once; more wait for 2 s
    #[arg(long, env = "TELLTALE_HISTORY_CONNECTIONS", value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..))]
    history_connections: u16,
    /// Queries at once; more wait for 2 s
    #[arg(long, env = "TELLTALE_QUERY_CONNECTIONS", value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..))]
    query_connections: u16,
    /// A query or a question about history may take so long, until the last byte of its answer is sent
    #[arg(long, env = "TELLTALE_QUERY_TIME", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    query_time: Duration,
    /// Most rows of a query's answer
    #[arg(
        long,
        env = "TELLTALE_QUERY_ROWS",
        value_name = "N",
        default_value_t = 100_000
    )]
    query_rows: u64,
    /// Most bytes of a query's answer
    #[arg(long, env = "TELLTALE_QUERY_BYTES", value_name = "N", default_value_t = 64 << 20)]
    query_bytes: u64,
}

/// What one query may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Both ways in.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) history: Pool,
    pub(crate) query: Pool,
    pub(crate) limits: Limits,
}

impl Pools {
    /// Nothing is connected before somebody asks.
    pub(crate) fn new(args: &SqlArgs) -> anyhow::Result<Self> {
        let idle = Some(Arc::default());
        Ok(Self {
            history: Pool::new(
                &args.database_url,
                args.query_time,
                args.history_connections,
                idle,
            )?,
            query: Pool::new(
                &args.query_database_url,
                args.query_time,
                args.query_connections,
                None,
            )?,
            limits: Limits {
                time: args.query_time,
                rows: args.query_rows,
                bytes: args.query_bytes,
            },
        })
    }
}

type Idle = Option<Arc<Mutex<Vec<Session>>>>;

/// So many places, each with a session of its own while it is taken.
#[derive(Debug)]
pub(crate) struct Pool {
    access: Access,
    places: Arc<Semaphore>,
    /// Sessions that may be used again. Without it each question has a session of its own, in which nothing of
    /// another's can be left.
    idle: Idle,
}

impl Pool {
    fn new(url: &str, time: Duration, connections: u16, idle: Idle) -> anyhow::Result<Self> {
        Ok(Self {
            access: Access::parse(url, time)?,
            places: Arc::new(Semaphore::new(connections.into())),
            idle,
        })
    }

    /// A place, and a session in it.
    pub(crate) async fn lease(&self) -> Result<Lease, Trouble> {
        let place = tokio::time::timeout(WAIT, self.places.clone().acquire_owned()).await;
        let place = place
            .map_err(|_| Trouble::Crowded)?
            .expect("the places are never closed");
        let known = self.idle.as_ref().and_then(|idle| {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| idle.pop()).find(|session| !session.client.is_closed())
        });
        let session = match known {
            Some(session) => session,
            None => self.access.open().await?,
        };
        Ok(Lease {
            session,
            idle: self.idle.clone(),
            place,
        })
    }
}

/// A taken place. Dropped, its session is closed at once, and the place is free.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) session: Session,
    idle: Idle,
    place: OwnedSemaphorePermit,
}

impl Lease {
    /// Gives it back; nothing is under way in the session.
    pub(crate) async fn give_back(self) {
        match self.idle {
            Some(idle) => idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.session),
            None => self.session.close().await,
        }
        drop(self.place);
    }

    /// Gives the place back, and stops whatever is under way in the session.
    pub(crate) async fn cut(self) {
        self.session.end().await;
        drop(self.place);
    }
}
