//! A connection whose other end takes what is written to it, or is given up.
//!
//! TCP waits for ever for a reader that does not read, and what waits holds a place, memory and often a session with
//! the database. So a write that finds no room has a time in which a least amount must go, or the connection ends.
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// While there is no room, so much must be taken each time…
const LEAST: usize = 16 * 1024;
/// …that this has passed.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// A stream whose writes end with [`io::ErrorKind::TimedOut`] when the other end takes too little of them.
#[derive(Debug)]
pub(super) struct Taken<S> {
    stream: S,
    /// Since there is no room: when it is looked at how much went.
    look: Option<Pin<Box<Sleep>>>,
    /// Bytes that went since then.
    went: usize,
}

impl<S> Taken<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            look: None,
            went: 0,
        }
    }

    /// What becomes of an attempt to write `wanted` bytes.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        tried: Poll<io::Result<usize>>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        match tried {
            Poll::Ready(Ok(taken)) => {
                self.went += taken;
                if taken == wanted {
                    self.look = None;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.wait(context),
        }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.look.is_none() {
            self.went = 0;
        }
        let look = self
            .look
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(WITHIN)));
        while look.as_mut().poll(context).is_ready() {
            if self.went < LEAST {
                let why = format!("the other end took {} bytes in {WITHIN:?}", self.went);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            self.went = 0;
            look.as_mut().reset(Instant::now() + WITHIN);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, tried, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        let wanted = pieces.iter().map(|piece| piece.len()).sum();
        self.judge(context, tried, wanted)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// How long writing goes on to a reader that takes so many bytes each second; at most two minutes.
    async fn lasts(bytes_a_second: usize) -> Result<Duration, io::Error> {
        let (ours, mut theirs) = tokio::io::duplex(4 * 1024);
        let mut ours = Taken::new(ours);
        let began = Instant::now();
        let reading = tokio::spawn(async move {
            let mut into = vec![0; bytes_a_second];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !into.is_empty() && theirs.read(&mut into).await.is_err() {
                    return;
                }
            }
        });
        let body = vec![0; 64 * 1024];
        let mut wrote = Ok(());
        while began.elapsed() < Duration::from_secs(120) && wrote.is_ok() {
            wrote = ours.write_all(&body).await;
        }
        reading.abort();
        wrote.map(|()| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_or_next_to_nothing_is_given_up() {
        for bytes_a_second in [0, 1, 100] {
            let began = Instant::now();
            let ended = lasts(bytes_a_second).await.unwrap_err();
            assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
            // What the stream itself holds may go in the first of them.
            let lasted = began.elapsed();
            assert!(lasted >= WITHIN && lasted <= 2 * WITHIN, "{lasted:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_and_one_that_waits_for_us_is_not_judged() {
        assert!(lasts(2 * 1024).await.is_ok());
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Taken::new(ours);
        let mut into = [0; 16];
        for _ in 0..3 {
            // As events come: seldom, and read at once.
            ours.write_all(&[0; 16]).await.unwrap();
            tokio::time::sleep(3 * WITHIN).await;
            theirs.read_exact(&mut into).await.unwrap();
        }
    }
}
