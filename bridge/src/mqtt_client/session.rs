//! One connection to the broker, from CONNECT to its end.
use super::{
    State,
    codec::{Codec, Hello, In, Welcome},
    commands::Commands,
    ids::Kept,
    window::Settled,
};
use crate::{
    intake::{Intake, cloudevent_key, fresh_key},
    keyring::Ticket,
    metrics::Protocol,
    mqtt::codec::said,
    route::{Route, RouteError},
    uplink::Uplink,
};
use anyhow::{Context as _, bail};
use bytes::BytesMut;
use futures::future::BoxFuture;
use rmqtt_codec::types::{Publish, QoS};
use std::{num::NonZeroU16, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long the broker may take to let us in, and to take what we write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Unacknowledged messages at which nothing more is read: MQTT 3.1.1 cannot tell a broker how many we take.
const UNREAD_FROM: usize = 1024;
/// How long a stopped bridge waits for NATS.
const DRAIN: Duration = Duration::from_secs(8);
/// Refusals are logged at most so often; all are counted.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Keeps what must be kept of the session; fails after a while, to be tried again.
pub(super) type Keep = Box<dyn Fn(Kept) -> BoxFuture<'static, (Kept, anyhow::Result<()>)> + Send + Sync>;

/// What a session works with.
pub(super) struct Session<'a, S> {
    stream: S,
    buffer: BytesMut,
    out: BytesMut,
    codec: Codec,
    ticket: Ticket,
    intake: &'a Intake,
    state: &'a mut State,
    commands: Commands,
    keep_alive: Duration,
    heard: Instant,
    logged: Option<Instant>,
    unlogged: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Session<'a, S> {
    /// Says CONNECT, and is let in.
    pub(super) async fn open(
        stream: S,
        codec: Codec,
        hello: Hello,
        ticket: Ticket,
        intake: &'a Intake,
        state: &'a mut State,
    ) -> anyhow::Result<Self> {
        let mut session = Self {
            stream,
            buffer: BytesMut::new(),
            out: BytesMut::new(),
            codec,
            ticket,
            intake,
            state,
            commands: Commands::new(intake),
            keep_alive: Duration::ZERO,
            heard: Instant::now(),
            logged: None,
            unlogged: 0,
        };
        session.codec.connect(hello, &mut session.out);
        let welcome = timeout(PATIENCE, session.welcome())
            .await
            .context("the broker does not answer CONNECT")??;
        session.codec.welcomed(&welcome);
        session.keep_alive = Duration::from_secs(welcome.keep_alive_s.max(1).into());
        session.state.window.connected(welcome.knows_us);
        if !welcome.knows_us {
            session.state.ids.begin_anew();
        }
        let (ticket, heard) = (&session.ticket, &session.state.heard);
        session.commands.begin(ticket, heard, welcome.receive_max);
        // Whether or not it knows us: the bridge may have been killed before it had subscribed.
        session.codec.subscribe(&mut session.out);
        Ok(session)
    }

    async fn welcome(&mut self) -> anyhow::Result<Welcome> {
        self.write().await?;
        loop {
            match self.codec.decode(&mut self.buffer)? {
                Some(In::Welcome(welcome)) => return Ok(welcome),
                Some(_) => bail!("the broker breaks the protocol: there was no CONNACK yet"),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await;
        taken(read)
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        timeout(PATIENCE, self.stream.write_all_buf(&mut self.out))
            .await
            .context("the broker does not read")?
            .context("write to the broker")
    }

    /// Serves until it ends; `Ok` where it was stopped. `ready` is called once the broker gives us what we asked for.
    pub(super) async fn run(
        mut self,
        keep: &Keep,
        ready: impl Fn(),
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut keeping: Option<BoxFuture<'static, (Kept, anyhow::Result<()>)>> = None;
        let mut ping = self.heard + self.keep_alive;
        loop {
            self.decode(&ready)?;
            let unkept = self.state.ids.unstored();
            match unkept {
                None => self.state.window.offer(self.intake),
                Some(kept) if keeping.is_none() => keeping = Some(keep(kept)),
                Some(_) => {}
            }
            self.write().await?;
            self.intake.waiting(self.state.window.len());
            let has_room = self.state.window.len() < UNREAD_FROM;
            let pause = self.state.window.pause();
            tokio::select! {
                biased;
                () = self.ticket.revoked() => bail!("the credential `{}` is no longer valid", self.ticket.credential().device),
                () = stop.cancelled() => return self.drain().await,
                settled = self.state.window.settled() => self.settle(settled)?,
                (kept, result) = wait(&mut keeping) => {
                    keeping = None;
                    match result {
                        Ok(()) => self.state.ids.stored(kept),
                        Err(error) => warn!("the session at the broker cannot be kept, so nothing more is taken: {error:#}"),
                    }
                }
                () = until(pause) => {}
                read = self.stream.read_buf(&mut self.buffer), if has_room => {
                    taken(read)?;
                    self.heard = Instant::now();
                }
                errand = self.commands.next() => self.commands.give(errand, &mut self.codec, &mut self.out),
                () = sleep_until(ping) => {
                    // While nothing is read, an answer would go unseen.
                    if has_room && self.heard.elapsed() > self.keep_alive.mul_f32(1.5) {
                        bail!("the broker is silent");
                    }
                    self.codec.ping(&mut self.out);
                    ping = Instant::now() + self.keep_alive.mul_f32(0.5);
                }
            }
        }
    }

    /// Takes what has arrived whole, as long as there is room for it.
    fn decode(&mut self, ready: &impl Fn()) -> anyhow::Result<()> {
        while self.state.window.len() < UNREAD_FROM {
            let Some(packet) = self.codec.decode(&mut self.buffer)? else {
                return Ok(());
            };
            match packet {
                In::Publish(publish) => self.publish(*publish)?,
                In::PubAck(id, code) => self.commands.confirmed(id, code),
                In::SubAck(true) => {
                    info!("the broker gives us what is said on our topics");
                    ready();
                }
                In::SubAck(false) => bail!("the broker does not let us subscribe to our topics with QoS 1"),
                In::Pong => {}
                In::Welcome(_) => bail!("the broker breaks the protocol with a second CONNACK"),
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish) -> anyhow::Result<()> {
        if publish.qos == QoS::ExactlyOnce {
            bail!("the broker breaks the protocol: QoS 2 was not granted");
        }
        let packet = publish.packet_id;
        // Delivered again though it is on its way: one answer serves both.
        if packet.is_some_and(|packet| self.state.window.holds(packet)) {
            return Ok(());
        }
        if publish.retain {
            // Kept by the broker from before; what is said now comes without that mark.
            self.refuse(packet, "retained");
            return Ok(());
        }
        let route = match Route::parse(&publish.topic) {
            Ok(route) => route,
            Err(error) => {
                let shown: String = publish.topic.chars().take(200).collect();
                self.log(&shown, &text(&error));
                self.refuse(packet, "name");
                return Ok(());
            }
        };
        let (content_type, key) = publish.properties.as_ref().map(said).unwrap_or_default();
        let key = key
            .or_else(|| cloudevent_key(content_type.as_deref(), &publish.payload))
            .unwrap_or_else(|| self.own_key(packet, &publish));
        let uplink = Uplink {
            ticket: self.ticket.clone(),
            protocol: Protocol::MqttClient,
            route,
            content_type,
            key: Some(key),
            payload: publish.payload,
        };
        self.state.window.push(packet, uplink);
        Ok(())
    }

    fn own_key(&mut self, packet: Option<NonZeroU16>, publish: &Publish) -> String {
        let Some(packet) = packet else {
            // QoS 0 comes once or never.
            return fresh_key();
        };
        let State { ids, window, .. } = &mut *self.state;
        ids.key(
            packet,
            publish.dup,
            &publish.topic,
            &publish.payload,
            window.packets(),
        )
    }

    fn refuse(&mut self, packet: Option<NonZeroU16>, reason: &'static str) {
        self.intake.count_refused(Protocol::MqttClient, reason);
        if let Some(packet) = packet {
            self.state.window.push_done(packet);
        }
    }

    fn settle(&mut self, settled: Settled) -> anyhow::Result<()> {
        for packet in settled.packets {
            self.codec.ack(packet, &mut self.out);
        }
        for thing in &settled.heard {
            self.commands.heard(&self.ticket, thing, &mut self.state.heard);
        }
        for (thing, refusal) in settled.refused {
            self.log(&thing, &refusal.to_string());
        }
        if settled.is_revoked {
            bail!(
                "the credential `{}` is no longer valid",
                self.ticket.credential().device
            );
        }
        Ok(())
    }

    /// Says what was refused, but not for each message of a flood.
    fn log(&mut self, of: &str, why: &str) {
        if self.logged.is_some_and(|last| last.elapsed() < LOG_PAUSE) {
            self.unlogged += 1;
            return;
        }
        self.logged = Some(Instant::now());
        let more = std::mem::take(&mut self.unlogged);
        warn!(
            of,
            more, "a message from the broker about `{of}` is refused and acknowledged: {why}"
        );
    }

    /// Nothing more is read; what NATS has confirmed is still acknowledged. The session stays at the broker.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = sleep(DRAIN);
        tokio::pin!(deadline);
        while self.state.window.is_busy() {
            tokio::select! {
                () = &mut deadline => break,
                settled = self.state.window.settled() => self.settle(settled)?,
            }
            self.write().await?;
        }
        self.codec.leave(&mut self.out);
        self.write().await
    }
}

fn taken(read: std::io::Result<usize>) -> anyhow::Result<()> {
    if read.context("read from the broker")? == 0 {
        bail!("the broker has closed the connection");
    }
    Ok(())
}

fn text(error: &RouteError) -> String {
    match error {
        RouteError::Unknown => "no such topic".to_owned(),
        RouteError::Name => error.to_string(),
    }
}

async fn wait<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
