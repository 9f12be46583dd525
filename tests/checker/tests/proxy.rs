//! The wire is well, or spoiled as was asked, and counts it.
#![expect(clippy::unwrap_used, reason = "a test says what it found by panicking")]
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use telltale_checker::proxy::{Direction, Tcp, Toxic, Udp};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Instant, timeout},
};

/// In which everything here happens, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);
/// In which nothing comes.
const WHILE: Duration = Duration::from_millis(200);

/// A server that says what it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    address
}

async fn wire() -> (Tcp, TcpStream) {
    let proxy = Tcp::start(echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    said_again(&mut client, b"hello").await;
    (proxy, client)
}

async fn said_again(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).await.unwrap();
    heard(client, text).await;
}

async fn heard(client: &mut TcpStream, text: &[u8]) {
    let mut buffer = vec![0; text.len()];
    timeout(SOON, client.read_exact(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(buffer, text);
}

/// What the client reads until the connection ends, and how it ends.
async fn rest(client: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = vec![];
    let ended = timeout(SOON, client.read_to_end(&mut all)).await.unwrap();
    (all, ended.err().map(|error| error.kind()))
}

#[tokio::test]
async fn a_wire_that_is_well_passes_everything_and_both_ends() {
    let (proxy, mut client) = wire().await;
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = client.split();
    let writing = async {
        to.write_all(&long).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = vec![];
    let reading = timeout(SOON, from.read_to_end(&mut back));
    let ((), read) = tokio::join!(writing, reading);
    read.unwrap().unwrap();
    assert!(back == long, "{} bytes came back of {}", back.len(), long.len());
    let counted = proxy.counters();
    assert_eq!((counted.connections, counted.bytes_up), (1, 1_000_005));
}

#[tokio::test]
async fn latency_and_bandwidth_take_their_time_and_keep_the_order() {
    let (proxy, mut client) = wire().await;
    let mean = Duration::from_millis(150);
    let jitter = Duration::from_millis(20);
    proxy.set(Direction::Down, Toxic::Latency { mean, jitter });
    let begun = Instant::now();
    for text in [b"1", b"2", b"3"] {
        client.write_all(text).await.unwrap();
    }
    heard(&mut client, b"123").await;
    assert!(begun.elapsed() + jitter >= mean, "{:?}", begun.elapsed());
    proxy.set(Direction::Both, Toxic::Bandwidth(1_000));
    let begun = Instant::now();
    said_again(&mut client, &[b'x'; 300]).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
    assert!(proxy.counters().delayed > 0);
}

#[tokio::test]
async fn a_blackhole_holds_everything_back_one_way_and_gives_it_up_whole() {
    let (proxy, mut client) = wire().await;
    proxy.set(Direction::Down, Toxic::Blackhole);
    client.write_all(b"held").await.unwrap();
    let mut buffer = [0; 4];
    assert!(timeout(WHILE, client.read_exact(&mut buffer)).await.is_err());
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    late.write_all(b"late").await.unwrap();
    assert!(proxy.counters().swallowed >= 4);
    proxy.heal();
    heard(&mut client, b"held").await;
    heard(&mut late, b"late").await;
}

#[tokio::test]
async fn a_wire_that_is_down_ends_what_is_there_and_refuses_what_comes() {
    let (proxy, mut client) = wire().await;
    proxy.set(Direction::Both, Toxic::Down);
    rest(&mut client).await;
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    rest(&mut refused).await;
    let counted = proxy.counters();
    assert_eq!((counted.closed, counted.refused), (1, 1));
    proxy.heal();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    said_again(&mut client, b"back").await;
}

#[tokio::test]
async fn connections_are_reset_or_closed_after_so_many_bytes_or_at_once() {
    let (proxy, mut client) = wire().await;
    proxy.set(Direction::Down, Toxic::ResetAfter(3));
    client.write_all(b"abcdef").await.unwrap();
    let (read, error) = rest(&mut client).await;
    assert!(b"abc".starts_with(&read), "{read:?}");
    assert_eq!(error, Some(ErrorKind::ConnectionReset));

    proxy.set(Direction::Down, Toxic::CloseAfter(3));
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"abcdef").await.unwrap();
    let (read, _) = rest(&mut client).await;
    assert_eq!(read, b"abc");

    proxy.heal();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    said_again(&mut client, b"well").await;
    proxy.reset_all();
    assert_eq!(rest(&mut client).await.1, Some(ErrorKind::ConnectionReset));
    let counted = proxy.counters();
    assert_eq!((counted.reset, counted.closed), (2, 1));
}

#[tokio::test]
async fn slices_carry_the_same_bytes() {
    let (proxy, mut client) = wire().await;
    proxy.set(Direction::Both, Toxic::Slice(1));
    said_again(&mut client, b"byte by byte").await;
    assert!(proxy.counters().sliced >= 24);
}

#[tokio::test]
async fn a_server_that_is_away_is_a_refused_connection() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Tcp::start(target).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    rest(&mut client).await;
    assert_eq!(proxy.counters().refused, 1);
}

#[tokio::test]
async fn datagrams_are_passed_lost_cut_and_late() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Udp::start(server.local_addr().unwrap()).await.unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(proxy.address()).await.unwrap();
    let mut buffer = [0; 64];

    client.send(b"there").await.unwrap();
    let (size, from) = timeout(SOON, server.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(buffer.get(..size), Some(&b"there"[..]));
    server.send_to(b"back", from).await.unwrap();
    let size = timeout(SOON, client.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer.get(..size), Some(&b"back"[..]));

    proxy.set(Direction::Up, Toxic::Loss(100));
    client.send(b"lost").await.unwrap();
    assert!(timeout(WHILE, server.recv_from(&mut buffer)).await.is_err());
    assert_eq!(proxy.counters().swallowed, 1);

    proxy.set(Direction::Up, Toxic::Slice(2));
    client.send(b"cut").await.unwrap();
    let (size, _) = timeout(SOON, server.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(buffer.get(..size), Some(&b"cu"[..]));

    let mean = Duration::from_millis(150);
    proxy.set(
        Direction::Up,
        Toxic::Latency {
            mean,
            jitter: Duration::ZERO,
        },
    );
    let begun = Instant::now();
    client.send(b"late").await.unwrap();
    timeout(SOON, server.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert!(begun.elapsed() >= mean);
}
