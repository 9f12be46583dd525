//! Where what follows from readings ends: it can be counted there, and shut.
use super::{
    tried::{bystander, cause_of},
    world::{World, eventually},
};
use crate::storage::database::Database;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use telltale_nats::{Lane, async_nats::jetstream::stream::DiscardPolicy};

/// Readings in a pack, at most.
const PACK_MAX: usize = 50;

impl World {
    /// What has followed from readings; of rows only whose they are.
    async fn effects(&self) -> Vec<Value> {
        let Some(lane) = self.tried.writes() else {
            let rows =
                "select coalesce(json_agg(json_build_object('id', message_id)), '[]')::text from readings";
            return serde_json::from_str(&self.database().text(rows).await).expect("JSON");
        };
        let messages = self.all(lane.stream(), &lane.filter()).await.into_iter();
        let envelopes = messages.flat_map(|message| match message {
            Value::Array(pack) => pack,
            one => vec![one],
        });
        envelopes.collect()
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("a database")
    }

    /// In how many messages or rows that is.
    pub(crate) async fn sunk(&self) -> usize {
        match self.tried.writes() {
            Some(lane) => self.count(lane.stream(), &lane.filter()).await,
            None => usize::try_from(self.database().count("readings").await).expect("a count"),
        }
    }

    /// Waits until something has followed from so many different readings; from more is wrong.
    pub(crate) async fn followed(&self, wanted: usize) -> Vec<Value> {
        let fewest = match self.tried.writes() {
            Some(Lane::Valid) => wanted.div_ceil(PACK_MAX),
            _ => wanted,
        };
        let what = format!("{:?}: something follows from {wanted} readings", self.tried);
        let effects = eventually(&what, || async {
            if self.sunk().await < fewest {
                return None;
            }
            let effects = self.effects().await;
            (different(&effects) >= wanted).then_some(effects)
        })
        .await;
        assert_eq!(different(&effects), wanted, "{:?}: from no other", self.tried);
        effects
    }

    /// Waits until something has followed from so many readings, from each once.
    pub(crate) async fn followed_once(&self, wanted: usize) -> Vec<Value> {
        let effects = self.followed(wanted).await;
        assert_eq!(effects.len(), wanted, "{:?}: each once", self.tried);
        effects
    }

    /// From now on nothing that follows from a reading finds room.
    pub(crate) async fn shut(&self) {
        match self.tried.writes() {
            Some(lane) => {
                self.publisher.send(bystander(lane)).await.expect("published");
                let there = self.count(lane.stream(), ">").await;
                self.limit(lane.stream(), i64::try_from(there).expect("few"))
                    .await;
            }
            None => self.read_only("set default_transaction_read_only = on").await,
        }
    }

    /// It finds room again.
    pub(crate) async fn open(&self) {
        match self.tried.writes() {
            Some(lane) => self.limit(lane.stream(), -1).await,
            None => self.read_only("reset default_transaction_read_only").await,
        }
    }

    async fn read_only(&self, change: &str) {
        let database = self.database();
        let (_, name) = database.url.rsplit_once('/').expect("a database has a name");
        database.execute(&format!("alter database {name} {change}")).await;
        database.cut_store_after(Duration::ZERO).await;
    }

    /// Sets how many messages a stream keeps; it refuses what is too much.
    async fn limit(&self, stream: &str, max_messages: i64) {
        let stream = self.context.get_stream(stream).await.expect("the stream");
        let mut config = stream.cached_info().config.clone();
        config.max_messages = max_messages;
        config.discard = DiscardPolicy::New;
        self.context.update_stream(config).await.expect("updated");
    }
}

/// From how many different readings these follow.
fn different(effects: &[Value]) -> usize {
    effects.iter().map(cause_of).collect::<BTreeSet<_>>().len()
}
