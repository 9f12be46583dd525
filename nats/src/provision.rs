//! Makes the broker what the files and manifests say: looks, shows what is different, and changes that.
//!
//! Nothing else creates or changes a stream or a durable; workers only bind. What would destroy something is
//! refused unless it was asked for.
mod diff;
mod outline;

use crate::{Manifest, Topology, manifest::Durable, topology::TopologyError};
use async_nats::jetstream::{
    Context, ErrorCode, consumer,
    consumer::{AckPolicy, DeliverPolicy},
    context::GetStreamErrorKind,
    stream::{self, Config},
};
pub use diff::Difference;
use futures::TryStreamExt as _;
use outline::Wanted;
pub use outline::{Action, Change, Object, Plan};
use std::collections::HashMap;
use time::OffsetDateTime;

/// In the metadata of RAW's durables: when RAW was created, in epoch seconds. A sequence of RAW is only unique
/// together with it.
pub const EPOCH: &str = "telltale-epoch";
/// The stream whose creation is the epoch.
const RAW: &str = "RAW";

/// What does not come from the files.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Servers that keep a copy of each stream: 1, or 3 in a cluster.
    pub replicas: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

/// Why the broker could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The manifests do not fit the topology, or a manifest is wrong.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A stream's state is unknown.
    #[error("cannot look at stream `{stream}`")]
    Stream {
        /// Which.
        stream: String,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::GetStreamError,
    },
    /// A stream's durables are unknown.
    #[error("cannot list the durables of `{stream}`")]
    Durables {
        /// Of which stream.
        stream: String,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::stream::ConsumersError,
    },
}

/// Why the broker was not changed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing was changed: some of it would have destroyed something.
    #[error("would destroy: {}", .0.join("; "))]
    Destructive(Vec<String>),
    /// A stream could not be created.
    #[error("cannot create `{name}`")]
    Create {
        /// Which.
        name: String,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::CreateStreamError,
    },
    /// A stream could not be changed.
    #[error("cannot change `{name}`")]
    Update {
        /// Which.
        name: String,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::UpdateStreamError,
    },
    /// A stream could not be deleted.
    #[error("cannot delete `{name}`")]
    Delete {
        /// Which.
        name: String,
        /// What the client says.
        #[source]
        source: async_nats::jetstream::context::DeleteStreamError,
    },
    /// A durable could not be created, changed or deleted.
    #[error("cannot {verb} durable `{name}` on `{stream}`")]
    Durable {
        /// `create`, `change` or `delete`.
        verb: &'static str,
        /// Which.
        name: String,
        /// On which stream.
        stream: String,
        /// What the client says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// RAW's creation is unknown.
    #[error(transparent)]
    Epoch(#[from] EpochError),
}

/// Why RAW's epoch is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot read when RAW was created")]
pub struct EpochError(#[source] async_nats::jetstream::context::GetStreamError);

/// How much was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Made.
    pub created: usize,
    /// Changed, or deleted and made again.
    pub changed: usize,
    /// Left as they were.
    pub kept: usize,
}

/// Looks at the broker and says what is to be done. Changes nothing.
pub async fn plan(
    js: &Context,
    topology: &Topology,
    manifests: &[Manifest],
    options: &Options,
) -> Result<Plan, PlanError> {
    topology.check(manifests)?;
    let mut plan = Plan {
        changes: Vec::new(),
        strangers: Vec::new(),
    };
    let mut found = Vec::new();
    let streams = topology
        .streams
        .iter()
        .map(|one| (Object::Stream(one.name.clone()), one.config()));
    let buckets = topology
        .buckets
        .iter()
        .map(|one| (Object::Bucket(one.name.clone()), one.config()));
    for (object, config) in streams.chain(buckets) {
        let wanted = Config {
            num_replicas: options.replicas,
            ..config
        };
        let info = look(js, &wanted.name).await?;
        let action = match &info {
            None => Action::Create,
            Some(info) => changed(diff::streams(
                &info.config,
                &info.state,
                &wanted,
                OffsetDateTime::now_utc(),
            )),
        };
        plan.changes.push(Change {
            object,
            action,
            wanted: Wanted::Stream(Box::new(wanted)),
        });
        found.extend(info);
    }
    let epoch = found.iter().find(|info| info.config.name == RAW).map(created);
    let mut there = HashMap::new();
    for name in topology.streams.iter().map(|stream| stream.name.as_str()) {
        if found.iter().any(|info| info.config.name == name) {
            there.extend(list(js, name).await?);
        }
    }
    for durable in manifests.iter().flat_map(Manifest::durables) {
        let key = (durable.stream.to_owned(), durable.name.clone());
        let action = match there.remove(&key) {
            None => Action::Create,
            Some(found) => changed(diff::durables(
                &found,
                &consumer::IntoConsumerConfig::into_consumer_config(config(&durable, epoch)),
            )),
        };
        plan.changes.push(Change {
            object: object(&durable),
            action,
            wanted: Wanted::Durable(durable),
        });
    }
    plan.strangers.extend(
        there
            .into_keys()
            .map(|(stream, name)| Object::Durable { name, stream }),
    );
    Ok(plan)
}

fn changed(differences: Vec<Difference>) -> Action {
    if differences.is_empty() {
        Action::Keep
    } else {
        Action::Change(differences)
    }
}

/// Does what the plan says. Refuses, before anything is changed, what destroys, unless `destroy`.
pub async fn apply(js: &Context, plan: &Plan, destroy: bool) -> Result<Applied, ApplyError> {
    let destroys = plan.destroys();
    if !destroy && !destroys.is_empty() {
        return Err(ApplyError::Destructive(destroys));
    }
    let mut applied = Applied::default();
    // A stream that is made again takes its durables with it.
    let mut emptied = Vec::new();
    for change in &plan.changes {
        let emptied_under = matches!(&change.wanted, Wanted::Durable(durable) if emptied.contains(&durable.stream.to_owned()));
        match (&change.action, emptied_under) {
            (Action::Keep, false) => {
                applied.kept += 1;
                continue;
            }
            (Action::Create, _) => applied.created += 1,
            (Action::Change(_), _) | (Action::Keep, true) => applied.changed += 1,
        }
        match &change.wanted {
            Wanted::Stream(config) => {
                apply_stream(js, config, change).await?;
                if change.recreates() {
                    emptied.push(config.name.clone());
                }
            }
            Wanted::Durable(durable) => apply_durable(js, durable, change, emptied_under).await?,
        }
    }
    Ok(applied)
}

async fn apply_stream(js: &Context, wanted: &Config, change: &Change) -> Result<(), ApplyError> {
    let name = || wanted.name.clone();
    if change.recreates() {
        js.delete_stream(&wanted.name)
            .await
            .map_err(|source| ApplyError::Delete { name: name(), source })?;
    }
    if change.action == Action::Create || change.recreates() {
        js.create_stream(wanted)
            .await
            .map_err(|source| ApplyError::Create { name: name(), source })?;
    } else {
        js.update_stream(wanted)
            .await
            .map_err(|source| ApplyError::Update { name: name(), source })?;
    }
    Ok(())
}

async fn apply_durable(
    js: &Context,
    durable: &Durable,
    change: &Change,
    emptied: bool,
) -> Result<(), ApplyError> {
    let epoch = match durable.stream {
        RAW => Some(epoch(js).await?),
        _ => None,
    };
    let failed = |verb, source| ApplyError::Durable {
        verb,
        name: durable.name.clone(),
        stream: durable.stream.to_owned(),
        source,
    };
    if change.recreates() && !emptied {
        js.delete_consumer_from_stream(&durable.name, durable.stream)
            .await
            .map_err(|source| failed("delete", source.into()))?;
    }
    let wanted = config(durable, epoch);
    if change.action == Action::Create || change.recreates() || emptied {
        // Strict: whoever made one of this name meanwhile, with other settings, is not overwritten.
        js.create_consumer_strict_on_stream(wanted, durable.stream)
            .await
            .map_err(|source| failed("create", source.into()))?;
    } else {
        js.update_consumer_on_stream(wanted, durable.stream)
            .await
            .map_err(|source| failed("change", source.into()))?;
    }
    Ok(())
}

fn config(durable: &Durable, epoch: Option<u64>) -> consumer::pull::Config {
    let (filter_subject, filter_subjects) = match durable.filters.as_slice() {
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    let epoch = epoch.filter(|_| durable.stream == RAW);
    consumer::pull::Config {
        durable_name: Some(durable.name.clone()),
        name: Some(durable.name.clone()),
        filter_subject,
        filter_subjects,
        ack_policy: AckPolicy::Explicit,
        deliver_policy: DeliverPolicy::All,
        ack_wait: durable.ack_wait,
        max_ack_pending: durable.max_ack_pending.into(),
        // The runtime counts attempts; the broker giving up would strand the message.
        max_deliver: -1,
        metadata: epoch
            .map(|epoch| (EPOCH.to_owned(), epoch.to_string()))
            .into_iter()
            .collect(),
        ..consumer::pull::Config::default()
    }
}

fn object(durable: &Durable) -> Object {
    Object::Durable {
        name: durable.name.clone(),
        stream: durable.stream.to_owned(),
    }
}

async fn look(js: &Context, name: &str) -> Result<Option<stream::Info>, PlanError> {
    match js.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(source) => match source.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(PlanError::Stream {
                stream: name.to_owned(),
                source,
            }),
        },
    }
}

/// The durables of a stream. Those of the broker's own sourcing, and what lives only as long as its reader, are
/// nobody's business here.
async fn list(js: &Context, stream: &str) -> Result<Vec<((String, String), consumer::Config)>, PlanError> {
    let failed = |source| PlanError::Durables {
        stream: stream.to_owned(),
        source,
    };
    let found = js.get_stream(stream).await.map_err(|source| PlanError::Stream {
        stream: stream.to_owned(),
        source,
    })?;
    let infos: Vec<consumer::Info> = found.consumers().try_collect().await.map_err(failed)?;
    let durables = infos
        .into_iter()
        .filter(|info| info.config.durable_name.is_some());
    Ok(durables
        .filter(|info| !info.name.starts_with("JS_SRC_"))
        .map(|info| ((stream.to_owned(), info.name), info.config))
        .collect())
}

/// RAW's creation time in epoch seconds.
pub async fn epoch(js: &Context) -> Result<u64, EpochError> {
    let raw = js.get_stream(RAW).await.map_err(EpochError)?;
    Ok(created(raw.cached_info()))
}

fn created(info: &stream::Info) -> u64 {
    u64::try_from(info.created.unix_timestamp()).unwrap_or_default()
}

/// The epoch that a durable on RAW carries in its metadata.
pub fn epoch_of(info: &consumer::Info) -> Option<u64> {
    info.config.metadata.get(EPOCH)?.parse().ok()
}
