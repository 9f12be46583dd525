//! Follows the bucket `rules`, and tells what is wrong in it.
use super::{Change, Engine, Refused};
use crate::derive::Derive;
use anyhow::Context as _;
use futures::StreamExt as _;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telltale_nats::{
    async_nats::{Client, jetstream::kv},
    client,
};
use telltale_schemas::rule::BUCKET;
use tokio::task::JoinSet;

/// Before the bucket is read anew after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// The bucket has so long to be read whole at the start.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Documents by key.
type Documents = BTreeMap<String, Vec<u8>>;

/// The bucket as it stands. The task that follows it ends with this.
#[derive(Debug)]
pub struct Watch {
    /// What the bucket has, where that is news.
    news: Arc<Mutex<Option<Documents>>>,
    metrics: Metrics,
    _task: JoinSet<()>,
}

/// What operators see of rules.
#[derive(Debug, Clone)]
pub struct Metrics {
    refused: IntGauge,
    active: IntGauge,
    failed: IntCounterVec,
    stopped: IntCounterVec,
    late: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn on(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["rule"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            active: gauge("telltale_process_rules", "Rules in force")?,
            refused: gauge(
                "telltale_process_rules_refused",
                "Documents in the bucket `rules` that are wrong, and not in force",
            )?,
            failed: counter(
                "telltale_process_rule_errors_total",
                "How often an expression of the rule had no value though the reading had what it asks for",
            )?,
            stopped: counter(
                "telltale_process_rule_stopped_total",
                "How often nothing followed from the rule because what caused it had been through process 8 times",
            )?,
            late: counter(
                "telltale_process_late_total",
                "Values that came after the windows of the rule that they belong to had been told",
            )?,
        })
    }

    /// Takes over what was counted.
    pub fn count(&self, engine: &mut Engine, derive: &mut Derive) {
        let (rules, derived) = (engine.take_tally(), derive.take_tally());
        for (rule, (count, why)) in rules.failed.iter().chain(&derived.failed) {
            self.failed.with_label_values(&[rule.as_str()]).inc_by(*count);
            tracing::debug!(rule, "no value, {count} times; the last one: {why}");
        }
        for (rule, count) in rules.stopped.iter().chain(&derived.stopped) {
            self.stopped.with_label_values(&[rule.as_str()]).inc_by(*count);
        }
        for (rule, count) in &derived.late {
            self.late.with_label_values(&[rule.as_str()]).inc_by(*count);
        }
    }

    /// Tells what is not in force, and why.
    fn tell(&self, engine: &Engine, refused: &[Refused]) {
        self.active
            .set(i64::try_from(engine.rules().count()).unwrap_or(i64::MAX));
        self.refused.set(i64::try_from(refused.len()).unwrap_or(i64::MAX));
        for document in refused {
            for wrong in &document.wrong {
                tracing::error!(
                    rule = document.name,
                    pointer = wrong.pointer,
                    "a rule in the bucket `{BUCKET}` is wrong and not in force: {}",
                    wrong.message
                );
            }
        }
    }
}

impl Watch {
    /// Reads the bucket, and follows it from then on.
    pub async fn open(client: &Client, registry: &Registry) -> anyhow::Result<Self> {
        let metrics = Metrics::on(registry).context("register metrics of rules")?;
        let news = Arc::default();
        let jetstream = client::context(client.clone());
        let store = jetstream
            .get_key_value(BUCKET)
            .await
            .with_context(|| format!("open bucket `{BUCKET}`; `telltale provision` makes it"))?;
        let (documents, changes) = tokio::time::timeout(READ_WITHIN, whole(&store))
            .await
            .with_context(|| format!("bucket `{BUCKET}` is silent"))??;
        publish(&news, documents.clone());
        let mut task = JoinSet::new();
        let shared = Arc::clone(&news);
        task.spawn(async move {
            let (mut documents, mut changes) = (documents, changes);
            loop {
                let why = follow(&mut changes, &mut documents, &shared).await;
                tracing::warn!(bucket = BUCKET, "the watch is begun again: {why:#}");
                (documents, changes) = loop {
                    tokio::time::sleep(AGAIN).await;
                    let store = jetstream.get_key_value(BUCKET).await;
                    let read = match store {
                        Ok(store) => whole(&store).await,
                        Err(error) => Err(error.into()),
                    };
                    match read {
                        Ok(read) => break read,
                        Err(error) => tracing::warn!(bucket = BUCKET, "no watch yet: {error:#}"),
                    }
                };
                publish(&shared, documents.clone());
            }
        });
        Ok(Self {
            news,
            metrics,
            _task: task,
        })
    }

    /// Between readings: puts what the bucket has into force. What changed comes back, of every kind of rule.
    pub fn refresh(&self, engine: &mut Engine, derive: &mut Derive) -> Vec<Change> {
        self.metrics.count(engine, derive);
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(documents) = news else {
            return Vec::new();
        };
        let (changes, refused) = engine.refresh(&documents);
        self.metrics.tell(engine, &refused);
        changes
    }
}

fn publish(news: &Mutex<Option<Documents>>, documents: Documents) {
    *news.lock().unwrap_or_else(PoisonError::into_inner) = Some(documents);
}

/// Everything that is in the bucket, and what changes after that.
async fn whole(store: &kv::Store) -> anyhow::Result<(Documents, kv::Watch)> {
    let mut documents = Documents::new();
    let mut changes = store.watch_with_history(">").await.context("watch it")?;
    // As of before the watch: what is put meanwhile comes as a change.
    if store.stream.cached_info().state.messages == 0 {
        return Ok((documents, changes));
    }
    while let Some(entry) = changes.next().await {
        let entry = entry.context("read it")?;
        let is_last = entry.delta == 0;
        enter(&mut documents, entry);
        if is_last {
            return Ok((documents, changes));
        }
    }
    anyhow::bail!("it ended")
}

fn enter(documents: &mut Documents, entry: kv::Entry) {
    match entry.operation {
        kv::Operation::Put => drop(documents.insert(entry.key, entry.value.to_vec())),
        kv::Operation::Delete | kv::Operation::Purge => drop(documents.remove(&entry.key)),
    }
}

/// Returns why it could not go on.
async fn follow(
    changes: &mut kv::Watch,
    documents: &mut Documents,
    news: &Mutex<Option<Documents>>,
) -> anyhow::Error {
    loop {
        match changes.next().await {
            Some(Ok(entry)) => {
                enter(documents, entry);
                publish(news, documents.clone());
            }
            Some(Err(error)) => return error.into(),
            None => return anyhow::anyhow!("it ended"),
        }
    }
}
