//! The wire of datagrams.
use super::toxic::{Counters, Direction, Toxic, Wire, count};
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// The largest datagram.
const DATAGRAM: usize = 65_535;
/// Clients remembered; beyond them the oldest are not told apart any more, and all begin anew.
const CLIENTS_MAX: usize = 4_096;

/// A socket on a free loopback port that passes datagrams on to a server and back. Dropped, it ends.
#[derive(Debug)]
pub struct Udp {
    address: SocketAddr,
    wire: Arc<Wire>,
    task: JoinHandle<()>,
}

impl Udp {
    /// A wire to `target`.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = socket.local_addr()?;
        let wire = Arc::new(Wire::new());
        let task = tokio::spawn(serve(socket, target, Arc::clone(&wire)));
        Ok(Self { address, wire, task })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, direction: Direction, toxic: Toxic) {
        self.wire.set(direction, toxic);
    }

    /// Well again, both ways.
    pub fn heal(&self) {
        self.set(Direction::Both, Toxic::None);
    }

    /// What has been done since the start.
    pub fn counters(&self) -> Counters {
        self.wire.tally.read()
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: Arc<UdpSocket>, target: SocketAddr, wire: Arc<Wire>) {
    let mut clients: HashMap<SocketAddr, Lane> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((size, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if !clients.contains_key(&client) {
            if clients.len() == CLIENTS_MAX {
                clients.clear();
                answers.abort_all();
            }
            let Ok(upstream) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else {
                continue;
            };
            let upstream = Arc::new(upstream);
            let back = Lane::new(&wire.down, Arc::clone(&socket), client);
            answers.spawn(answer(Arc::clone(&upstream), back, Arc::clone(&wire)));
            clients.insert(client, Lane::new(&wire.up, upstream, target));
            count(&wire.tally.connections, 1);
        }
        if let Some(lane) = clients.get_mut(&client) {
            lane.pass(
                buffer.iter().take(size).copied().collect(),
                &wire,
                &wire.tally.bytes_up,
            )
            .await;
        }
    }
}

async fn answer(upstream: Arc<UdpSocket>, mut back: Lane, wire: Arc<Wire>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // A server that is away says so with an error; the next answer may come all the same.
        if let Ok((size, _)) = upstream.recv_from(&mut buffer).await {
            back.pass(
                buffer.iter().take(size).copied().collect(),
                &wire,
                &wire.tally.bytes_down,
            )
            .await;
        }
    }
}

/// One direction for one client.
struct Lane {
    toxics: watch::Receiver<Toxic>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    /// Bytes since the toxic was set.
    passed: u64,
    /// When the line is free again, where bandwidth is scarce.
    free: Instant,
}

impl Lane {
    fn new(toxic: &watch::Sender<Toxic>, socket: Arc<UdpSocket>, to: SocketAddr) -> Self {
        Self {
            toxics: toxic.subscribe(),
            socket,
            to,
            passed: 0,
            free: Instant::now(),
        }
    }

    async fn pass(&mut self, mut datagram: Vec<u8>, wire: &Arc<Wire>, bytes: &AtomicU64) {
        if self.toxics.has_changed().unwrap_or(false) {
            self.passed = 0;
        }
        let toxic = *self.toxics.borrow_and_update();
        self.passed += datagram.len() as u64;
        let now = Instant::now();
        let (lost, due) = match toxic {
            Toxic::Blackhole | Toxic::Down => (true, now),
            Toxic::ResetAfter(size) | Toxic::CloseAfter(size) => (self.passed > size, now),
            Toxic::Loss(percent) => (rand::random_range(0..100) < percent, now),
            Toxic::Latency { .. } => (false, now + toxic.delay()),
            Toxic::Bandwidth(rate) => {
                let takes = std::time::Duration::from_secs_f64(datagram.len() as f64 / rate.max(1) as f64);
                self.free = self.free.max(now) + takes;
                (false, self.free)
            }
            Toxic::Slice(size) => {
                count(&wire.tally.sliced, usize::from(datagram.len() > size));
                datagram.truncate(size);
                (false, now)
            }
            Toxic::None => (false, now),
        };
        if lost {
            return count(&wire.tally.swallowed, 1);
        }
        count(bytes, datagram.len());
        if due == now {
            // As good as lost where it cannot be sent: datagrams may be.
            drop(self.socket.send_to(&datagram, self.to).await);
            return;
        }
        count(&wire.tally.delayed, 1);
        let (socket, to) = (Arc::clone(&self.socket), self.to);
        tokio::spawn(async move {
            sleep_until(due).await;
            drop(socket.send_to(&datagram, to).await);
        });
    }
}
