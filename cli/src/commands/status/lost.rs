//! What the streams still know of messages that have no fate.
use super::ranges::Ranges;
use crate::commands::seek::{self, Found};
use serde::Serialize;
use telltale_nats::async_nats::jetstream;
use telltale_schemas::RawSeq;

/// So many missing messages are looked for.
const SOUGHT_MAX: usize = 20;
/// From the last stage back: where a message is found, it came that far.
const STREAMS: [&str; 4] = ["QUARANTINE", "EVENTS", "READINGS", "VALID"];

/// A missing message, and how far it came.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Lost {
    pub(super) sequence: i64,
    /// The last stream that has it; none where it left RAW without a trace.
    pub(super) last_seen: Option<String>,
    pub(super) stream_sequence: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) thing: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) time: Option<String>,
}

impl Lost {
    fn found(sequence: i64, found: &Found) -> Self {
        Self {
            sequence,
            last_seen: Some(found.stream.clone()),
            stream_sequence: Some(found.sequence),
            id: found.text("id").map(str::to_owned),
            thing: found.text("subject").map(str::to_owned),
            subject: Some(found.subject.clone()),
            time: found
                .text("recordedtime")
                .map(str::to_owned)
                .or_else(|| Some(found.stored.to_string())),
        }
    }

    /// In a line, for people.
    pub(super) fn told(&self) -> String {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        match &self.last_seen {
            Some(stream) => format!(
                "RAW {} is {} of {} ({}): {stream} {} has it, SQL has not",
                self.sequence,
                or(&self.id),
                or(&self.thing),
                or(&self.time),
                self.stream_sequence.unwrap_or_default()
            ),
            None => format!(
                "RAW {} has left no trace: deleted from RAW or on its way by an operator, dropped by a limit, or lost by the broker",
                self.sequence
            ),
        }
    }
}

/// Looks for the first of them.
pub(super) async fn find(js: &jetstream::Context, epoch: u64, missing: &Ranges) -> Vec<Lost> {
    let sequences: Vec<i64> = missing.each().take(SOUGHT_MAX).collect();
    let mut wanted: Vec<RawSeq> = sequences
        .iter()
        .filter_map(|seq| {
            let seq = u64::try_from(*seq).ok()?;
            Some(RawSeq { epoch, seq })
        })
        .collect();
    let mut found: Vec<Found> = Vec::new();
    for name in STREAMS {
        let Ok(stream) = js.get_stream(name).await else {
            continue;
        };
        // What cannot be read is not known; the balance stands without it.
        if let Ok(more) = seek::by_rawseq(&stream, &wanted).await {
            wanted.retain(|raw| !more.iter().any(|one| one.rawseq() == Some(*raw)));
            found.extend(more);
        }
    }
    let place = |sequence: i64| {
        found.iter().find(|one| {
            one.rawseq()
                .is_some_and(|raw| i64::try_from(raw.seq) == Ok(sequence))
        })
    };
    let lost = |sequence: i64| match place(sequence) {
        Some(found) => Lost::found(sequence, found),
        None => Lost {
            sequence,
            last_seen: None,
            stream_sequence: None,
            id: None,
            thing: None,
            subject: None,
            time: None,
        },
    };
    sequences.into_iter().map(lost).collect()
}
