//! Many entries of the bucket `things` at once, and waiting until the workers go by them.
use super::{Error, Found, Registry, Written, change::Decision};
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use std::{collections::HashMap, time::Duration};
use telltale_nats::{
    Name,
    async_nats::{
        Client, StatusCode,
        jetstream::{self, kv},
    },
    subject,
};
use telltale_runtime::things::{BUCKET, HoldsReply, HoldsRequest};
use telltale_schemas::{kinds::Change, thing::Entry};
use tokio::time::{Instant, timeout_at};

/// The workers that go by the entries.
pub const JUDGES: [&str; 2] = ["validate", "annotate"];
/// A copy that has not answered by then does not run.
const SILENCE: Duration = Duration::from_millis(400);
/// A copy that answered has the entries by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries written at once.
const AT_ONCE: usize = 32;
/// Who writes, in the `source` of what is told.
const STAGE: &str = "telltale";

/// What came of a registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Things that are new.
    pub created: usize,
    /// Things whose entries differ from what they were.
    pub updated: usize,
    /// Things that are as they were.
    pub unchanged: usize,
    /// Things that were kept as they are, because a Thing Description says what they are.
    pub described: Vec<String>,
    /// The revision that has them all.
    pub revision: u64,
}

/// The bucket.
pub async fn bucket(js: &jetstream::Context) -> anyhow::Result<kv::Store> {
    js.get_key_value(BUCKET)
        .await
        .context("open the bucket `things`; `telltale provision` makes it")
}

/// Writes entries, and tells what changed. A thing with a Thing Description has its policy and annotation from
/// that alone: an entry without one changes nothing of it.
pub async fn put(nats: &Client, site: &Name, entries: Vec<Entry>) -> anyhow::Result<Put> {
    change(nats, site, entries, |_, wanted| wanted).await
}

/// The same, where `decide` makes the new entry out of what is there and what is wanted.
pub async fn change(
    nats: &Client,
    site: &Name,
    entries: Vec<Entry>,
    decide: impl Fn(Option<Entry>, Entry) -> Entry,
) -> anyhow::Result<Put> {
    let registry = Registry::new(nats.clone(), site.clone(), STAGE);
    let (registry, decide) = (&registry, &decide);
    stream::iter(entries)
        .map(|wanted| async move {
            let thing = wanted.thing.clone();
            let written = one(registry, wanted, decide).await;
            written
                .with_context(|| format!("register `{thing}`"))
                .map(|written| (thing, written))
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(Put::default(), |mut put, (thing, written)| {
            let Some(written) = written else {
                put.described.push(thing);
                return future::ready(Ok(put));
            };
            match written.change {
                Some(Change::Created) => put.created += 1,
                Some(_) => put.updated += 1,
                None => put.unchanged += 1,
            }
            put.revision = put.revision.max(written.found.revision);
            future::ready(Ok(put))
        })
        .await
}

/// `None` where a description says what the thing is.
async fn one(
    registry: &Registry,
    wanted: Entry,
    decide: &impl Fn(Option<Entry>, Entry) -> Entry,
) -> anyhow::Result<Option<Written>> {
    let name = Name::new(wanted.thing.as_str())?;
    let decide = |found: Option<&Found>| {
        let old = found.map(|found| found.entry.clone());
        if wanted.td.is_none() && old.as_ref().is_some_and(|old| old.td.is_some()) {
            return Err(Error::Described(wanted.thing.clone()));
        }
        let entry = decide(old, wanted.clone());
        Ok(match found {
            Some(found) if found.entry == entry => Decision::Keep(Box::new(found.clone())),
            Some(_) => Decision::Write(Box::new(entry), Some(Change::Updated)),
            None => Decision::Write(Box::new(entry), Some(Change::Created)),
        })
    };
    match registry.write(&name, None, None, decide).await {
        Ok(written) => Ok(Some(written)),
        Err(Error::Described(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until each running copy of each judge holds the revision; says how many copies of which do.
pub async fn wait_until_held(
    nats: &Client,
    site: &Name,
    revision: u64,
) -> anyhow::Result<Vec<(&'static str, usize)>> {
    let asked = JUDGES.map(|worker| held_by(nats, site, worker, revision));
    let held = future::try_join_all(asked).await?;
    Ok(JUDGES
        .into_iter()
        .zip(held)
        .filter(|(_, copies)| *copies > 0)
        .collect())
}

async fn held_by(nats: &Client, site: &Name, worker: &str, revision: u64) -> anyhow::Result<usize> {
    let inbox = nats.new_inbox();
    let mut answers = nats
        .subscribe(inbox.clone())
        .await
        .context("listen for answers")?;
    let question = serde_json::to_vec(&HoldsRequest { revision })?;
    nats.publish_with_reply(subject::api(site, worker, "holds"), inbox, question.into())
        .await
        .with_context(|| format!("ask {worker}"))?;
    let began = Instant::now();
    let mut copies: HashMap<String, u64> = HashMap::new();
    loop {
        let all_hold = copies.values().all(|held| *held >= revision);
        let until = began + if all_hold { SILENCE } else { PATIENCE };
        match timeout_at(until, answers.next()).await {
            Ok(Some(answer)) if answer.status == Some(StatusCode::NO_RESPONDERS) => return Ok(0),
            Ok(Some(answer)) => {
                if let Ok(reply) = serde_json::from_slice::<HoldsReply>(&answer.payload) {
                    let held = copies.entry(reply.instance).or_default();
                    *held = (*held).max(reply.revision);
                }
            }
            Ok(None) => bail!("the connection was closed while {worker} was asked"),
            Err(_) if all_hold => return Ok(copies.len()),
            Err(_) => {
                let behind: Vec<_> = copies.iter().filter(|(_, held)| **held < revision).collect();
                bail!("{worker} does not hold revision {revision} after 10 s: {behind:?}");
            }
        }
    }
}
