//! `telltale thing delete --erase`: everything that is known of a thing, taken out of the broker and the database.
//!
//! First nothing more may come: the credential ends, the entry goes. Then all that is under way must have arrived, so
//! that nothing is written behind our back. Then streams, rows and buckets are emptied of the thing, looked at again,
//! and only if nothing is left is it told that it is erased. That telling, and the audit of who did it, keep its name;
//! nothing else does, but what other things say of it.
mod rows;
mod streams;

pub(super) use streams::keys as keys_of;

use super::{
    super::{consent, exit::Refused, output::Output, progress::Progress, reach},
    known,
};
use crate::context::Context;
use anyhow::Context as _;
use std::{process::ExitCode, time::Duration};
use telltale_gateway::{
    auth::audit::{Audit, Entry},
    registry::Error,
};
use telltale_nats::{
    Lane, Name, Outgoing, Publisher, Subject,
    async_nats::{Client, jetstream},
    barrier::{self, Barrier},
    client, header, publish, rights,
};
use telltale_runtime::{identity::credential, things};
use telltale_schemas::{Envelope, Registration, Timestamp, id, kinds::Change};
use tokio::time::{Instant, sleep};

/// What is under way has arrived by then, or does not move.
const AT_REST: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(200);
/// Within this time the bridge has told that the device is gone, and store knows of it.
const CUT: Duration = Duration::from_secs(1);
/// How often all is emptied, where something had been on its way all the same.
const ROUNDS_MAX: usize = 3;

/// Something that was found or erased, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    place: String,
    count: u64,
}

/// Adds up what was erased in several rounds.
fn add(all: &mut Vec<Part>, more: Vec<Part>) {
    for part in more {
        match all.iter_mut().find(|known| known.place == part.place) {
            Some(known) => known.count += part.count,
            None => all.push(part),
        }
    }
}

/// Erases a thing, or tells what would be erased.
pub(super) async fn run(
    ctx: &Context,
    thing: &Name,
    dry_run: bool,
    yes: bool,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let nats = reach::nats(ctx).await?;
    let js = client::context(nats.clone());
    let mut sql = reach::sql_admin(ctx).await?;
    let mut found = streams::count(&js, thing).await?;
    found.extend(rows::count(&sql, thing).await?);
    found.extend(keys(&js, thing, false).await?);
    if dry_run || found.iter().all(|part| part.count == 0) {
        tell(&found, output)?;
        return if dry_run {
            Ok(ExitCode::SUCCESS)
        } else {
            Err(Refused::failed(format!("nothing is known of `{}`", thing.plain())).into())
        };
    }
    let rows: u64 = found.iter().map(|part| part.count).sum();
    let what = format!(
        "erase {rows} rows, messages and keys of `{}` for good",
        thing.plain()
    );
    consent::ask(yes, &what, thing.plain())?;
    let mut erased = shut(ctx, &nats, &js, thing).await?;
    for _ in 0..ROUNDS_MAX {
        settle(&js, thing).await?;
        let mut more = streams::erase(&js, thing).await?;
        more.extend(rows::erase(&mut sql, thing).await?);
        more.extend(keys(&js, thing, true).await?);
        add(&mut erased, more);
        let mut left = streams::count(&js, thing).await?;
        left.extend(rows::count(&sql, thing).await?);
        left.extend(keys(&js, thing, false).await?);
        if left.iter().all(|part| part.count == 0) {
            announce(ctx, &nats, thing).await?;
            tell(&erased, output)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    tell(&erased, output)?;
    Err(Refused::failed(format!(
        "somebody goes on sending as `{}`: what came meanwhile is not erased",
        thing.plain()
    ))
    .hint("a gateway's credential may cover it; take it off its list, and erase again")
    .into())
}

/// Nothing more can come with its own credential, and nobody goes by its entry any more.
async fn shut(
    ctx: &Context,
    nats: &Client,
    js: &jetstream::Context,
    thing: &Name,
) -> anyhow::Result<Vec<Part>> {
    let revoked = purge(js, credential::BUCKET, thing.token()).await?;
    let registry = known::registry(ctx, nats);
    let was_registered = match registry.remove(thing, Change::Deleted, None, known::BY).await {
        Ok(_) => true,
        Err(Error::Unknown(_)) => false,
        Err(error) => return Err(known::refused(error)),
    };
    // What it was before is in the history of its key.
    purge(js, things::BUCKET, thing.token()).await?;
    let part = |bucket: &str, had: bool| Part {
        place: format!("bucket {bucket}"),
        count: u64::from(had),
    };
    Ok(vec![
        part(things::BUCKET, was_registered),
        part(credential::BUCKET, revoked),
    ])
}

/// Waits until nothing of the thing is in RAW, and all that had left it has a row or an entry.
async fn settle(js: &jetstream::Context, thing: &Name) -> anyhow::Result<()> {
    let mut waiting = Progress::new("waiting for what is under way", None);
    let deadline = Instant::now() + AT_REST;
    let not_yet = |what: &str| {
        Refused::precondition(format!(
            "{what} after {} s: nothing was erased yet",
            AT_REST.as_secs()
        ))
        .hint("`telltale status` says what stands still; the thing can send no more, so erase it again later")
    };
    while streams::in_raw(js, thing).await? > 0 {
        if Instant::now() > deadline {
            return Err(not_yet("its readings wait for validate").into());
        }
        sleep(LOOK).await;
    }
    let mut barrier = Barrier::begin(js).await.context("look at what is under way")?;
    while !barrier.advance(js).await.context("look at what is under way")? {
        if Instant::now() > deadline {
            let what = barrier.waits_for().map_or_else(
                || "something is under way".to_owned(),
                |mark| format!("`{}` has not gone through {}", mark.durable, mark.stream),
            );
            return Err(not_yet(&what).into());
        }
        waiting.at(0);
        sleep(LOOK).await;
    }
    // Registrations are on no raw message's way. The bridge tells the end of a session that was cut a moment later.
    sleep(CUT).await;
    let mark = streams::last(js, Lane::Thing.stream()).await?;
    loop {
        let standing = barrier::standing(js, Lane::Thing.stream(), "store").await?;
        if standing.floor >= mark || (standing.pending == 0 && standing.in_hand == 0) {
            break;
        }
        if Instant::now() > deadline {
            return Err(not_yet("`store` has not gone through THINGS").into());
        }
        waiting.at(0);
        sleep(LOOK).await;
    }
    waiting.finish();
    Ok(())
}

/// Its keys in the buckets, counted or purged with all their history.
async fn keys(js: &jetstream::Context, thing: &Name, erase: bool) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for bucket in [things::BUCKET, credential::BUCKET, "pending", "sessions"] {
        let mut count = 0;
        for key in streams::keys(js, bucket, thing).await? {
            count += 1;
            if erase {
                purge(js, bucket, &key).await?;
            }
        }
        parts.push(Part {
            place: format!("bucket {bucket}"),
            count,
        });
    }
    Ok(parts)
}

/// Purges a key with its history; whether it had a value.
async fn purge(js: &jetstream::Context, bucket: &str, key: &str) -> anyhow::Result<bool> {
    let named = || format!("purge `{key}` from the bucket `{bucket}`");
    let store = js.get_key_value(bucket).await.with_context(named)?;
    let had = store.get(key).await.with_context(named)?.is_some();
    store.purge(key).await.with_context(named)?;
    Ok(had)
}

/// Tells everybody that it is erased, and who did it.
async fn announce(ctx: &Context, nats: &Client, thing: &Name) -> anyhow::Result<()> {
    let registration = Registration {
        change: Change::Erased,
        by: known::BY.map(str::to_owned),
        ..Registration::default()
    };
    let at = Timestamp::now();
    let id = id::of(thing.plain(), &format!("erased.{}", at.as_micros()));
    let source = format!("/{}/telltale", ctx.site.plain());
    let envelope = Envelope::new(&id, source, thing.plain(), at, registration);
    let word = Name::new(Change::Erased.word())?;
    let outgoing = Outgoing {
        subject: Subject::named(Lane::Thing, ctx.site.clone(), thing.clone(), word).to_string(),
        headers: vec![
            (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
            (header::MSG_ID, id),
        ],
        payload: serde_json::to_vec(&envelope)?.into(),
        stream: Lane::Thing.stream(),
    };
    Publisher::new(nats.clone(), publish::Options::default())
        .send(outgoing)
        .await
        .context("all is erased, but nobody was told")?;
    let audit = Audit::by(nats.clone(), ctx.site.clone(), "telltale");
    let entry = Entry {
        who: rights::OPERATOR.to_owned(),
        scope: None,
        what: "thing delete --erase".to_owned(),
        thing: Some(thing.clone()),
        status: None,
        address: None,
    };
    audit.record(&entry).await;
    Ok(())
}

fn tell(parts: &[Part], output: &Output) -> anyhow::Result<()> {
    let mut rows = output.rows(["place", "count"]);
    for part in parts {
        rows.row(vec![part.place.clone().into(), part.count.into()])?;
    }
    rows.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_rounds_erased_adds_up() {
        let part = |place: &str, count| Part {
            place: place.to_owned(),
            count,
        };
        let mut all = vec![part("stream RAW", 1)];
        add(&mut all, vec![part("stream RAW", 2), part("rows of events", 3)]);
        assert_eq!(all, [part("stream RAW", 3), part("rows of events", 3)]);
    }
}
