//! Whether things are heard of: one is `online` when it speaks, and `stale` when it has said nothing for three of its
//! intervals.
//!
//! Only of things that say how often they speak: `interval` of their policy, which is `telltale:interval` of their
//! description. What is heard are the site's observations as they pass; that a session begins or ends is the bridge's
//! to say. Several gateways say the same under the same ids.
mod heard;

use crate::App;
use anyhow::Context as _;
use futures::{StreamExt as _, stream::FuturesUnordered};
use heard::{Heard, News};
use serde::Deserialize;
use std::{convert::Infallible, time::Duration};
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::{
        HeaderMap, HeaderValue, Message,
        jetstream::{
            consumer::{DeliverPolicy, pull},
            kv,
        },
    },
    header,
};
use telltale_runtime::things::BUCKET;
use telltale_schemas::{Registration, kinds::Change};
use tokio::time::{Instant, MissedTickBehavior};

/// Between two looks who is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before all is begun again after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// Told at once; readings wait meanwhile.
const TELLING_MAX: usize = 64;
/// What is said of a device.
const SAID: [Change; 3] = [Change::Online, Change::Stale, Change::Offline];

/// Until stopped.
pub(crate) async fn run(app: &App) {
    loop {
        tokio::select! {
            () = app.stop().cancelled() => return,
            followed = follow(app) => match followed {
                Ok(never) => match never {},
                Err(why) => tracing::warn!("who is heard of is found out anew: {why:#}"),
            },
        }
        tokio::select! {
            () = app.stop().cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn follow(app: &App) -> anyhow::Result<Infallible> {
    let lane = Lane::Annotated.filter_at(app.site());
    let mut readings = app.nats().subscribe(lane).await.context("listen to readings")?;
    let mut heard = Heard::default();
    let mut entries = entries(app, &mut heard).await?;
    let mut changes = changes(app, &mut heard).await?;
    let mut telling = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(told) = telling.next(), if !telling.is_empty() => {
                if let Err(news) = told {
                    heard.untold(&news);
                }
            }
            entry = entries.next() => expect(&mut heard, &entry.context("the watch of things ended")??),
            change = changes.next() => {
                let change = change.context("the stream of changes ended")??;
                said(&mut heard, &change);
            }
            reading = readings.next(), if telling.len() < TELLING_MAX => {
                let reading = reading.context("the connection was closed")?;
                telling.extend(speaks(&mut heard, &reading).map(|news| tell(app, news)));
            }
            _ = look.tick() => {
                let overdue = heard.overdue(Instant::now());
                telling.extend(overdue.into_iter().map(|news| tell(app, news)));
            }
        }
    }
}

/// Reads what is expected of all things; what follows are changes.
async fn entries(app: &App, heard: &mut Heard) -> anyhow::Result<kv::Watch> {
    let bucket = app.registry().jetstream().get_key_value(BUCKET).await?;
    let mut entries = bucket.watch_with_history(">").await?;
    let mut left = bucket.stream.cached_info().state.messages;
    while left > 0 {
        let entry = entries.next().await.context("the watch of things ended")??;
        expect(heard, &entry);
        left = entry.delta;
    }
    Ok(entries)
}

/// What of an entry says how often its thing speaks.
#[derive(Default, Deserialize)]
struct Outline {
    #[serde(default)]
    policy: Rhythm,
}

#[derive(Default, Deserialize)]
struct Rhythm {
    interval: Option<f64>,
}

fn expect(heard: &mut Heard, entry: &kv::Entry) {
    let Ok(thing) = Name::from_token(&entry.key) else {
        return;
    };
    let outline: Outline = match entry.operation {
        kv::Operation::Put => serde_json::from_slice(&entry.value).unwrap_or_default(),
        kv::Operation::Delete | kv::Operation::Purge => Outline::default(),
    };
    let interval = outline
        .policy
        .interval
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    heard.expect(thing, interval, entry.revision, Instant::now());
}

/// Reads what was said last of all things; what follows is said now.
async fn changes(app: &App, heard: &mut Heard) -> anyhow::Result<pull::Ordered> {
    let mut filter_subjects = Vec::new();
    for change in SAID {
        filter_subjects.push(Lane::Thing.filter_named(app.site(), &Name::new(change.word())?));
    }
    let stream = app
        .registry()
        .jetstream()
        .get_stream(Lane::Thing.stream())
        .await?;
    let consumer = stream
        .create_consumer(pull::OrderedConfig {
            // In the subject of the request, as with the feed.
            name: Some(format!("gateway_{:016x}", rand::random::<u64>())),
            filter_subjects,
            deliver_policy: DeliverPolicy::LastPerSubject,
            headers_only: true,
            ..pull::OrderedConfig::default()
        })
        .await?;
    let mut left = consumer.cached_info().num_pending;
    let mut changes = consumer.messages().await?;
    while left > 0 {
        let change = changes.next().await.context("the stream of changes ended")??;
        said(heard, &change);
        left = change.info().map_err(|error| anyhow::anyhow!("{error}"))?.pending;
    }
    Ok(changes)
}

fn said(heard: &mut Heard, message: &Message) {
    let Ok(subject) = Subject::parse(&message.subject) else {
        return;
    };
    let word = subject.name.as_ref().map(Name::plain);
    let change = SAID.into_iter().find(|change| Some(change.word()) == word);
    if let Some(change) = change {
        let id = message_id(message.headers.as_ref()).unwrap_or_default();
        heard.said(&subject.thing, change, id, Instant::now());
    }
}

fn speaks(heard: &mut Heard, reading: &Message) -> Option<News> {
    let subject = Subject::parse(&reading.subject).ok()?;
    let id = message_id(reading.headers.as_ref())?;
    // `<id>@<rawseq>`, or the id.
    let id = id.rsplit_once('@').map_or(id, |(id, _)| id);
    heard.heard(&subject.thing, id, Instant::now())
}

fn message_id(headers: Option<&HeaderMap>) -> Option<&str> {
    headers?.get(header::MSG_ID).map(HeaderValue::as_str)
}

/// Gives it back where it could not be told.
async fn tell(app: &App, news: News) -> Result<(), News> {
    let change = news.change;
    let registration = Registration {
        change,
        revision: news.revision,
        detail: [("interval".to_owned(), news.interval.as_secs_f64().into())]
            .into_iter()
            .collect(),
        ..Registration::default()
    };
    let id = format!("{}.gateway.{}", news.cause, change.word());
    let told = app
        .registry()
        .tell(&news.thing, id, Some(&news.cause), registration)
        .await;
    told.map_err(|error| {
        tracing::warn!(thing = %news.thing, "that it is {} could not be told: {error}", change.word());
        news
    })
}
