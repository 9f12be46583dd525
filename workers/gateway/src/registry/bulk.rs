//! Writes entries of the bucket `things`, and waits until the workers go by them.
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use std::{collections::HashMap, time::Duration};
use telltale_nats::{
    Lane, Name, Outgoing, Publisher, Subject,
    async_nats::{
        Client, StatusCode,
        jetstream::{self, kv},
    },
    client, header, publish, subject,
};
use telltale_runtime::things::{BUCKET, HoldsReply, HoldsRequest};
use telltale_schemas::{Envelope, Registration, Timestamp, kinds::Change, thing::Entry};
use tokio::time::{Instant, timeout_at};

/// The workers that go by the entries.
pub const JUDGES: [&str; 2] = ["validate", "annotate"];
/// A copy that has not answered by then does not run.
const SILENCE: Duration = Duration::from_millis(400);
/// A copy that answered has the entries by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries written at once.
const AT_ONCE: usize = 32;
/// Attempts to write one entry while others write it too.
const CONTESTS_MAX: usize = 5;

/// What came of a registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Put {
    /// Things that are new.
    pub created: usize,
    /// Things whose entries differ from what they were.
    pub updated: usize,
    /// Things that are as they were.
    pub unchanged: usize,
    /// The revision that has them all.
    pub revision: u64,
}

/// The bucket.
pub async fn bucket(js: &jetstream::Context) -> anyhow::Result<kv::Store> {
    js.get_key_value(BUCKET)
        .await
        .context("open the bucket `things`; `telltale provision` makes it")
}

/// Writes entries, and publishes what changed.
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
    let store = bucket(&client::context(nats.clone())).await?;
    let options = publish::Options {
        window: AT_ONCE,
        ack_timeout: Duration::from_secs(5),
        atomic_min: 0,
    };
    let publisher = Publisher::new(nats.clone(), options);
    let (store, publisher, decide) = (&store, &publisher, &decide);
    stream::iter(entries)
        .map(|entry| async move {
            let thing = entry.thing.clone();
            let named = || format!("register `{thing}`");
            let written = write(store, entry, decide).await.with_context(named)?;
            if let Some(change) = written.change {
                announce(publisher, site, change, &written)
                    .await
                    .with_context(named)?;
            }
            Ok::<_, anyhow::Error>(written)
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(Put::default(), |mut put, written| {
            match written.change {
                Some(Change::Created) => put.created += 1,
                Some(_) => put.updated += 1,
                None => put.unchanged += 1,
            }
            put.revision = put.revision.max(written.revision);
            future::ready(Ok(put))
        })
        .await
}

struct Written {
    entry: Entry,
    revision: u64,
    change: Option<Change>,
}

async fn write(
    store: &kv::Store,
    wanted: Entry,
    decide: impl Fn(Option<Entry>, Entry) -> Entry,
) -> anyhow::Result<Written> {
    let name = Name::new(wanted.thing.as_str())?;
    for _ in 0..CONTESTS_MAX {
        let found = store.entry(name.token()).await?;
        let there = found
            .as_ref()
            .filter(|found| found.operation == kv::Operation::Put);
        // An entry that cannot be read is of no use to anyone: it is replaced.
        let old: Option<Entry> = there.and_then(|found| serde_json::from_slice(&found.value).ok());
        let entry = decide(old.clone(), wanted.clone());
        if let (Some(found), true) = (there, old.as_ref() == Some(&entry)) {
            return Ok(Written {
                entry,
                revision: found.revision,
                change: None,
            });
        }
        let change = if there.is_some() {
            Change::Updated
        } else {
            Change::Created
        };
        let value = serde_json::to_vec(&entry)?.into();
        // Only over what was looked at: another writer's entry is not lost unseen.
        let revision = found.as_ref().map_or(0, |found| found.revision);
        match store.update(name.token(), value, revision).await {
            Ok(revision) => {
                return Ok(Written {
                    entry,
                    revision,
                    change: Some(change),
                });
            }
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("others keep changing it");
}

async fn announce(
    publisher: &Publisher,
    site: &Name,
    change: Change,
    written: &Written,
) -> anyhow::Result<()> {
    let thing = Name::new(written.entry.thing.as_str())?;
    let registration = Registration {
        change,
        revision: written.revision,
        entry: Some(Box::new(written.entry.clone())),
        ..Registration::default()
    };
    let envelope = Envelope::new(
        format!("{}:things.{}", thing.plain(), written.revision),
        format!("/{}/telltale", site.plain()),
        thing.plain(),
        Timestamp::now(),
        registration,
    );
    let outgoing = Outgoing {
        subject: Subject::named(Lane::Thing, site.clone(), thing, Name::new(change.word())?).to_string(),
        headers: vec![
            (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
            (header::MSG_ID, envelope.id.clone()),
        ],
        payload: serde_json::to_vec(&envelope)?.into(),
        stream: Lane::Thing.stream(),
    };
    publisher
        .send(outgoing)
        .await
        .context("the entry is kept, but nobody was told: put it again")?;
    Ok(())
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
