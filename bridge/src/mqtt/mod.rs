//! MQTT 3.1.1 and 5, QoS 0 and 1: the endpoint that devices connect to.
//!
//! It is an intake, not a broker. Topics are those of [`crate::route`]. User name is the device, password its
//! secret; one connection may speak for every thing that its credential covers.
//!
//! | asked for | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | a message of QoS 1 | PUBACK after the broker's confirmation, reason code and text if refused | PUBACK after it; if refused, closed after 1 to 5 s |
//! | a message of QoS 0 | taken or dropped, and counted | the same |
//! | QoS 2, retain | DISCONNECT 0x9B, 0x9A (CONNACK says so before) | closed |
//! | a will | CONNACK 0x9A, 0x9B or 0x83 | CONNACK 5 |
//! | `things/{thing}/commands/+` or `…/#` | SUBACK 0x00 or 0x01: commands of that thing ([`crate::downlink`]) | the same |
//! | another filter, another's thing | SUBACK 0x8F, 0x87 | SUBACK 0x80 |
//! | an answer to a command that has ended | PUBACK 0x10 | PUBACK |
//! | user property `id`, Content Type | the message's id, how it is decoded | the id is ours; decoded by its first byte |
//! | more than 256 unconfirmed | DISCONNECT 0x93 | from 1 024 on nothing more is read |
//! | the same device and client id again | the older session: DISCONNECT 0x8E | closed |
//! | keep-alive | one and a half times, at most 90 minutes | the same |
//! | a session that outlives its connection | expiry 0 | session present 0 |
pub(crate) mod codec;
mod commands;
mod login;
pub(crate) mod packets;
mod reason;
mod registry;
mod session;

use crate::{Adapter, intake::Intake, metrics::Protocol};
use anyhow::Context as _;
use bytes::BytesMut;
use registry::Registry;
use session::Session;
use std::{net::IpAddr, sync::Arc};
use telltale_runtime::web::listen;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

/// Connections that have not said who they are.
const STRANGERS_MAX: usize = 1024;
/// What a stranger's buffer begins with.
const FIRST_BUFFER: usize = 512;

/// The MQTT adapter.
#[derive(Debug)]
pub struct Mqtt {
    /// Where devices connect.
    pub listener: TcpListener,
    /// Connections at once.
    pub connections_max: usize,
}

impl Adapter for Mqtt {
    const NAME: &'static str = "mqtt";

    async fn serve(self, intake: Intake, stop: CancellationToken) -> anyhow::Result<()> {
        let at = self.listener.local_addr().context("read the MQTT address")?;
        info!(%at, "MQTT devices connect to mqtt://{at}");
        let (registry, tasks) = (Registry::default(), TaskTracker::new());
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        let mut accept = listen::Accept::new(self.listener, self.connections_max);
        while let Some((stream, from, place)) = accept.next(&stop).await {
            let Ok(stranger) = strangers.clone().try_acquire_owned() else {
                intake.count_refused(Protocol::Mqtt, "strangers");
                continue;
            };
            let (intake, registry, stop) = (intake.clone(), registry.clone(), stop.clone());
            tasks.spawn(async move {
                connection(stream, from, intake, &registry, stranger, &stop).await;
                drop(place);
            });
        }
        listen::finish(&tasks).await;
        Ok(())
    }
}

async fn connection<S>(
    mut stream: S,
    from: IpAddr,
    intake: Intake,
    registry: &Registry,
    stranger: OwnedSemaphorePermit,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut buffer = BytesMut::with_capacity(FIRST_BUFFER);
    let login = tokio::select! {
        login = login::login(&mut stream, &mut buffer, from, &intake, registry) => login,
        () = stop.cancelled() => return,
    };
    drop(stranger);
    let login = match login {
        Ok(login) => login,
        Err(error) => return debug!(%from, "no MQTT session: {error}"),
    };
    let session = (intake.session(Protocol::Mqtt), intake.present(&login.ticket));
    let device = login.ticket.credential().device.clone();
    debug!(%from, device, "MQTT session of `{device}` begins");
    match Session::new(stream, buffer, login, intake).run(stop).await {
        Ok(end) => debug!(%from, device, ?end, "MQTT session of `{device}` ends"),
        Err(error) => debug!(%from, device, "MQTT session of `{device}` breaks off: {error}"),
    }
    drop(session);
}

#[cfg(test)]
mod tests;
