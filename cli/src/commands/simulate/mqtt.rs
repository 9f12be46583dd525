//! One device's line to the bridge over MQTT 5: QoS 1, sent again until it is acknowledged.
use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rmqtt_codec::{
    types::{Publish, QoS},
    v5::{self, Codec, Connect, ConnectAckReason, Packet, PublishAck, PublishAckReason, PublishProperties},
};
use std::{collections::BTreeMap, num::NonZeroU16, time::Duration};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::{codec::Framed, sync::CancellationToken};

/// Unacknowledged messages at most, if the bridge allows as many.
const WINDOW: usize = 64;
/// How long the bridge may take to greet.
const GREETING: Duration = Duration::from_secs(10);
/// Silence after which we say that we are here.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Between two attempts to connect, and before what was turned away for now is sent again.
const PAUSE: Duration = Duration::from_millis(500);
/// After the end, how long acknowledgements are waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What became of one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged.
    Accepted,
    /// Refused for good.
    Refused,
    /// Sent once more: not settled yet.
    Resent,
}

/// Where the line goes.
#[derive(Clone)]
pub struct Line {
    /// `host:port`.
    pub address: String,
    /// The device.
    pub user: String,
    /// Its secret.
    pub password: String,
    /// The session's name.
    pub client: String,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("address", &self.address)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// One message.
#[derive(Debug, Clone)]
pub struct Letter {
    /// `things/<thing>/readings`.
    pub topic: String,
    /// The publisher's own id.
    pub key: String,
    /// The payload, JSON or what is left of it.
    pub payload: Bytes,
}

/// What became of the letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Acknowledged.
    pub accepted: u64,
    /// Refused for good.
    pub refused: u64,
    /// Sent more than once.
    pub resent: u64,
    /// Given up at the end.
    pub lost: u64,
}

/// An open session.
pub type Wire = Framed<TcpStream, Codec>;

/// What is under way.
#[derive(Debug, Default)]
struct Desk {
    waiting: BTreeMap<NonZeroU16, Letter>,
    /// Turned away for now.
    later: Vec<(Instant, NonZeroU16)>,
    next: u16,
    count: Count,
    /// Who wants to hear of each letter, by its key.
    told: Option<mpsc::UnboundedSender<(String, Fate)>>,
}

impl Desk {
    fn take(&mut self, letter: Letter) -> NonZeroU16 {
        loop {
            self.next = self.next.wrapping_add(1);
            // Few are waiting, so a free number is near.
            if let Some(id) = NonZeroU16::new(self.next).filter(|id| !self.waiting.contains_key(id)) {
                self.waiting.insert(id, letter);
                return id;
            }
        }
    }

    fn acknowledged(&mut self, ack: &PublishAck) {
        match ack.reason_code {
            PublishAckReason::Success | PublishAckReason::NoMatchingSubscribers => {
                let letter = self.waiting.remove(&ack.packet_id);
                self.count.accepted += u64::from(letter.is_some());
                self.tell(letter, Fate::Accepted);
            }
            PublishAckReason::UnspecifiedError
            | PublishAckReason::ImplementationSpecificError
            | PublishAckReason::QuotaExceeded
            | PublishAckReason::PacketIdentifierInUse => {
                self.later.push((Instant::now() + PAUSE, ack.packet_id));
            }
            _ => {
                let letter = self.waiting.remove(&ack.packet_id);
                self.count.refused += u64::from(letter.is_some());
                self.tell(letter, Fate::Refused);
            }
        }
    }

    fn tell(&self, letter: Option<Letter>, fate: Fate) {
        if let (Some(told), Some(letter)) = (&self.told, letter) {
            // Whoever wanted to hear may have gone.
            told.send((letter.key, fate)).ok();
        }
    }

    fn resent(&mut self, letter: &Letter) {
        self.count.resent += 1;
        if self.told.is_some() {
            self.tell(Some(letter.clone()), Fate::Resent);
        }
    }
}

/// Sends what comes, until nothing comes any more and all of it is settled.
pub async fn run(line: Line, letters: mpsc::Receiver<Letter>, stop: CancellationToken) -> Count {
    run_telling(line, letters, stop, None).await
}

/// The same, and tells what became of each letter.
pub async fn run_telling(
    line: Line,
    mut letters: mpsc::Receiver<Letter>,
    stop: CancellationToken,
    told: Option<mpsc::UnboundedSender<(String, Fate)>>,
) -> Count {
    let mut desk = Desk {
        told,
        ..Desk::default()
    };
    let mut open = true;
    loop {
        match converse(&line, &mut letters, &mut desk, &mut open, &stop).await {
            Ok(()) => break,
            Err(error) => tracing::debug!("the line to the bridge broke: {error:#}"),
        }
        if stop.is_cancelled() || (!open && desk.waiting.is_empty()) {
            break;
        }
        time::sleep(PAUSE).await;
    }
    desk.count.lost = desk.waiting.len() as u64;
    desk.count
}

async fn converse(
    line: &Line,
    letters: &mut mpsc::Receiver<Letter>,
    desk: &mut Desk,
    open: &mut bool,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (mut wire, window) = connect(line).await?;
    desk.later.clear();
    let waiting: Vec<_> = desk
        .waiting
        .iter()
        .map(|(id, letter)| (*id, letter.clone()))
        .collect();
    for (id, letter) in waiting {
        desk.resent(&letter);
        wire.feed(publish(id, &letter, true)).await?;
    }
    wire.flush().await?;
    let mut beat = time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let mut last_words = None;
    while *open || !desk.waiting.is_empty() {
        if last_words.is_none() && (!*open || stop.is_cancelled()) {
            last_words = Some(Instant::now() + LAST_WORDS);
        }
        let due = desk.later.first().map(|(at, _)| *at);
        let until = |at: Option<Instant>| async move {
            match at {
                Some(at) => time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            letter = letters.recv(), if *open && desk.waiting.len() < window => match letter {
                Some(letter) => {
                    let id = desk.take(letter.clone());
                    wire.send(publish(id, &letter, false)).await?;
                }
                None => *open = false,
            },
            packet = wire.next() => match packet.context("the bridge hung up")?? {
                (Packet::PublishAck(ack), _) => desk.acknowledged(&ack),
                (Packet::Disconnect(_), _) => bail!("the bridge sent us away"),
                _ => {}
            },
            () = until(due) => {
                let (_, id) = desk.later.remove(0);
                if let Some(letter) = desk.waiting.get(&id).cloned() {
                    desk.resent(&letter);
                    wire.send(publish(id, &letter, true)).await?;
                }
            }
            _ = beat.tick() => wire.send(Packet::PingRequest).await?,
            () = until(last_words) => return Ok(()),
        }
    }
    wire.send(Packet::Disconnect(v5::Disconnect::default()))
        .await
        .ok();
    Ok(())
}

/// Opens a session; with how many unacknowledged messages it may have.
pub async fn connect(line: &Line) -> anyhow::Result<(Wire, usize)> {
    let greeting = async {
        let stream = TcpStream::connect(&line.address)
            .await
            .context("connect to the bridge")?;
        stream.set_nodelay(true)?;
        let mut wire = Framed::new(stream, Codec::new(1 << 20, 0));
        let connect = Connect {
            clean_start: true,
            keep_alive: 60,
            client_id: line.client.clone().into(),
            username: Some(line.user.clone().into()),
            password: Some(line.password.clone().into_bytes().into()),
            ..Connect::default()
        };
        wire.send(Packet::Connect(Box::new(connect))).await?;
        match wire.next().await.context("the bridge hung up")?? {
            (Packet::ConnectAck(ack), _) if ack.reason_code == ConnectAckReason::Success => {
                Ok((wire, WINDOW.min(ack.receive_max.get().into())))
            }
            (Packet::ConnectAck(ack), _) => bail!("the bridge does not let us in: {:?}", ack.reason_code),
            _ => bail!("the bridge does not speak MQTT 5"),
        }
    };
    time::timeout(GREETING, greeting)
        .await
        .context("the bridge does not greet")?
}

fn publish(id: NonZeroU16, letter: &Letter, again: bool) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: again,
        retain: false,
        qos: QoS::AtLeastOnce,
        topic: letter.topic.clone().into(),
        packet_id: Some(id),
        payload: letter.payload.clone(),
        properties: Some(PublishProperties {
            content_type: Some("application/json".into()),
            user_properties: vec![("id".into(), letter.key.clone().into())],
            ..PublishProperties::default()
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Accepts a session, and gives each message to `answer`; `None` hangs up.
    async fn serve(listener: &TcpListener, mut answer: impl FnMut(&Publish) -> Option<PublishAckReason>) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = Framed::new(stream, Codec::new(1 << 20, 0));
        let Some(Ok((Packet::Connect(connect), _))) = wire.next().await else {
            panic!("no greeting")
        };
        assert_eq!(connect.username.as_deref(), Some("simulator"));
        wire.send(Packet::ConnectAck(Box::default())).await.unwrap();
        while let Some(Ok((packet, _))) = wire.next().await {
            let Packet::Publish(publish) = packet else {
                continue;
            };
            let Some(reason_code) = answer(&publish) else {
                return;
            };
            let ack = PublishAck {
                packet_id: publish.packet_id.unwrap(),
                reason_code,
                properties: Vec::new(),
                reason_string: None,
            };
            wire.send(Packet::PublishAck(ack)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_letter_is_sent_again_until_it_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line {
            address: listener.local_addr().unwrap().to_string(),
            user: "simulator".into(),
            password: "secret".into(),
            client: "c".into(),
        };
        assert!(!format!("{line:?}").contains("secret"));
        let (give, letters) = mpsc::channel(8);
        for key in ["a", "b"] {
            let letter = Letter {
                topic: "things/t/readings".into(),
                key: key.into(),
                payload: Bytes::from_static(b"{}"),
            };
            give.send(letter).await.unwrap();
        }
        drop(give);
        let bridge = async {
            serve(&listener, |_| None).await;
            let mut turned_away = false;
            serve(&listener, |publish| {
                let key = &publish.properties.as_ref().unwrap().user_properties[0].1;
                Some(
                    match (key.as_ref() as &str, std::mem::replace(&mut turned_away, true)) {
                        ("a", false) => PublishAckReason::QuotaExceeded,
                        ("a", true) => PublishAckReason::Success,
                        _ => PublishAckReason::NotAuthorized,
                    },
                )
            })
            .await;
        };
        let run = run(line, letters, CancellationToken::new());
        let (count, ()) = time::timeout(Duration::from_secs(20), async { tokio::join!(run, bridge) })
            .await
            .unwrap();
        assert_eq!((count.accepted, count.refused, count.lost), (1, 1, 0));
        assert!(count.resent >= 2, "{count:?}");
    }
}
