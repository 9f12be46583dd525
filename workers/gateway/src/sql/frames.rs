//! A wire to PostgreSQL on which no message is longer than it may be.
//!
//! The client library takes a message into memory whole before anybody sees it, and one cell can have a gigabyte.
//! Each message says its length first, so a long one ends the connection before it is read.
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Type and length.
const HEAD: usize = 5;

/// The wire. What the server sends is followed message by message; what we send passes as it is.
#[derive(Debug)]
pub(super) struct Frames<S> {
    wire: S,
    max: usize,
    head: [u8; HEAD],
    /// How much of the head is there.
    have: usize,
    /// How much of the message is still to come.
    left: usize,
    long: Arc<AtomicBool>,
}

impl<S> Frames<S> {
    /// Messages of at most `max` bytes; `long` is set once there was a longer one.
    pub(super) fn new(wire: S, max: usize, long: Arc<AtomicBool>) -> Self {
        Self {
            wire,
            max,
            head: [0; HEAD],
            have: 0,
            left: 0,
            long,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (_, after) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= bytes.len() - after.len();
                bytes = after;
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
                self.have += 1;
            }
            bytes = rest;
            if self.have == HEAD {
                let [_, length @ ..] = self.head;
                // The length counts itself.
                self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.have = 0;
                if self.left > self.max {
                    self.long.store(true, Ordering::Relaxed);
                    return Err(io::Error::other(format!(
                        "a message of {} bytes is longer than {}",
                        self.left, self.max
                    )));
                }
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(context, buffer))?;
        let (_, new) = buffer.filled().split_at(before);
        Poll::Ready(self.follow(new))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![b'D'];
        bytes.extend((length + 4).to_be_bytes());
        bytes.resize(5 + length as usize, 0xff);
        bytes
    }

    /// Whether they pass, given so many bytes at a time.
    fn pass(messages: &[u32], at_a_time: usize) -> bool {
        let long = Arc::new(AtomicBool::new(false));
        let mut frames = Frames::new((), 100, long.clone());
        let all: Vec<u8> = messages.iter().copied().flat_map(message).collect();
        let passed = all.chunks(at_a_time).all(|some| frames.follow(some).is_ok());
        assert_eq!(passed, !long.load(Ordering::Relaxed));
        passed
    }

    #[test]
    fn a_long_message_is_found_however_it_is_cut() {
        for at_a_time in [1, 2, 3, 5, 7, 64, 1_000] {
            assert!(pass(&[0, 100, 1, 99], at_a_time), "{at_a_time}");
            assert!(!pass(&[0, 100, 101, 1], at_a_time), "{at_a_time}");
        }
        assert!(!pass(&[1_000_000], 5));
    }
}
