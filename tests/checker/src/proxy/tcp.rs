//! The wire of connections.
use super::toxic::{Counters, Direction, Toxic, Wire, count};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

/// Bytes read in one go.
const CHUNK: usize = 16 * 1024;
/// Chunks under way in one direction of a connection; beyond them its sender has to wait.
const UNDER_WAY: usize = 256;

/// A listener on a free loopback port that passes all on to a server, well or badly. Dropped, it ends, and all its
/// connections with it.
#[derive(Debug)]
pub struct Tcp {
    address: SocketAddr,
    wire: Arc<Wire>,
    task: JoinHandle<()>,
}

impl Tcp {
    /// A wire to `target`, which need not listen yet.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let wire = Arc::new(Wire::new());
        let task = tokio::spawn(accept(listener, target, Arc::clone(&wire)));
        Ok(Self { address, wire, task })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for all connections, old and new. What counts bytes begins to count now.
    pub fn set(&self, direction: Direction, toxic: Toxic) {
        self.wire.set(direction, toxic);
    }

    /// Well again, both ways.
    pub fn heal(&self) {
        self.set(Direction::Both, Toxic::None);
    }

    /// Resets every connection there is.
    pub fn reset_all(&self) {
        self.wire.kill.send_modify(|times| *times += 1);
    }

    /// What has been done since the start.
    pub fn counters(&self) -> Counters {
        self.wire.tally.read()
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(connection(client, target, Arc::clone(&wire)));
            }
            // Out of descriptors: some are free again soon.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// How a connection ends before both sides have said all.
enum End {
    Reset,
    Close,
}

async fn connection(mut client: TcpStream, target: SocketAddr, wire: Arc<Wire>) {
    let mut kill = wire.kill.subscribe();
    let is = |of: &watch::Sender<Toxic>, toxic| *of.borrow() == toxic;
    if is(&wire.up, Toxic::Down) || is(&wire.down, Toxic::Down) {
        count(&wire.tally.refused, 1);
        reset(&client);
        return;
    }
    // Where nothing passes, no handshake does: the server hears of it when the wire is well again.
    let mut up = wire.up.subscribe();
    tokio::select! {
        _ = up.wait_for(|toxic| *toxic != Toxic::Blackhole) => {}
        _ = kill.changed() => {
            count(&wire.tally.reset, 1);
            return reset(&client);
        }
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        count(&wire.tally.refused, 1);
        reset(&client);
        return;
    };
    count(&wire.tally.connections, 1);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let lanes = (
            Lane::new(&wire, &wire.up, &wire.tally.bytes_up),
            Lane::new(&wire, &wire.down, &wire.tally.bytes_down),
        );
        let both = async {
            tokio::try_join!(
                lanes.0.carry(from_client, to_server),
                lanes.1.carry(from_server, to_client)
            )
        };
        tokio::select! {
            ended = both => ended.err(),
            _ = kill.changed() => Some(End::Reset),
        }
    };
    match end {
        Some(End::Reset) => {
            count(&wire.tally.reset, 1);
            reset(&client);
            reset(&server);
        }
        Some(End::Close) => count(&wire.tally.closed, 1),
        None => {}
    }
}

/// What is dropped after this sends a reset, not an end.
fn reset(stream: &TcpStream) {
    // One that is gone already cannot be reset.
    drop(stream.set_zero_linger());
}

/// One direction of a connection.
struct Lane<'a> {
    wire: &'a Wire,
    toxic: &'a watch::Sender<Toxic>,
    bytes: &'a AtomicU64,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl<'a> Lane<'a> {
    fn new(wire: &'a Wire, toxic: &'a watch::Sender<Toxic>, bytes: &'a AtomicU64) -> Self {
        Self { wire, toxic, bytes }
    }

    async fn carry(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), End> {
        let (queue, chunks) = mpsc::channel(UNDER_WAY);
        let ((), ended) = tokio::join!(self.read(from, queue), self.write(to, chunks));
        ended
    }

    /// Ends with its sender; what it has read is still to be written then.
    async fn read(&self, mut from: ReadHalf<'_>, queue: mpsc::Sender<Chunk>) {
        let mut due = Instant::now();
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = queue.closed() => return,
            };
            let Ok(size @ 1..) = read else { return };
            let toxic = *self.toxic.borrow();
            due = toxic.due(due);
            let bytes = buffer.iter().take(size).copied().collect();
            if queue.send(Chunk { due, bytes }).await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, mut to: WriteHalf<'_>, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), End> {
        let mut toxics = self.toxic.subscribe();
        let mut passed = 0;
        loop {
            let chunk = tokio::select! {
                chunk = chunks.recv() => chunk,
                _ = toxics.changed() => {
                    passed = 0;
                    if *toxics.borrow_and_update() == Toxic::Down {
                        return Err(End::Close);
                    }
                    continue;
                }
            };
            let Some(chunk) = chunk else {
                // The other direction may go on.
                drop(to.shutdown().await);
                return Ok(());
            };
            if chunk.due > Instant::now() {
                count(&self.wire.tally.delayed, 1);
                sleep_until(chunk.due).await;
            }
            self.pass(&mut to, &chunk.bytes, &mut toxics, &mut passed).await?;
        }
    }

    /// Writes a chunk as the wire does at this moment.
    async fn pass(
        &self,
        to: &mut WriteHalf<'_>,
        mut bytes: &[u8],
        toxics: &mut watch::Receiver<Toxic>,
        passed: &mut u64,
    ) -> Result<(), End> {
        let tally = &self.wire.tally;
        while !bytes.is_empty() {
            if toxics.has_changed().unwrap_or(false) {
                *passed = 0;
            }
            let toxic = *toxics.borrow_and_update();
            let (most, then) = match toxic {
                Toxic::Blackhole => {
                    count(&tally.swallowed, bytes.len());
                    if toxics.changed().await.is_err() {
                        return Err(End::Close);
                    }
                    toxics.mark_changed();
                    continue;
                }
                Toxic::Down => return Err(End::Close),
                Toxic::Slice(size) => {
                    count(&tally.sliced, 1);
                    (size.max(1) as u64, None)
                }
                Toxic::Bandwidth(rate) => {
                    count(&tally.delayed, 1);
                    // A tenth of a second's worth, so that a change is soon felt.
                    (rate.div_ceil(10).max(1), None)
                }
                Toxic::ResetAfter(size) => (size.saturating_sub(*passed), Some(End::Reset)),
                Toxic::CloseAfter(size) => (size.saturating_sub(*passed), Some(End::Close)),
                Toxic::None | Toxic::Latency { .. } | Toxic::Loss(_) => (u64::MAX, None),
            };
            let size = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
            let (head, rest) = bytes.split_at(size);
            if to.write_all(head).await.is_err() {
                return Err(End::Close);
            }
            count(self.bytes, size);
            *passed += size as u64;
            bytes = rest;
            match (toxic, then) {
                (_, Some(end)) if *passed >= most_of(toxic) => return Err(end),
                (Toxic::Bandwidth(rate), _) => {
                    sleep(Duration::from_secs_f64(size as f64 / rate.max(1) as f64)).await;
                }
                // The kernel would join what is written without a pause.
                (Toxic::Slice(_), _) => tokio::task::yield_now().await,
                _ => {}
            }
        }
        Ok(())
    }
}

/// After how many bytes a connection ends.
fn most_of(toxic: Toxic) -> u64 {
    match toxic {
        Toxic::ResetAfter(size) | Toxic::CloseAfter(size) => size,
        _ => u64::MAX,
    }
}
