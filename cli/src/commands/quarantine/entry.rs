//! An entry as it is given back: the message that its stage refused, for that stage alone.
use serde_json::Value;
use telltale_nats::{Lane, Name, Outgoing, Subject, header, subject};
use telltale_schemas::{RawSeq, Timestamp, id};
use time::OffsetDateTime;
use tokio_postgres::Row;

/// An open entry whose replay is begun.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) stage: String,
    pub(super) generation: i32,
    /// Where it stands in QUARANTINE.
    pub(super) sequence: Option<i64>,
    pub(super) rawseq: Option<RawSeq>,
    /// When its replay began; the same when that was cut off.
    pub(super) begun: OffsetDateTime,
    /// Whether an earlier replay was cut off.
    pub(super) again: bool,
    time: Timestamp,
    subject: String,
    headers: Vec<(String, String)>,
    payload: Vec<u8>,
    hops: Option<String>,
}

/// The columns that [`Entry::of`] reads, of `store.quarantine as q`; `$2` is the moment that a replay begins at.
pub(super) const BEGIN: &str = "
    with old as (
        select id, replay_begun from store.quarantine where id = any($1) and state = 'open' order by id for update
    )
    update store.quarantine as q set replay_begun = coalesce(old.replay_begun, $2) from old where q.id = old.id
    returning q.id, q.stage, q.generation, q.sequence, q.epoch, q.seq, q.replay_begun,
        old.replay_begun is not null as again, q.time, q.subject, q.hops,
        coalesce(q.edited_headers, q.headers) as headers, coalesce(q.edited, q.payload) as payload,
        coalesce(q.received, q.time) as at";

/// `[[name, value], …]`
pub(super) fn pairs(headers: &Value) -> Vec<(String, String)> {
    let pair = |header: &Value| Some((header[0].as_str()?.to_owned(), header[1].as_str()?.to_owned()));
    headers
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(pair)
        .collect()
}

/// The RAW sequence of a row.
pub(super) fn rawseq(row: &Row) -> Option<RawSeq> {
    let (epoch, seq): (Option<i64>, Option<i64>) = (row.get("epoch"), row.get("seq"));
    Some(RawSeq {
        epoch: epoch?.try_into().ok()?,
        seq: seq?.try_into().ok()?,
    })
}

/// What may stand in a header.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

impl Entry {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            id: row.get("id"),
            stage: row.get("stage"),
            generation: row.get("generation"),
            sequence: row.get("sequence"),
            rawseq: rawseq(row),
            begun: row.get("replay_begun"),
            again: row.get("again"),
            time: Timestamp::from_offset(row.get("time")),
            subject: row.get("subject"),
            headers: pairs(&row.get("headers")),
            payload: row.get("payload"),
            hops: row.get("hops"),
        }
    }

    /// The message for its stage, under the same id, however often this replay is tried.
    pub(super) fn outgoing(&self, stage: &Name) -> Outgoing {
        let lane = Subject::parse(&self.subject).map(|subject| subject.lane);
        let mut headers: Vec<(&'static str, String)> = header::KEPT_ON_REDO
            .into_iter()
            .filter(|name| *name != header::HOPS)
            .filter_map(|name| Some((name, self.header(name)?.to_owned())))
            .collect();
        for (name, value) in &mut headers {
            // One reading of a pack, by itself.
            if *name == header::CONTENT_TYPE && value == header::CLOUDEVENT_BATCH && lane == Ok(Lane::Valid) {
                header::CLOUDEVENT.clone_into(value);
            }
        }
        let generation = self.generation.saturating_add(1).to_string();
        // What the entry went through, without the store that it ended in.
        let hops = self.hops.as_deref().and_then(|hops| hops.rsplit_once(','));
        let refused = u32::try_from(self.generation)
            .ok()
            .and_then(|generation| id::refused(&self.id, &self.stage, generation));
        let more = [
            (header::HOPS, hops.map(|(hops, _)| hops.to_owned())),
            (header::ORIGINAL_SUBJECT, Some(self.subject.clone())),
            (header::ORIGINAL_RAWSEQ, self.rawseq.map(|raw| raw.to_string())),
            (header::ORIGINAL_TIME, Some(self.time.to_string())),
            (header::ORIGINAL_PLACE, refused.map(str::to_owned)),
            (header::REPLAY, Some(generation)),
            (header::REPLAYED, Some(self.id.clone())),
            (header::MSG_ID, Some(self.redo_id())),
        ];
        headers.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        headers.retain(|(_, value)| is_plain(value));
        Outgoing {
            subject: subject::redo(stage),
            headers,
            payload: self.payload.clone().into(),
            stream: subject::REDO_STREAM,
        }
    }

    /// The first header of that name, whatever its case.
    fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    fn redo_id(&self) -> String {
        let begun = Timestamp::from_offset(self.begun).as_micros();
        let id = format!("{}.redo.{begun}", self.id);
        if is_plain(&id) {
            id
        } else {
            id::digest(id.as_bytes())
        }
    }
}

/// The first header of that name, whatever its case.
pub(super) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let named = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str())
}

/// `Nats-Msg-Id` of an entry.
pub(super) fn message_id(id: &str, rawseq: Option<RawSeq>) -> String {
    rawseq.map_or_else(|| id.to_owned(), |rawseq| format!("{id}@{rawseq}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Entry {
            id: "t:7-12.validate.quarantine.1".into(),
            stage: "validate".into(),
            generation: 1,
            sequence: Some(3),
            rawseq: Some(RawSeq { epoch: 7, seq: 12 }),
            begun: OffsetDateTime::UNIX_EPOCH,
            again: false,
            time: Timestamp::parse("2026-01-15T07:41:09.25Z").unwrap(),
            subject: "raw.local.t".into(),
            headers: vec![
                header("content-type", "application/json"),
                header("Nats-Msg-Id", "forged"),
                header("Telltale-Original-Subject", "raw.local.other"),
                header("Telltale-Seal", "00"),
            ],
            payload: b"{}".to_vec(),
            hops: Some("validate;1;1;2,store;1;3;4".into()),
        }
    }

    #[test]
    fn what_is_given_back_is_the_original_and_says_which_replay_it_is() {
        let outgoing = entry().outgoing(&Name::new("validate").unwrap());
        assert_eq!(outgoing.subject, "redo.validate");
        assert_eq!(
            outgoing.headers,
            [
                ("Content-Type", "application/json".to_owned()),
                ("Telltale-Seal", "00".to_owned()),
                ("Telltale-Hops", "validate;1;1;2".to_owned()),
                ("Telltale-Original-Subject", "raw.local.t".to_owned()),
                ("Telltale-Original-Rawseq", "7-12".to_owned()),
                ("Telltale-Original-Time", "2026-01-15T07:41:09.25Z".to_owned()),
                ("Telltale-Original-Place", "t:7-12".to_owned()),
                ("Telltale-Replay", "2".to_owned()),
                ("Telltale-Replayed", "t:7-12.validate.quarantine.1".to_owned()),
                ("Nats-Msg-Id", "t:7-12.validate.quarantine.1.redo.0".to_owned()),
            ]
        );
    }

    #[test]
    fn one_reading_of_a_pack_is_given_back_as_one_and_no_header_can_break_the_line() {
        let mut entry = entry();
        entry.subject = "valid.local.t".into();
        entry.id = "evil\r\nX: y.validate.quarantine.1".into();
        entry.headers = vec![("Content-Type".into(), header::CLOUDEVENT_BATCH.into())];
        let outgoing = entry.outgoing(&Name::new("annotate").unwrap());
        assert_eq!(
            outgoing.headers[0],
            ("Content-Type", header::CLOUDEVENT.to_owned())
        );
        assert!(outgoing.headers.iter().all(|(_, value)| is_plain(value)));
        assert!(outgoing.headers.iter().any(|(name, _)| *name == "Nats-Msg-Id"));
    }
}
