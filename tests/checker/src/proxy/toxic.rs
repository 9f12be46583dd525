//! In which ways a wire is spoiled, and how often it was.
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    Both,
}

/// What a wire does to what is sent over it, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Toxic {
    /// Passes it on.
    #[default]
    None,
    /// Passes it on later, in order, by `mean` more or less `jitter`.
    Latency { mean: Duration, jitter: Duration },
    /// Passes on so many bytes a second.
    Bandwidth(u64),
    /// Passes on nothing, and says nothing. Of a connection all of it arrives after healing, as what is sent again
    /// would; datagrams are gone.
    Blackhole,
    /// Ends what is connected, and refuses who connects. Datagrams are gone.
    Down,
    /// Passes on so many bytes at a time, each as a packet of its own. Datagrams are cut off there.
    Slice(usize),
    /// Resets the connection after so many bytes of it. Datagrams beyond them are gone.
    ResetAfter(u64),
    /// Closes the connection after so many bytes of it. Datagrams beyond them are gone.
    CloseAfter(u64),
    /// Loses so many datagrams of a hundred. A connection loses none.
    Loss(u8),
}

impl Toxic {
    /// How much later than now something is passed on.
    pub(super) fn delay(self) -> Duration {
        let Self::Latency { mean, jitter } = self else {
            return Duration::ZERO;
        };
        let by = jitter.mul_f64(rand::random::<f64>());
        if rand::random() {
            mean + by
        } else {
            mean.saturating_sub(by)
        }
    }

    /// When something that is passed on now arrives, behind what was passed on before.
    pub(super) fn due(self, behind: Instant) -> Instant {
        behind.max(Instant::now() + self.delay())
    }
}

/// How often a wire was spoiled: what shows that a fault has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections that were made through it; of datagrams, clients.
    pub connections: u64,
    /// Connections that were refused.
    pub refused: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Chunks or datagrams that were passed on late, for latency or bandwidth.
    pub delayed: u64,
    /// Bytes that were held back, or datagrams that were lost.
    pub swallowed: u64,
    /// Slices.
    pub sliced: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Connections that were closed.
    pub closed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) connections: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes_up: AtomicU64,
    pub(super) bytes_down: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) swallowed: AtomicU64,
    pub(super) sliced: AtomicU64,
    pub(super) reset: AtomicU64,
    pub(super) closed: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

impl Tally {
    pub(super) fn read(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Counters {
            connections: of(&self.connections),
            refused: of(&self.refused),
            bytes_up: of(&self.bytes_up),
            bytes_down: of(&self.bytes_down),
            delayed: of(&self.delayed),
            swallowed: of(&self.swallowed),
            sliced: of(&self.sliced),
            reset: of(&self.reset),
            closed: of(&self.closed),
        }
    }
}

/// What both directions do at the moment.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) up: watch::Sender<Toxic>,
    pub(super) down: watch::Sender<Toxic>,
    /// Grows when all connections are to be reset.
    pub(super) kill: watch::Sender<u64>,
    pub(super) tally: Tally,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            up: watch::Sender::new(Toxic::None),
            down: watch::Sender::new(Toxic::None),
            kill: watch::Sender::new(0),
            tally: Tally::default(),
        }
    }

    pub(super) fn set(&self, direction: Direction, toxic: Toxic) {
        if direction != Direction::Down {
            self.up.send_replace(toxic);
        }
        if direction != Direction::Up {
            self.down.send_replace(toxic);
        }
    }
}
