//! What the streams still have of a message, and who has yet to see it.
use crate::commands::seek::{self, Found, From};
use serde::Serialize;
use std::collections::BTreeSet;
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::jetstream::{self, consumer::DeliverPolicy, message::StreamMessage, stream::Stream},
    barrier, header,
    subject::REDO_STREAM,
};
use telltale_schemas::{RawSeq, Timestamp};

/// So many messages of one thing, or of a queue, are looked through.
const LOOKED_THROUGH: u64 = 5_000;
/// So long before it came nothing of it can have been in a stream: clocks of one deployment agree to a second or so.
const EARLIER_US: i64 = 5_000_000;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) raws: BTreeSet<RawSeq>,
    pub(super) things: Vec<Name>,
    pub(super) came: Option<Timestamp>,
    /// SQL has a row or an entry of it: then its other end is not looked for.
    pub(super) has_end: bool,
}

impl Wanted {
    fn is(&self, found: &Found) -> bool {
        found.text("id") == Some(&self.id)
            || found.rawseq().is_some_and(|raw| self.raws.contains(&raw))
            || (found.stream == "QUARANTINE" && found.text("causationid") == Some(&self.id))
    }
}

/// Where a message is now, and who is to see to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// The worker.
    pub stage: String,
    /// The stream that it waits in.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// Messages before it that are not acknowledged, at most.
    pub ahead: u64,
}

/// A message or document in a stream.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) found: Found,
    pub(super) rawseq: Option<RawSeq>,
    pub(super) site: Option<String>,
    pub(super) thing: Option<String>,
    /// None where its stage has come past it.
    pub(super) waits: Option<Waits>,
}

/// All that the streams have of it. VALID, which has no subject for a thing, is read where nothing else has it.
pub(super) async fn pieces(js: &jetstream::Context, wanted: &Wanted) -> anyhow::Result<Vec<Piece>> {
    let mut pieces = raw(js, wanted).await?;
    pieces.extend(redo(js, wanted).await?);
    // A device may have sent it twice, whatever became of the first.
    pieces.extend(of_thing(js, wanted, Lane::Annotated, "store").await?);
    if !wanted.has_end {
        pieces.extend(of_thing(js, wanted, Lane::Quarantine, "store").await?);
        pieces.extend(of_thing(js, wanted, Lane::Event, "store").await?);
    }
    if pieces.is_empty() && !wanted.has_end {
        pieces.extend(valid(js, wanted).await?);
    }
    Ok(pieces)
}

async fn open(js: &jetstream::Context, name: &str) -> Option<Stream> {
    let stream = js.get_stream(name).await.ok()?;
    (stream.cached_info().state.messages > 0).then_some(stream)
}

async fn raw(js: &jetstream::Context, wanted: &Wanted) -> anyhow::Result<Vec<Piece>> {
    let Some(stream) = open(js, Lane::Raw.stream()).await else {
        return Ok(Vec::new());
    };
    let epoch = barrier::raw(js).await?.epoch;
    let piece = |message: &StreamMessage| {
        let raw = RawSeq {
            epoch,
            seq: message.sequence,
        };
        let id = seek::header(&message.headers, header::ID);
        (id.as_deref() == Some(&wanted.id) || wanted.raws.contains(&raw)).then(|| {
            let mut found = seek::documents(Lane::Raw.stream(), message).swap_remove(0);
            // The bridge's part of what the runtime will write down when validate takes it.
            let received = seek::header(&message.headers, header::RECEIVED)
                .and_then(|text| Timestamp::parse(&text).ok());
            let (stage, start) = received.map_or(("nats", found.stored), |received| ("bridge", received));
            found.hops = format!("{stage};1;{};{}", start.as_micros(), found.stored.as_micros());
            Piece {
                rawseq: Some(raw),
                waits: Some(waits(&stream, "validate", message.sequence)),
                ..Piece::of(found)
            }
        })
    };
    let mut pieces = Vec::new();
    for seq in wanted
        .raws
        .iter()
        .filter(|raw| raw.epoch == epoch)
        .map(|raw| raw.seq)
    {
        pieces.extend(stream.direct_get(seq).await.ok().as_ref().and_then(piece));
    }
    for thing in wanted.things.iter().filter(|_| wanted.raws.is_empty()) {
        let mut next = 1;
        for _ in 0..LOOKED_THROUGH {
            let subject = Lane::Raw.filter_thing(thing);
            let Ok(message) = stream.direct_get_next_for_subject(subject, Some(next)).await else {
                break;
            };
            next = message.sequence + 1;
            pieces.extend(piece(&message));
        }
    }
    Ok(pieces)
}

fn waits(stream: &Stream, stage: &str, sequence: u64) -> Waits {
    let info = stream.cached_info();
    Waits {
        stage: stage.to_owned(),
        stream: info.config.name.clone(),
        sequence,
        ahead: sequence.saturating_sub(info.state.first_sequence),
    }
}

/// What is to be handled alone, tried again, or replayed.
async fn redo(js: &jetstream::Context, wanted: &Wanted) -> anyhow::Result<Vec<Piece>> {
    let Some(stream) = open(js, REDO_STREAM).await else {
        return Ok(Vec::new());
    };
    let mut pieces = Vec::new();
    let mut next = stream.cached_info().state.first_sequence;
    for _ in 0..LOOKED_THROUGH {
        let Some(message) = seek::next(&stream, next).await else {
            break;
        };
        next = message.sequence + 1;
        let header = |name| seek::header(&message.headers, name);
        let rawseq = header(header::ORIGINAL_RAWSEQ).and_then(|text| text.parse().ok());
        let is_it = header(header::ID).as_deref() == Some(&wanted.id)
            || rawseq.is_some_and(|raw| wanted.raws.contains(&raw));
        let worker = message.subject.split('.').nth(1).unwrap_or_default().to_owned();
        for found in seek::documents(REDO_STREAM, &message) {
            if !is_it && !wanted.is(&found) {
                continue;
            }
            let original = header(header::ORIGINAL_SUBJECT);
            pieces.push(Piece {
                rawseq: rawseq.or(found.rawseq()),
                waits: Some(waits(&stream, &worker, message.sequence)),
                ..Piece::at(found, original.as_deref())
            });
        }
    }
    Ok(pieces)
}

/// Documents about its thing in one lane, from when it came on.
async fn of_thing(
    js: &jetstream::Context,
    wanted: &Wanted,
    lane: Lane,
    stage: &'static str,
) -> anyhow::Result<Vec<Piece>> {
    let Some(stream) = open(js, lane.stream()).await else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if wanted.things.is_empty() {
        let raws: Vec<RawSeq> = wanted.raws.iter().copied().collect();
        found = seek::by_rawseq(&stream, &raws).await?;
    } else {
        let policy = match wanted.came {
            Some(came) => DeliverPolicy::ByStartTime {
                start_time: came.plus_micros(-EARLIER_US).to_offset(),
            },
            None => DeliverPolicy::All,
        };
        let from = From {
            policy,
            subjects: wanted
                .things
                .iter()
                .map(|thing| lane.filter_thing(thing))
                .collect(),
            limit: LOOKED_THROUGH,
        };
        seek::scan(&stream, from, |message| {
            let documents = seek::documents(lane.stream(), message).into_iter();
            found.extend(documents.filter(|found| wanted.is(found)));
            true
        })
        .await?;
    }
    with_floor(js, lane.stream(), stage, found).await
}

async fn valid(js: &jetstream::Context, wanted: &Wanted) -> anyhow::Result<Vec<Piece>> {
    let Some(stream) = open(js, Lane::Valid.stream()).await else {
        return Ok(Vec::new());
    };
    let raws: Vec<RawSeq> = wanted.raws.iter().copied().collect();
    let mut found = seek::by_rawseq(&stream, &raws).await?;
    if raws.is_empty() {
        // What annotate has yet to see, and what was packed when it came.
        let floor = barrier::standing(js, Lane::Valid.stream(), "annotate")
            .await?
            .floor;
        let mut policies = vec![DeliverPolicy::ByStartSequence {
            start_sequence: floor + 1,
        }];
        policies.extend(wanted.came.map(|came| DeliverPolicy::ByStartTime {
            start_time: came.plus_micros(-EARLIER_US).to_offset(),
        }));
        for policy in policies {
            let from = From {
                policy,
                subjects: Vec::new(),
                limit: LOOKED_THROUGH,
            };
            seek::scan(&stream, from, |message| {
                let documents = seek::documents(Lane::Valid.stream(), message).into_iter();
                found.extend(documents.filter(|found| wanted.is(found)));
                found.is_empty()
            })
            .await?;
            if !found.is_empty() {
                break;
            }
        }
    }
    with_floor(js, Lane::Valid.stream(), "annotate", found).await
}

/// Says of each whether its stage has come past it.
async fn with_floor(
    js: &jetstream::Context,
    stream: &'static str,
    stage: &'static str,
    found: Vec<Found>,
) -> anyhow::Result<Vec<Piece>> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let floor = barrier::standing(js, stream, stage).await?.floor;
    let piece = |found: Found| Piece {
        waits: (found.sequence > floor).then(|| Waits {
            stage: stage.to_owned(),
            stream: stream.to_owned(),
            sequence: found.sequence,
            ahead: found.sequence - floor - 1,
        }),
        ..Piece::of(found)
    };
    Ok(found.into_iter().map(piece).collect())
}

impl Piece {
    fn of(found: Found) -> Self {
        let subject = found.subject.clone();
        Self::at(found, Some(&subject))
    }

    fn at(found: Found, subject: Option<&str>) -> Self {
        let parsed = subject.and_then(|subject| Subject::parse(subject).ok());
        let of_document = || found.text("subject").map(str::to_owned);
        Self {
            rawseq: found.rawseq(),
            site: parsed.as_ref().map(|subject| subject.site.plain().to_owned()),
            thing: parsed
                .map(|subject| subject.thing.plain().to_owned())
                .or_else(of_document),
            waits: None,
            found,
        }
    }
}
