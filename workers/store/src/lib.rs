//! Readings, events, outcomes, registrations and quarantined messages become rows of PostgreSQL.
//!
//! | module | holds |
//! |---|---|
//! | `admit` | what no row could hold, and how much goes into one transaction |
//! | `settle` | a batch as transactions; the guilty message is found and refused |
//! | `write` | one transaction, with the ledger of what became of RAW |
//! | `readings`, `messages` | its statements for readings, and for all else |
//! | `amendments` | verdicts on the quality of rows that came after their messages |
//! | `storage`, `session`, `sql` | the connection, what is known through it, prepared statements |
//! | `copy`, `stamp`, `ledger`, `trouble` | PostgreSQL's binary rows, its time, sets of sequences, its errors |
//! | `balance` | what has no fate and is not under way either |
//! | `watch` | whether the database is there, and the partitions of these days |

mod admit;
mod amendments;
mod balance;
mod copy;
mod ledger;
mod messages;
mod metrics;
mod readings;
mod session;
mod settle;
mod sql;
mod stamp;
mod storage;
mod trouble;
mod watch;
mod write;

use crate::balance::Balance;
use crate::metrics::{Gauges, Metrics};
use crate::storage::Storage;
use crate::watch::Watch;
use anyhow::Context as _;
use prometheus::Registry;
use std::sync::Arc;
use std::time::Instant;
use telltale_nats::barrier;
use telltale_runtime::prelude::*;
use tokio_postgres::Config;

telltale_runtime::lanes! {
    /// What is stored.
    pub enum Storable { Observation, Derivation, Event, Outcome, Registration, Quarantine }
}

/// Where to store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The PostgreSQL to store in, as the owner of its tables.
    #[arg(
        long,
        env = "TELLTALE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        default_value = "postgresql://telltale@127.0.0.1:5432/telltale",
        value_parser = session::config
    )]
    database_url: Config,
}

/// Stores in one database.
#[derive(Debug)]
pub struct Store {
    storage: Arc<Storage>,
    metrics: Metrics,
    watch: Option<Watch>,
    /// It runs as long as this is there.
    balance: Option<Balance>,
}

impl Store {
    /// In the database at that URL, which need not be there yet; watched and counted by nobody.
    pub fn at(database_url: &str) -> anyhow::Result<Self> {
        Self::with(session::config(database_url)?, &Registry::new())
    }

    fn with(database: Config, registry: &Registry) -> anyhow::Result<Self> {
        Ok(Self {
            storage: Arc::new(Storage::new(database)),
            metrics: Metrics::on(registry).context("register metrics")?,
            watch: None,
            balance: None,
        })
    }
}

impl BatchWorker for Store {
    const NAME: &'static str = "store";
    type Input = Storable;
    type Output = Nothing;
    type Args = Args;
    const OBSERVES: &'static [&'static str] = &barrier::STREAMS;

    /// A database that is away at start is an outage like any other.
    async fn start(args: Args, at: &Resources) -> anyhow::Result<Self> {
        let mut store = Self::with(args.database_url, at.registry())?;
        store.watch = Some(Watch::over(&store.storage, at.health()));
        let gauges = Gauges::on(at.registry()).context("register metrics")?;
        store.balance = Some(Balance::over(&store.storage, at, gauges)?);
        Ok(store)
    }

    async fn handle_batch(&self, inputs: &[Delivery<Storable>]) -> Result<Vec<Verdict<Nothing>>, Failure> {
        let begun = Instant::now();
        let settled = self.storage.settle(inputs).await;
        if let Some(watch) = &self.watch {
            watch.saw(
                settled
                    .as_ref()
                    .map_or_else(Some, |settled| settled.trouble.as_ref()),
            );
        }
        let settled = settled.or_outage()?;
        self.metrics.settled(inputs, &settled, begun.elapsed());
        if settled.held.len() == inputs.len()
            && let Some(trouble) = settled.trouble
        {
            return Err(Failure::outage(trouble));
        }
        let mut verdicts: Vec<Verdict<Nothing>> = inputs.iter().map(|_| Ok(Emit::none())).collect();
        let why = settled.trouble.map_or_else(
            || "the batch took too long, the rest follows".to_owned(),
            |it| it.to_text(),
        );
        let held = settled
            .held
            .into_iter()
            .map(|index| (index, Failure::outage(anyhow::anyhow!("{why}"))));
        for (index, failure) in settled.refused.into_iter().chain(held) {
            if let Some(verdict) = verdicts.get_mut(index) {
                *verdict = Err(failure);
            }
        }
        Ok(verdicts)
    }
}
