//! A client of an MQTT broker that a site already has (ADR 0027). Devices stay where they are; what they say on our topics there is taken
//! from that broker, and commands are given to it.
//!
//! | from the broker | what becomes of it |
//! |---|---|
//! | `things/{thing}/readings`, `things/{thing}/events/{name}`, `things/{thing}/outcomes/{id}`, `readings` | as over our own endpoint, under the credential that the operator named; PUBACK once NATS has confirmed it |
//! | NATS away or full, a thing too fast | held, and offered again; the broker keeps the rest, as much as its window and its queue hold |
//! | no name, too large, not covered by the credential | refused: counted, logged, and acknowledged, or it would come again for ever |
//! | a retained message | left out: it was said before |
//! | QoS 0 | taken; lost with us |
//!
//! "Accepted" is the broker's word to its devices, and that message is as safe as that broker keeps it until we have it.
mod codec;
mod commands;
mod ids;
mod session;
mod settings;
mod window;

use crate::{
    Adapter,
    intake::Intake,
    keyring::{LoginError, Ticket},
    metrics::Protocol,
};
use anyhow::{Context as _, bail};
use codec::{Codec, Hello};
use commands::Heard;
use futures::FutureExt as _;
use ids::{Ids, Kept};
use session::{Keep, Session};
pub(crate) use settings::Settings;
use settings::Told;
use std::{net::IpAddr, sync::Arc, time::Duration};
use telltale_nats::{
    Name,
    async_nats::jetstream::{Context, kv::Store},
};
use telltale_runtime::health::Check;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use window::Window;

/// The bucket that keeps what must be known of the session.
const BUCKET: &str = "sessions";
/// How long the broker may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the first new attempt; twice as long each time, less up to a half.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest of these pauses.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// A connection that lasted so long was a good one: the next attempt comes soon.
const STEADY: Duration = Duration::from_secs(10);

/// The adapter.
#[derive(Debug)]
pub(crate) struct MqttClient {
    told: Told,
    client_id: String,
    context: Context,
    check: Check,
}

/// What outlives a connection.
#[derive(Debug)]
struct State {
    ids: Ids,
    window: Window,
    heard: Heard,
}

impl MqttClient {
    /// What the settings ask for; nothing without a URL.
    pub(crate) fn new(
        settings: Settings,
        site: &Name,
        is_insecure: bool,
        context: Context,
        check: impl FnOnce() -> Check,
    ) -> anyhow::Result<Option<Self>> {
        let Some(told) = settings.read(is_insecure)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            client_id: told
                .client_id
                .clone()
                .unwrap_or_else(|| format!("telltale-{}", site.token())),
            told,
            context,
            check: check(),
        }))
    }

    /// Where the bucket keeps our session. No thing's token has a dot.
    fn key(&self) -> anyhow::Result<String> {
        let name = Name::new(&*self.client_id).context("use the client id as a name")?;
        Ok(format!("mqtt_client.{}", name.token()))
    }

    /// Connects once, and serves until that ends. `Ok` where it was stopped.
    async fn connection(
        &self,
        state: &mut Option<State>,
        intake: &Intake,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let store = self.context.get_key_value(BUCKET).await;
        let store = store.context("open the bucket `sessions`")?;
        let key = self.key()?;
        if state.is_none() {
            *state = Some(State {
                ids: Ids::new(&self.client_id, found(&store, &key).await?),
                window: Window::default(),
                heard: Heard::default(),
            });
        }
        let Some(state) = state else { return Ok(()) };
        let at = (&*self.told.host, self.told.port);
        let stream = timeout(PATIENCE, TcpStream::connect(at)).await;
        let stream = stream
            .context("no answer in time")?
            .context("connect to the broker")?;
        stream.set_nodelay(true).context("set the connection up")?;
        let from = stream.peer_addr().context("read the broker's address")?.ip();
        let ticket = self.ticket(intake, from).await?;
        let hello = Hello {
            client_id: self.client_id.clone(),
            user: self.told.user.clone(),
            password: self.told.password.clone(),
        };
        let codec = Codec::new(self.told.version);
        let session = Session::open(stream, codec, hello, ticket, intake, state).await?;
        let gauge = intake.session(Protocol::MqttClient);
        let served = session
            .run(&keep(store, key), || self.check.set_ready(), stop)
            .await;
        drop(gauge);
        served
    }

    async fn ticket(&self, intake: &Intake, from: IpAddr) -> anyhow::Result<Ticket> {
        let (device, secret) = (&self.told.device, self.told.secret.as_bytes());
        loop {
            match intake.login(Protocol::MqttClient, device, secret, from).await {
                Ok(ticket) if ticket.credential().gateway => return Ok(ticket),
                Ok(_) => bail!(
                    "the credential `{device}` is not a gateway's: make one with `telltale thing credentials NAME --rotate --gateway`"
                ),
                // The bridge has only just begun.
                Err(LoginError::Busy) => sleep(AGAIN).await,
                Err(error) => return Err(error).with_context(|| format!("use the credential `{device}`")),
            }
        }
    }
}

impl Adapter for MqttClient {
    const NAME: &'static str = "mqtt_client";

    async fn serve(self, intake: Intake, stop: CancellationToken) -> anyhow::Result<()> {
        let at = format!("{}:{}", self.told.host, self.told.port);
        let mut state = None;
        let mut pause = AGAIN;
        loop {
            let begun = Instant::now();
            info!(
                at,
                client_id = self.client_id,
                "connecting to the MQTT broker at {at}"
            );
            let error = tokio::select! {
                // Once it serves it ends by itself, after what is in hand.
                biased;
                served = self.connection(&mut state, &intake, &stop) => match served {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                () = async { stop.cancelled().await; sleep(PATIENCE).await } => return Ok(()),
            };
            warn!(at, "no connection to the MQTT broker at {at}: {error:#}");
            self.check
                .set_unready(format!("no connection to the MQTT broker at {at}: {error:#}"));
            if begun.elapsed() > STEADY {
                pause = AGAIN;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
            }
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

async fn found(store: &Store, key: &str) -> anyhow::Result<Option<Kept>> {
    let found = store.get(key).await.context("read the bucket `sessions`")?;
    let parse = |bytes: &bytes::Bytes| serde_json::from_slice(bytes);
    let found = found.as_ref().map(parse).transpose();
    found.with_context(|| format!("understand what stands under `{key}` in the bucket `sessions`"))
}

/// Puts it into the bucket.
fn keep(store: Store, key: String) -> Keep {
    let store = Arc::new((store, key));
    Box::new(move |kept| {
        let store = store.clone();
        let put = async move {
            let value = serde_json::to_vec(&kept).unwrap_or_default();
            let put = store.0.put(&*store.1, value.into()).await;
            if put.is_err() {
                sleep(AGAIN).await;
            }
            (kept, put.map(drop).context("write to the bucket `sessions`"))
        };
        put.boxed()
    })
}

#[cfg(test)]
mod tests;
