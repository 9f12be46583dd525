//! The entries in the stream QUARANTINE, which are deleted there once they are settled.
use super::entry;
use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use serde_json::json;
use telltale_nats::{
    Lane,
    async_nats::jetstream::{
        self, ErrorCode,
        response::Response,
        stream::{RawMessageErrorKind, Stream},
    },
    header,
};
use telltale_schemas::RawSeq;

/// Requests to the broker at once.
const AT_ONCE: usize = 64;

/// Where an entry is said to stand.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) rawseq: Option<RawSeq>,
    pub(super) sequence: Option<i64>,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Kept {
    js: jetstream::Context,
    stream: Stream,
}

#[derive(serde::Deserialize)]
struct Deleted {
    success: bool,
}

impl Kept {
    pub(super) async fn open(js: &jetstream::Context) -> anyhow::Result<Self> {
        let name = Lane::Quarantine.stream();
        let stream = js
            .get_stream(name)
            .await
            .with_context(|| format!("open the stream {name}; `telltale provision` makes it"))?;
        Ok(Self {
            js: js.clone(),
            stream,
        })
    }

    /// The sequences at which these entries do stand: a stream that was made anew counts from 1 again, and what is
    /// there then is another's evidence.
    pub(super) async fn present(&self, places: &[Place]) -> anyhow::Result<Vec<Option<u64>>> {
        stream::iter(places.iter().map(|place| self.at(place)))
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect()
    }

    async fn at(&self, place: &Place) -> anyhow::Result<Option<u64>> {
        let Some(sequence) = place.sequence.and_then(|sequence| u64::try_from(sequence).ok()) else {
            return Ok(None);
        };
        match self.stream.get_raw_message(sequence).await {
            Ok(message) => {
                let id = message.headers.get(header::MSG_ID);
                let wanted = entry::message_id(&place.id, place.rawseq);
                let is_it = id.is_some_and(|id| id.as_str() == wanted);
                Ok(is_it.then_some(sequence))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error).context("look into the stream QUARANTINE"),
        }
    }

    /// Deletes these messages; what is gone already is none the worse.
    pub(super) async fn delete(&self, sequences: impl Iterator<Item = u64>) -> anyhow::Result<()> {
        stream::iter(sequences.map(|sequence| self.delete_one(sequence)))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect()
    }

    async fn delete_one(&self, sequence: u64) -> anyhow::Result<()> {
        let subject = format!("STREAM.MSG.DELETE.{}", Lane::Quarantine.stream());
        // The library's own call would overwrite each on disk, which takes long and is not asked for.
        let body = json!({"seq": sequence, "no_erase": true});
        let answer: Response<Deleted> = self
            .js
            .request(subject, &body)
            .await
            .context("delete from the stream QUARANTINE")?;
        match answer {
            Response::Ok(Deleted { success: true }) => Ok(()),
            Response::Err { error } if is_gone(&error) => Ok(()),
            Response::Err { error } => Err(error).context("delete from the stream QUARANTINE"),
            Response::Ok(_) => {
                anyhow::bail!("the broker did not delete {sequence} from the stream QUARANTINE")
            }
        }
    }
}

/// Nothing is there, which the broker says in three ways.
fn is_gone(error: &jetstream::Error) -> bool {
    match error.error_code() {
        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND => true,
        ErrorCode::STREAM_MESSAGE_DELETE_FAILED => error.to_string().contains("no message found"),
        _ => false,
    }
}
