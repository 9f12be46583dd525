//! Rows of a statement as the body of an answer: as many in memory as fit into a few chunks, whoever reads slowly.
//!
//! The rows are fetched in portions through a portal, so that between two of them the server waits for us and not
//! for the reader: a server that is stuck in sending cannot be cancelled. The first chunk is awaited before the
//! status is said, so what fails early fails with a status of its own. A body that could not be finished breaks off:
//! no reader takes a part for the whole.
use super::{Lease, Session, Trouble};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _, stream};
use std::{io, pin::pin, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_postgres::{IsolationLevel, Row, Statement, types::ToSql};

/// As much goes out at once.
const CHUNK: usize = 32 << 10;
/// Chunks that may wait for the reader.
const CHUNKS: usize = 2;
/// Rows that are fetched at once.
const PORTION: u64 = 500;
/// What the end of a document may take beyond the time of the answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A value of a statement's parameter.
pub(crate) type Param = Box<dyn ToSql + Sync + Send>;

/// What is asked, and how much of an answer is wanted.
pub(crate) struct Ask {
    pub(crate) statement: Statement,
    pub(crate) params: Vec<Param>,
    pub(crate) rows_max: u64,
    pub(crate) bytes_max: u64,
    /// Until then the last byte must be sent.
    pub(crate) until: Instant,
    /// The same as a span, for the message.
    pub(crate) time: Duration,
}

/// Which limit cut an answer short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Rows,
    Bytes,
}

/// How the rows ended.
#[derive(Debug)]
pub(crate) enum Ended<'a> {
    /// All of them.
    Whole,
    /// There are more.
    Cut(Cut),
    /// Something went wrong in the middle.
    Failed(&'a Trouble),
}

/// Writes a document row by row.
pub(crate) trait Writer: Send + 'static {
    /// The media type.
    fn media(&self) -> &'static str;
    /// What stands before the first row.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// One row.
    fn row(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), Trouble>;
    /// What stands after the last one. Says whether the document tells by itself that it ended so; where it does
    /// not, it is broken off.
    fn end(&mut self, ended: &Ended<'_>, out: &mut Vec<u8>) -> bool;
}

/// The answer, once its first bytes are there.
pub(crate) async fn pour(lease: Lease, ask: Ask, mut writer: impl Writer) -> Result<Response, Trouble> {
    let media = writer.media();
    let (parts, body) = mpsc::channel(CHUNKS);
    let (started, has_started) = oneshot::channel();
    let mut feed = Feed {
        parts,
        started: Some(started),
        out: Vec::with_capacity(CHUNK + CHUNK / 4),
        sent: 0,
        torn: false,
    };
    tokio::spawn(async move {
        let ended = run(lease, &ask, &mut writer, &mut feed).await;
        feed.finish(ended, &mut writer, ask.until + LAST_WORDS).await;
    });
    match has_started.await {
        Ok(None) => {}
        Ok(Some(trouble)) => return Err(trouble),
        Err(_) => return Err(Trouble::Row("the task that reads rows has ended".to_owned())),
    }
    let mut response = (StatusCode::OK, Body::from_stream(whole(body))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Reads all rows; in the end the place is free again.
async fn run(
    mut lease: Lease,
    ask: &Ask,
    writer: &mut impl Writer,
    feed: &mut Feed,
) -> Result<Option<Cut>, Trouble> {
    let reader = feed.parts.clone();
    let read = timeout_at(ask.until, rows(&mut lease.session, ask, writer, feed));
    let done = tokio::select! {
        done = read => done.unwrap_or(Err(Trouble::Late(ask.time))),
        () = reader.closed() => Err(Trouble::Gone),
    };
    match &done {
        // After an error of its own the server waits for the next statement.
        Ok(None | Some(Cut::Rows)) | Err(Trouble::Refused(_)) => lease.give_back().await,
        _ => lease.cut().await,
    }
    done
}

async fn rows(
    session: &mut Session,
    ask: &Ask,
    writer: &mut impl Writer,
    feed: &mut Feed,
) -> Result<Option<Cut>, Trouble> {
    let blamed = read(session, ask, writer, feed).await;
    blamed.map_err(|stop| match stop {
        Stop::Database(error) => session.blame(error),
        Stop::Trouble(trouble) => trouble,
    })
}

enum Stop {
    Database(tokio_postgres::Error),
    Trouble(Trouble),
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

async fn read(
    session: &mut Session,
    ask: &Ask,
    writer: &mut impl Writer,
    feed: &mut Feed,
) -> Result<Option<Cut>, Stop> {
    let transaction = session
        .client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let portal = transaction
        .bind_raw(
            &ask.statement,
            ask.params.iter().map(|param| &**param as &(dyn ToSql + Sync)),
        )
        .await?;
    writer.begin(&mut feed.out);
    let mut count = 0;
    loop {
        // One more than wanted, to learn whether there are more.
        let portion = PORTION.min((ask.rows_max - count).saturating_add(1));
        let before = count;
        let rows = transaction
            .query_portal_raw(&portal, i32::try_from(portion).unwrap_or(i32::MAX))
            .await?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await? {
            if count == ask.rows_max {
                return Ok(Some(Cut::Rows));
            }
            writer.row(&row, &mut feed.out)?;
            count += 1;
            if feed.total() > ask.bytes_max {
                return Ok(Some(Cut::Bytes));
            }
            feed.flush_full().await?;
        }
        if count < before + portion {
            transaction.rollback().await?;
            return Ok(None);
        }
    }
}

/// What goes to the body.
enum Part {
    Chunk(Bytes),
    /// The document is whole.
    End,
}

/// The body, from the side of who writes it.
struct Feed {
    parts: mpsc::Sender<Part>,
    /// Told once: that bytes come, or what went wrong before.
    started: Option<oneshot::Sender<Option<Trouble>>>,
    out: Vec<u8>,
    sent: u64,
    /// A chunk was lost on the way: nothing may follow.
    torn: bool,
}

impl Feed {
    fn total(&self) -> u64 {
        self.sent + self.out.len() as u64
    }

    async fn flush_full(&mut self) -> Result<(), Trouble> {
        if self.out.len() >= CHUNK {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Trouble> {
        if let Some(started) = self.started.take() {
            // Nobody there is found out by the next line.
            let _told = started.send(None);
        }
        let chunk = std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4));
        self.sent += chunk.len() as u64;
        self.torn = true;
        let sent = self.parts.send(Part::Chunk(chunk.into())).await;
        self.torn = sent.is_err();
        sent.map_err(|_| Trouble::Gone)
    }

    async fn finish(&mut self, done: Result<Option<Cut>, Trouble>, writer: &mut impl Writer, until: Instant) {
        let done = match done {
            Err(trouble) => match self.started.take() {
                Some(started) => {
                    // Who went away meanwhile needs no answer.
                    let _told = started.send(Some(trouble));
                    return;
                }
                None => Err(trouble),
            },
            done => done,
        };
        let ended = match &done {
            Ok(None) => Ended::Whole,
            Ok(Some(cut)) => Ended::Cut(*cut),
            Err(trouble) => {
                tracing::info!("an answer breaks off: {trouble}");
                Ended::Failed(trouble)
            }
        };
        // Half a row may stand there.
        if self.torn || matches!(done, Err(Trouble::Row(_))) {
            return;
        }
        let is_whole = writer.end(&ended, &mut self.out);
        let last = timeout_at(until, async {
            self.flush().await?;
            if is_whole {
                self.parts.send(Part::End).await.map_err(|_| Trouble::Gone)?;
            }
            Ok::<_, Trouble>(())
        });
        if !matches!(last.await, Ok(Ok(()))) {
            tracing::debug!("nobody read the end of an answer");
        }
    }
}

/// The body, from the side of who reads it. Without an end it ends with an error.
fn whole(body: mpsc::Receiver<Part>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.recv().await {
            Some(Part::Chunk(bytes)) => Some((Ok(bytes), Some(body))),
            Some(Part::End) => None,
            None => Some((Err(io::Error::other("the answer was cut off")), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(parts: Vec<Part>) -> io::Result<Vec<Bytes>> {
        let (sender, receiver) = mpsc::channel(parts.len().max(1));
        for part in parts {
            sender.try_send(part).ok().unwrap();
        }
        drop(sender);
        whole(receiver).try_collect().await
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_an_error() {
        let chunk = || Part::Chunk(Bytes::from_static(b"x"));
        assert_eq!(
            read_all(vec![chunk(), chunk(), Part::End]).await.unwrap().len(),
            2
        );
        assert!(read_all(vec![chunk(), chunk()]).await.is_err());
        assert!(read_all(vec![]).await.is_err());
    }
}
