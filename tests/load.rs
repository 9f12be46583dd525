//! Devices that do not give up: each reading has an id of its own and is sent again until somebody says "accepted".
use crate::http;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::{
    types::{Publish, QoS},
    v5::{Codec, Connect, ConnectAckReason, Packet, PublishAckReason, PublishProperties},
};
use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU16,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

/// One reading to bring in.
#[derive(Debug, Clone)]
pub struct Load {
    /// The thing.
    pub thing: String,
    /// The publisher's key.
    pub key: String,
    /// The payload.
    pub payload: Bytes,
}

/// How a run went.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sent {
    /// Accepted in the end; all of them.
    pub accepted: usize,
    /// Sent again.
    pub again: usize,
}

/// How long a connection may stay silent before it is made anew.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Brings all of it in over HTTP, with that many connections, one request after the other on each.
pub fn over_http(client: &http::Client, loads: &[Load], connections: usize) -> Sent {
    let (next, again) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..connections {
            let client = client.clone();
            let (next, again) = (&next, &again);
            scope.spawn(move || {
                while let Some(load) = loads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = format!("/things/{}/readings", load.thing);
                    let headers = [
                        ("Idempotency-Key", load.key.as_str()),
                        ("Content-Type", "application/json"),
                    ];
                    while !client
                        .post(&path, &headers, &load.payload)
                        .is_ok_and(|answer| answer.status == 202)
                    {
                        again.fetch_add(1, Ordering::Relaxed);
                        std::thread::park_timeout(PAUSE);
                    }
                }
            });
        }
    });
    Sent {
        accepted: loads.len(),
        again: again.into_inner(),
    }
}

/// Brings all of it in over one MQTT 5 connection at a time, with a window of unacknowledged publishes.
///
/// # Panics
/// When the bridge refuses the credential, or a reading for another reason than an outage.
pub async fn over_mqtt(address: &str, user: &str, password: &str, loads: &[Load], window: usize) -> Sent {
    let mut waiting: VecDeque<usize> = (0..loads.len()).collect();
    let mut sent = Sent::default();
    while !waiting.is_empty() {
        let mut in_flight: HashMap<u16, usize> = HashMap::new();
        // Whatever ends the session, what was not acknowledged is sent again on the next.
        let session = session(
            address,
            user,
            password,
            loads,
            window,
            &mut waiting,
            &mut in_flight,
            &mut sent,
        );
        if session.await.is_none() {
            sent.again += in_flight.len();
            for index in in_flight.into_values() {
                waiting.push_front(index);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    sent
}

#[expect(
    clippy::too_many_arguments,
    reason = "the state that outlives a session is its caller's"
)]
async fn session(
    address: &str,
    user: &str,
    password: &str,
    loads: &[Load],
    window: usize,
    waiting: &mut VecDeque<usize>,
    in_flight: &mut HashMap<u16, usize>,
    sent: &mut Sent,
) -> Option<()> {
    let mut stream = timeout(SILENCE, TcpStream::connect(address)).await.ok()?.ok()?;
    let codec = &mut Codec::new(1 << 20, 1 << 20);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let connect = Connect {
        client_id: format!("load-{:?}", std::thread::current().id())
            .replace(['(', ')'], "")
            .into(),
        username: Some(user.to_owned().into()),
        password: Some(password.to_owned().into()),
        keep_alive: 60,
        clean_start: true,
        ..Connect::default()
    };
    codec
        .encode(Packet::Connect(Box::new(connect)), &mut output)
        .ok()?;
    let mut packet_id = 0u16;
    let mut connected = false;
    loop {
        while connected && in_flight.len() < window {
            let Some(index) = waiting.pop_front() else { break };
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            in_flight.insert(packet_id, index);
            codec
                .encode(publish(&loads[index], packet_id), &mut output)
                .ok()?;
        }
        if connected && in_flight.is_empty() {
            return Some(());
        }
        stream.write_all_buf(&mut output).await.ok()?;
        if timeout(SILENCE, stream.read_buf(&mut input)).await.ok()?.ok()? == 0 {
            return None;
        }
        while let Some((packet, _)) = codec.decode(&mut input).ok()? {
            match packet {
                Packet::ConnectAck(ack) if ack.reason_code == ConnectAckReason::Success => connected = true,
                Packet::PublishAck(ack) if ack.reason_code == PublishAckReason::Success => {
                    in_flight.remove(&ack.packet_id.get());
                    sent.accepted += 1;
                }
                Packet::PublishAck(ack) => {
                    let index = in_flight.remove(&ack.packet_id.get())?;
                    waiting.push_front(index);
                    sent.again += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                _ => return None,
            }
        }
    }
}

fn publish(load: &Load, packet_id: u16) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: false,
        retain: false,
        qos: QoS::AtLeastOnce,
        topic: format!("things/{}/readings", load.thing).into(),
        packet_id: NonZeroU16::new(packet_id),
        payload: load.payload.clone(),
        properties: Some(PublishProperties {
            content_type: Some("application/json".into()),
            user_properties: vec![("id".into(), load.key.clone().into())],
            ..PublishProperties::default()
        }),
    }))
}
