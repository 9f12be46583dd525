//! What a delivered message says of itself before its body is understood.
use crate::{Cause, compose, consume::Item, delivery::Raw};
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use std::time::Duration;
use telltale_nats::{Lane, Name, Subject, header, subject};
use telltale_schemas::{RawSeq, Timestamp};

/// Stands for the thing where none can be told.
pub(crate) const NO_THING: &str = "invalid";

/// Where a message came from, and where in it we are.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The subject that it was published to first; on `redo` the one that it had before.
    pub(crate) subject: String,
    /// The lane, or why the subject is none of ours.
    pub(crate) lane: Result<Lane, String>,
    pub(crate) site: Name,
    /// Its thing; [`NO_THING`] for a pack, and where the subject has none.
    pub(crate) thing: Name,
    /// When the broker stored it first.
    pub(crate) stored: Timestamp,
    /// Which raw message it is, on `raw`.
    pub(crate) rawseq: Option<RawSeq>,
    /// Names the message where it has no id that can be read.
    pub(crate) place: String,
    /// Where it stands in the stream of its lane; on `redo` it is none of that stream's.
    pub(crate) sequence: Option<u64>,
    /// From 1.
    pub(crate) attempt: u32,
    /// How often it was tried, and failed, before it came to this road.
    pub(crate) before: u32,
    /// How often it was delivered on this road.
    deliveries: u32,
    pub(crate) road: Road,
    /// On [`Road::Again`]: not to be tried before.
    retry_at: Option<Timestamp>,
    /// Which replay from the quarantine it is; 0 for none.
    pub(crate) generation: u32,
    /// The quarantine entry that was replayed.
    pub(crate) replayed: Option<String>,
    pub(crate) pack: bool,
}

/// What the durable says about the messages that come through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Through {
    /// Creation time of RAW, on its durables.
    pub(crate) epoch: Option<u64>,
    /// By which road.
    pub(crate) road: Road,
}

/// The three roads by which a message comes to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    /// A lane, which other workers may read too.
    Lane,
    /// The worker's own: what may have killed the process, and what is replayed. One at a time.
    Alone,
    /// The worker's own: what it has failed to handle and is to try again.
    Again,
}

impl Road {
    /// Whether it is the worker's own.
    pub(crate) fn is_own(self) -> bool {
        self != Self::Lane
    }
}

/// The value of a header, if it is there.
pub(crate) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    let headers = headers?;
    headers
        .get(name)
        .map(async_nats::HeaderValue::as_str)
        .or_else(|| {
            // Header names have no case; the map's do.
            headers
                .iter()
                .find(|(known, _)| AsRef::<str>::as_ref(*known).eq_ignore_ascii_case(name))
                .and_then(|(_, values)| values.first().map(async_nats::HeaderValue::as_str))
        })
}

impl Arrival {
    /// Reads subject, headers and acknowledgement subject. `site` is the worker's own, for what names none.
    pub(crate) fn of(message: &jetstream::Message, through: Through, site: &Name) -> Self {
        let headers = message.headers.as_ref();
        let info = message.info().ok();
        let stored = info
            .as_ref()
            .map_or_else(Timestamp::now, |info| Timestamp::from_offset(info.published));
        let (stream, sequence) = info
            .as_ref()
            .map_or(("", 0), |info| (info.stream, info.stream_sequence));
        let deliveries = info
            .as_ref()
            .map_or(1, |info| u32::try_from(info.delivered).unwrap_or(u32::MAX));
        let road = through.road;
        let original = |name| road.is_own().then(|| header(headers, name)).flatten();
        let before = original(header::ATTEMPTS)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let text = original(header::ORIGINAL_SUBJECT).unwrap_or(message.subject.as_str());
        let (lane, at, thing, pack) = parse(text, site);
        let rawseq = if road.is_own() {
            original(header::ORIGINAL_RAWSEQ).and_then(|text| text.parse().ok())
        } else {
            through.epoch.map(|epoch| RawSeq { epoch, seq: sequence })
        };
        Self {
            place: match (original(header::ORIGINAL_PLACE), rawseq) {
                (Some(place), _) => place.to_owned(),
                (None, Some(rawseq)) => format!("{thing}:{rawseq}"),
                // A stream that was made anew counts from 1 again.
                (None, None) => format!("{thing}:{stream}-{sequence}-{}", stored.as_micros()),
            },
            sequence: (!road.is_own() && sequence > 0).then_some(sequence),
            generation: original(header::REPLAY)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            replayed: original(header::REPLAYED).map(str::to_owned),
            stored: original(header::ORIGINAL_TIME)
                .and_then(|text| Timestamp::parse(text).ok())
                .unwrap_or(stored),
            subject: text.to_owned(),
            lane,
            site: at,
            thing,
            rawseq,
            attempt: attempt(road, before, deliveries),
            before,
            deliveries,
            road,
            retry_at: original(header::RETRY_AT).and_then(|text| Timestamp::parse(text).ok()),
            pack,
        }
    }

    /// Of a message that is not in hand any more.
    pub(crate) fn of_nobody(cause: &Cause) -> Self {
        Self {
            subject: String::new(),
            lane: Err("it is not in hand any more".to_owned()),
            site: cause.site.clone(),
            thing: cause.thing.clone(),
            stored: cause.time,
            rawseq: cause.rawseq,
            place: cause.id.clone(),
            sequence: None,
            attempt: cause.attempt,
            before: 0,
            deliveries: 1,
            road: Road::Lane,
            retry_at: None,
            generation: 0,
            replayed: None,
            pack: false,
        }
    }

    /// How long it has to be put off, if it has: every message on [`Road::Again`] once, whatever the time is, or
    /// deliveries could not be told from attempts.
    pub(crate) fn pause(&self) -> Option<Duration> {
        (self.road == Road::Again && self.deliveries <= 1).then(|| {
            let left = self
                .retry_at
                .map_or(0, |at| at.as_micros() - Timestamp::now().as_micros());
            Duration::from_micros(u64::try_from(left).unwrap_or(0))
        })
    }

    /// Whether it was delivered more often than it can have been tried: it may have killed the process.
    pub(crate) fn is_suspect(&self, attempts_max: u32) -> bool {
        let tried = match self.road {
            Road::Lane | Road::Alone => self.deliveries,
            Road::Again => self.attempt,
        };
        tried > attempts_max
    }

    /// The stages that it has passed. On `raw` it begins with who brought it: nobody before us wrote hops, and what a
    /// publisher may have written there is not believed. On a road of the worker's own its hops go along.
    pub(crate) fn hops(&self, headers: Option<&HeaderMap>) -> String {
        let given = header(headers, header::HOPS).unwrap_or_default();
        if self.lane != Ok(Lane::Raw) || (self.road.is_own() && !given.is_empty()) {
            return given.to_owned();
        }
        let received = header(headers, header::RECEIVED)
            .filter(|_| header(headers, header::SEAL).is_some())
            .and_then(|text| Timestamp::parse(text).ok());
        match received {
            Some(received) => compose::hop("bridge", 1, received, self.stored),
            None => compose::hop("nats", 1, self.stored, self.stored),
        }
    }

    /// What a delivery's cause is before its envelope is read.
    pub(crate) fn cause(&self, headers: Option<&HeaderMap>, item: &Item) -> Cause {
        let part = item.part.map(|part| format!(".{part}")).unwrap_or_default();
        Cause {
            id: format!("{}{part}", self.place),
            site: self.site.clone(),
            thing: self.thing.clone(),
            time: self.stored,
            recordedtime: None,
            relativetime: false,
            rawseq: self.rawseq,
            protocol: None,
            publisher: None,
            correlationid: None,
            causationid: None,
            traceparent: header(headers, header::TRACEPARENT)
                .filter(|text| !self.pack && telltale_schemas::id::trace_id(text).is_some())
                .map(str::to_owned),
            expirytime: None,
            source: String::new(),
            hops: item.hops.clone(),
            sequence: self.sequence,
            attempt: self.attempt,
            redo: self.road.is_own(),
        }
    }

    /// The message as [`crate::Inbound`] takes it. Headers are copied for `raw` alone: nobody else sees them.
    pub(crate) fn raw(&self, headers: Option<&HeaderMap>, payload: Bytes) -> Raw {
        Raw {
            payload,
            headers: match self.lane {
                Ok(Lane::Raw) => pairs(headers),
                _ => Vec::new(),
            },
            subject: self.subject.clone(),
            stored: self.stored,
        }
    }
}

/// All headers, a name as often as it has values.
pub(crate) fn pairs(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let Some(headers) = headers else { return Vec::new() };
    headers
        .iter()
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(move |value| (name.to_string(), value.as_str().to_owned()))
        })
        .collect()
}

/// The first delivery on [`Road::Again`] is put off and is no attempt.
fn attempt(road: Road, before: u32, deliveries: u32) -> u32 {
    let here = match road {
        Road::Lane | Road::Alone => deliveries,
        Road::Again => deliveries.saturating_sub(1),
    };
    before.saturating_add(here).max(1)
}

fn parse(text: &str, site: &Name) -> (Result<Lane, String>, Name, Name, bool) {
    let nobody = || Name::new(NO_THING).expect("a plain word is a name");
    if let Some(at) = subject::parse_pack(text) {
        return (Ok(Lane::Valid), at, nobody(), true);
    }
    match Subject::parse(text) {
        Ok(parsed) => (Ok(parsed.lane), parsed.site, parsed.thing, false),
        Err(error) => {
            let why = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            (Err(why), site.clone(), nobody(), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Name {
        Name::new("here").unwrap()
    }

    #[test]
    fn a_subject_says_lane_site_and_thing() {
        let (lane, at, thing, pack) = parse("raw.a8.urn=3At", &site());
        assert_eq!(
            (lane, at.plain(), thing.plain(), pack),
            (Ok(Lane::Raw), "a8", "urn:t", false)
        );
        let (lane, at, thing, pack) = parse("valid.a8._pack", &site());
        assert_eq!(
            (lane, at.plain(), thing.plain(), pack),
            (Ok(Lane::Valid), "a8", NO_THING, true)
        );
    }

    #[test]
    fn a_subject_that_is_none_of_ours_is_put_down_to_our_own_site() {
        for text in ["raw.x", "raw.a.b.c", "raw.a.=zz", "raw.a._b", "nonsense"] {
            let (lane, at, thing, _) = parse(text, &site());
            assert!(lane.is_err(), "{text}");
            assert_eq!((at.plain(), thing.plain()), ("here", NO_THING));
        }
    }

    #[test]
    fn attempts_go_on_where_they_were_on_the_road_before() {
        assert_eq!(attempt(Road::Lane, 0, 3), 3);
        // Failed once on its lane, put off once, then tried three times.
        let tried: Vec<_> = (2..=4).map(|n| attempt(Road::Again, 1, n)).collect();
        assert_eq!(tried, [2, 3, 4]);
        assert_eq!(attempt(Road::Alone, 4, 1), 5);
    }

    #[test]
    fn header_names_have_no_case() {
        let mut headers = HeaderMap::new();
        headers.insert("telltale-id", "t:1");
        assert_eq!(header(Some(&headers), header::ID), Some("t:1"));
        assert_eq!(header(None, header::ID), None);
    }
}
