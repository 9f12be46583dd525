//! The balance, exported: of all that RAW has accepted, how much has no fate, and is not under way either.
//!
//! Every few seconds the broker is asked how far its durables are, and nothing else; no message is read. Once a
//! barrier has been passed, what had left RAW when it was begun is settled; that is written down, and what has no
//! fate below it is missing. Blocks of the ledger in which nothing is missing are not read again.
use crate::metrics::Gauges;
use crate::session::{Session, within};
use crate::storage::Storage;
use crate::trouble::Trouble;
use prometheus::IntGaugeVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use telltale_nats::barrier::{self, Barrier, JetStream, LookError, Raw};
use telltale_nats::{Name, client};
use telltale_runtime::Resources;
use telltale_schemas::Timestamp;
use tokio::task::AbortHandle;

const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Fates are counted, and the quarantine too, with every so many looks.
const COUNT_EVERY: u32 = 10;
/// Sequences in one row of the ledger.
const BLOCK: i64 = 65_536;

const SEEN: &str = "
insert into store.epochs as e (site, epoch, last, settled, checked)
values ($1, $2, $3, $4, case when $5 then now() end)
on conflict (site, epoch) do update
set last = greatest(e.last, excluded.last), settled = greatest(e.settled, excluded.settled),
    checked = coalesce(excluded.checked, e.checked)";
/// What earlier lives of RAW had accepted is behind a barrier too.
const EARLIER: &str = "
update store.epochs as e set settled = p.last, last = p.last, checked = now()
from public.epochs as p
where p.site = e.site and p.epoch = e.epoch and e.site = $1 and e.epoch < $2 and e.settled < p.last";
const LIVES: &str = "select epoch, settled from store.epochs where site = $1";
const GAPS: &str = "
select telltale.cardinality(m), coalesce(lower(m), 0)
from telltale.missing($1, $2, $3, $4) as m";
const FATES: &str = "
select b.fate, sum(b.messages)::bigint
from store.epochs as e, telltale.balance(e.site, e.epoch) as b
where e.site = $1 group by b.fate";
const OPEN: &str = "select count(*) from public.quarantine where state = 'open' and site = $1";

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Balance(AbortHandle);

impl Drop for Balance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Balance {
    pub(crate) fn over(storage: &Arc<Storage>, at: &Resources, gauges: Gauges) -> anyhow::Result<Self> {
        let keeper = Keeper {
            js: client::context(at.client()?.clone()),
            storage: Arc::clone(storage),
            site: at.site().clone(),
            gauges,
            barrier: None,
            lives: BTreeMap::new(),
        };
        Ok(Self(tokio::spawn(keeper.keep()).abort_handle()))
    }
}

/// What is known of one life of RAW.
#[derive(Debug, Default, Clone, Copy)]
struct Life {
    /// Below this nothing is missing.
    since: i64,
}

/// What one look at the ledger found.
#[derive(Debug, Default)]
struct Found {
    missing: i64,
    in_flight: i64,
    counts: Option<(BTreeMap<String, i64>, i64)>,
}

struct Keeper {
    js: JetStream,
    storage: Arc<Storage>,
    site: Name,
    gauges: Gauges,
    barrier: Option<Barrier>,
    lives: BTreeMap<i64, Life>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut looks = 0_u32;
        let mut was_blind = false;
        loop {
            let seen = self.look(looks.is_multiple_of(COUNT_EVERY)).await;
            match &seen {
                Err(why) if !was_blind => tracing::warn!("the balance cannot be told now: {why}"),
                Ok(()) if was_blind => tracing::info!("the balance is told again"),
                _ => {}
            }
            was_blind = seen.is_err();
            looks = looks.wrapping_add(1);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self, count: bool) -> Result<(), String> {
        let told = |error: LookError| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        for (stream, durable) in barrier::STAGES {
            let standing = barrier::standing(&self.js, stream, durable).await.map_err(told)?;
            let set = |gauge: &IntGaugeVec, value: u64| {
                gauge
                    .with_label_values(&[stream, durable])
                    .set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.gauges.waiting, standing.pending + standing.in_hand);
            set(&self.gauges.floor, standing.floor);
        }
        let mut barrier = match self.barrier.take() {
            Some(barrier) => barrier,
            None => Barrier::begin(&self.js).await.map_err(told)?,
        };
        let passed = barrier.advance(&self.js).await.map_err(told)?;
        let raw = barrier.raw();
        if !passed {
            self.barrier = Some(barrier);
        }
        let now = barrier::raw(&self.js).await.map_err(told)?;
        let passed = Some(raw).filter(|raw| passed && raw.epoch == now.epoch);
        let lives = &mut self.lives;
        let found = self
            .storage
            .balance(self.site.plain(), now, passed, count, lives)
            .await;
        self.show(found.map_err(|trouble| trouble.to_text())?, passed.is_some());
        Ok(())
    }

    fn show(&self, found: Found, passed: bool) {
        let site = [self.site.plain()];
        self.gauges.missing.with_label_values(&site).set(found.missing);
        self.gauges
            .in_flight
            .with_label_values(&site)
            .set(found.in_flight);
        if passed {
            let now = Timestamp::now().as_micros() / 1_000_000;
            self.gauges.settled.with_label_values(&site).set(now);
        }
        if let Some((fates, open)) = found.counts {
            for (fate, messages) in fates {
                let labels = [self.site.plain(), fate.as_str()];
                self.gauges.messages.with_label_values(&labels).set(messages);
            }
            self.gauges.open.with_label_values(&site).set(open);
        }
    }
}

impl Storage {
    /// Writes down how far RAW is, and looks what has no fate.
    async fn balance(
        &self,
        site: &str,
        now: Raw,
        passed: Option<Raw>,
        count: bool,
        lives: &mut BTreeMap<i64, Life>,
    ) -> Result<Found, Trouble> {
        self.with(async |session| within(look(session, site, now, passed, count, lives)).await)
            .await
    }
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

async fn look(
    session: &mut Session,
    site: &str,
    now: Raw,
    passed: Option<Raw>,
    count: bool,
    lives: &mut BTreeMap<i64, Life>,
) -> Result<Found, Trouble> {
    let epoch = signed(now.epoch);
    let left = passed.map_or(0, |raw| signed(raw.left));
    let client = &session.client;
    client
        .execute(
            SEEN,
            &[&site, &epoch, &signed(now.last), &left, &passed.is_some()],
        )
        .await?;
    if passed.is_some() {
        client.execute(EARLIER, &[&site, &epoch]).await?;
    }
    let mut found = Found::default();
    let known = client.query(LIVES, &[&site]).await?;
    for row in &known {
        let (life, settled): (i64, i64) = (row.get(0), row.get(1));
        let at = lives.entry(life).or_default();
        let gaps = client
            .query_one(GAPS, &[&site, &life, &settled, &at.since.max(1)])
            .await?;
        let (missing, first): (i64, i64) = (gaps.get(0), gaps.get(1));
        at.since = if missing == 0 { settled + 1 } else { first } / BLOCK * BLOCK;
        found.missing += missing;
        if life == epoch {
            let gaps = client
                .query_one(GAPS, &[&site, &life, &signed(now.last), &(settled + 1)])
                .await?;
            found.in_flight = gaps.get(0);
        }
    }
    if count {
        let fates = client.query(FATES, &[&site]).await?;
        let fates = fates.iter().map(|row| (row.get(0), row.get(1))).collect();
        let open = client.query_one(OPEN, &[&site]).await?.get(0);
        found.counts = Some((fates, open));
    }
    Ok(found)
}
