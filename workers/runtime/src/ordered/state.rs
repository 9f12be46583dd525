//! What a worker in order remembers, in the bucket `state`: pieces, and a key that says which ones are whole.
use anyhow::Context as _;
use async_nats::jetstream::kv;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use telltale_schemas::id;

/// Bytes in a piece: a value of the bucket with room for its headers.
const PIECE: usize = 512 << 10;

/// Where the worker stands. What is written last makes what was written before it count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The last message of the stream that is in the state.
    pub(crate) sequence: u64,
    /// The last message whose consequences are known to be published.
    pub(crate) told: u64,
    /// When the durable was made, epoch microseconds: another one's stream counts from 1 again.
    pub(crate) durable: i64,
    /// Which of the two places the pieces are in.
    place: u8,
    pieces: usize,
    /// SHA-256 of the whole, lower-case hex; empty where there is no state yet.
    sha256: String,
}

/// The worker's part of the bucket.
#[derive(Debug)]
pub(crate) struct Kept {
    store: kv::Store,
    worker: &'static str,
    mark: Mark,
}

impl Kept {
    /// Reads where the worker stands, and its state if there is one that is whole.
    pub(crate) async fn read(
        store: kv::Store,
        worker: &'static str,
    ) -> anyhow::Result<(Self, Option<Vec<u8>>)> {
        let mut kept = Self {
            store,
            worker,
            mark: Mark::default(),
        };
        let Some(mark) = kept.store.get(kept.mark_key()).await.context("read the mark")? else {
            return Ok((kept, None));
        };
        match serde_json::from_slice(&mark) {
            Ok(mark) => kept.mark = mark,
            Err(error) => {
                tracing::error!("what was kept cannot be read, all is computed anew: {error}");
                return Ok((kept, None));
            }
        }
        let state = kept.pieces().await?;
        Ok((kept, state))
    }

    async fn pieces(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let mark = &self.mark;
        if mark.sha256.is_empty() {
            return Ok(None);
        }
        let mut whole = Vec::new();
        for n in 0..mark.pieces {
            let piece = self.store.get(self.piece_key(mark.place, n)).await;
            match piece.context("read a piece of the state")? {
                Some(piece) => whole.extend_from_slice(&piece),
                None => break,
            }
        }
        if id::digest(&whole) == mark.sha256 {
            return Ok(Some(whole));
        }
        tracing::error!("what was kept is damaged, all is computed anew");
        Ok(None)
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Writes the whole state, up to and with message `sequence`.
    pub(crate) async fn write(&mut self, state: &[u8], sequence: u64, durable: i64) -> anyhow::Result<()> {
        let place = 1 - self.mark.place.min(1);
        let mut pieces = 0;
        for piece in state.chunks(PIECE) {
            let key = self.piece_key(place, pieces);
            let put = self.store.put(key, Bytes::copy_from_slice(piece)).await;
            put.context("write a piece of the state")?;
            pieces += 1;
        }
        let mark = Mark {
            sequence,
            told: self.mark.told.max(sequence),
            durable,
            place,
            pieces,
            sha256: id::digest(state),
        };
        self.write_mark(mark).await
    }

    /// Notes how far consequences are known to be published, before they are computed again.
    pub(crate) async fn note(&mut self, told: u64, durable: i64) -> anyhow::Result<()> {
        let mark = Mark {
            told,
            durable,
            ..self.mark.clone()
        };
        if mark == self.mark {
            return Ok(());
        }
        self.write_mark(mark).await
    }

    /// The state is of another stream: where it ended means nothing in this one.
    pub(crate) fn forget_place(&mut self) {
        self.mark.sequence = 0;
        self.mark.told = 0;
    }

    async fn write_mark(&mut self, mark: Mark) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&mark).context("write the mark")?;
        let put = self.store.put(self.mark_key(), Bytes::from(text)).await;
        put.context("write the mark")?;
        self.mark = mark;
        Ok(())
    }

    fn mark_key(&self) -> String {
        format!("{}.mark", self.worker)
    }

    fn piece_key(&self, place: u8, n: usize) -> String {
        format!("{}.state.{place}.{n}", self.worker)
    }
}
