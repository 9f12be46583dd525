//! One connection to PostgreSQL, and what is known of the database through it.
use crate::sql::Statements;
use crate::trouble::Trouble;
use anyhow::{Context as _, bail};
use lru::LruCache;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::str::FromStr as _;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};

/// Nothing a session sends may take longer: then the database counts as away.
pub(crate) const ANSWER: Duration = Duration::from_secs(25);
/// Days whose partitions are made in one transaction; each locks some eight things.
const DAYS_AT_ONCE: usize = 50;
/// A week and a day back, as a reading may be late by default, and two days ahead.
const KEPT_READY: &str = "
select telltale.ensure_partitions((now() at time zone 'UTC')::date - 8, (now() at time zone 'UTC')::date + 2)";
/// What is said of rows that never came: of a reading that was sent twice under one id, for one.
const NEVER_TAKEN_UP: &str = "delete from store.amendments where since < now() - interval '30 days'";
/// One copy of store is enough to do it.
const OURS_TO_DO: &str = "select pg_try_advisory_xact_lock(1413827660, 3)";
const TOMORROW: &str = "
select to_regclass('store.readings_' || to_char((now() at time zone 'UTC')::date + 1, 'YYYYMMDD')) is not null";

/// Where and how to connect. A half-open connection is found within half a minute, a lock that someone else
/// holds makes an outage and no pile of waiting sessions.
pub(crate) fn config(url: &str) -> anyhow::Result<Config> {
    let mut config = Config::from_str(url).context("parse the database URL")?;
    if config.get_ssl_mode() == SslMode::Require {
        bail!("the database URL demands TLS, which this build does not speak");
    }
    let given = config.get_options().unwrap_or_default().to_owned();
    config
        .application_name("telltale-store")
        .connect_timeout(Duration::from_secs(5))
        .tcp_user_timeout(Duration::from_secs(15))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .options(format!(
            "-c statement_timeout=20s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s \
             -c timezone=UTC -c temp_buffers=64MB -c jit=off {given}"
        ));
    Ok(config)
}

/// What is known of rows is forgotten after this time: an operator may have erased a thing.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What has been committed through this session or was found there. It may forget; it knows too much only of a thing
/// that was erased, and that not for long.
#[derive(Debug)]
pub(crate) struct Known {
    since: Instant,
    pub(crate) days: HashSet<i32>,
    pub(crate) annotations: LruCache<[u8; 16], ()>,
    /// Property names by thing.
    pub(crate) series: LruCache<String, HashSet<String>>,
    pub(crate) epochs: HashSet<(String, i64)>,
}

impl Known {
    fn nothing() -> Self {
        let room = |n| NonZeroUsize::new(n).expect("not zero");
        Self {
            since: Instant::now(),
            days: HashSet::new(),
            annotations: LruCache::new(room(20_000)),
            series: LruCache::new(room(20_000)),
            epochs: HashSet::new(),
        }
    }

    /// Begins anew with what can be erased, when it is time.
    fn forget(&mut self, now: Instant) {
        if now.duration_since(self.since) >= KNOWN_FOR {
            self.annotations.clear();
            self.series.clear();
            self.since = now;
        }
    }
}

/// A connection that is ready to write.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) known: Known,
}

impl Session {
    pub(crate) async fn open(config: &Config) -> Result<Self, Trouble> {
        within(async {
            let (client, connection) = config.connect(NoTls).await?;
            // It ends with its client; what goes wrong, the client's calls report.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "database connection ended");
                }
            });
            let statements = Statements::prepare(&client).await?;
            Ok(Self {
                client,
                statements,
                known: Known::nothing(),
            })
        })
        .await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Makes the partitions that are not known to be there, in transactions of their own: their locks must not
    /// last as long as a batch does.
    pub(crate) async fn ensure_days(&mut self, days: impl Iterator<Item = i32>) -> Result<(), Trouble> {
        self.known.forget(Instant::now());
        let mut unknown: Vec<i32> = days.filter(|day| !self.known.days.contains(day)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for some in unknown.chunks(DAYS_AT_ONCE) {
            self.client.query(&self.statements.days, &[&some]).await?;
            self.known.days.extend(some.iter().copied());
        }
        Ok(())
    }

    /// Makes the partitions of these days, unless another copy is at it. Says whether tomorrow has its own.
    pub(crate) async fn keep_partitions_ready(&mut self) -> Result<bool, Trouble> {
        within(async {
            let transaction = self.client.transaction().await?;
            if transaction.query_one(OURS_TO_DO, &[]).await?.get(0) {
                transaction.execute(KEPT_READY, &[]).await?;
                transaction.execute(NEVER_TAKEN_UP, &[]).await?;
            }
            transaction.commit().await?;
            Ok(self.client.query_one(TOMORROW, &[]).await?.get(0))
        })
        .await
    }

    /// Whether it still answers, and may write.
    pub(crate) async fn probe(&self) -> Result<bool, Trouble> {
        const PROBE: &str =
            "select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'";
        within(async { Ok(self.client.query_one(PROBE, &[]).await?.get(0)) }).await
    }
}

/// With a bound on the whole, for a peer that is silent without being gone.
pub(crate) async fn within<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout(ANSWER, work)
        .await
        .unwrap_or(Err(Trouble::Silent(ANSWER.as_secs())))
}
