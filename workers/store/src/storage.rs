//! The database as the worker sees it: there, or away.
use crate::Storable;
use crate::session::Session;
use crate::settle::{Settled, settle};
use crate::trouble::Trouble;
use telltale_runtime::Delivery;
use tokio::sync::Mutex;
use tokio_postgres::Config;

/// One connection, made anew whenever it failed.
#[derive(Debug)]
pub(crate) struct Storage {
    config: Config,
    /// Empty while away, and while a batch has it: a batch that is given up takes its connection with it, and
    /// PostgreSQL rolls back.
    session: Mutex<Option<Session>>,
}

impl Storage {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            session: Mutex::new(None),
        }
    }

    /// Fails where there is no connection to begin with.
    pub(crate) async fn settle(&self, inputs: &[Delivery<Storable>]) -> Result<Settled, Trouble> {
        let mut slot = self.session.lock().await;
        let mut session = self.take(&mut slot).await?;
        let settled = settle(&mut session, inputs).await;
        // After trouble a new connection tells more than the old one: a standby, for one, stays one.
        if settled.trouble.is_none() {
            *slot = Some(session);
        }
        Ok(settled)
    }

    /// Makes the partitions of these days; says whether tomorrow has one.
    pub(crate) async fn keep_partitions_ready(&self) -> Result<bool, Trouble> {
        self.with(async |session| session.keep_partitions_ready().await)
            .await
    }

    /// Does something else with the session, between batches.
    pub(crate) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut slot = self.session.lock().await;
        let mut session = self.take(&mut slot).await?;
        let done = work(&mut session).await?;
        *slot = Some(session);
        Ok(done)
    }

    /// Whether the database answers and may be written to. Does not wait for a batch: one that is being written
    /// is answer enough.
    pub(crate) async fn probe(&self) -> Result<bool, Trouble> {
        let Ok(mut slot) = self.session.try_lock() else {
            return Ok(true);
        };
        let session = self.take(&mut slot).await?;
        let writable = session.probe().await?;
        // A server that has become a standby will not become another through this connection.
        if writable {
            *slot = Some(session);
        }
        Ok(writable)
    }

    async fn take(&self, slot: &mut Option<Session>) -> Result<Session, Trouble> {
        match slot.take() {
            Some(session) if !session.is_closed() => Ok(session),
            _ => Session::open(&self.config).await,
        }
    }
}
