//! The bridge: devices speak their protocol, and what they say becomes messages on `raw` and `event`.
//!
//! An adapter does three things: it parses its protocol into an [`Uplink`](uplink::Uplink), awaits
//! [`Intake::accept`](intake::Intake::accept), and says the [`Receipt`](uplink::Receipt) in its own tongue. A
//! device is told "accepted" only after the broker's confirmation.
//!
//! | module | holds |
//! |---|---|
//! | [`intake`] | identity, rights, sizes, ids: once for all protocols |
//! | [`credential`], [`keyring`] | what devices prove themselves with, and the watched copy of it |
//! | [`route`], [`uplink`] | what is brought, where to, and the receipt |
//! | [`downlink`] | commands to devices, and what they answer: once for all protocols |
//! | [`outbox`] | publishing in groups, receipts after the confirmation |
//! | `presence`, `notes` | what the bridge tells of its own: who was refused, who is there |
//! | [`http`], [`mqtt`], `mqtt_client` | the adapters |

pub mod downlink;
pub mod http;
pub mod intake;
pub mod keyring;
mod media;
pub mod metrics;
pub mod mqtt;
pub(crate) mod mqtt_client;
mod notes;
pub mod outbox;
mod pace;
mod pack;
mod presence;
mod process;
pub mod route;
#[cfg(test)]
mod testing;
pub mod uplink;

use intake::Intake;
pub use process::{command, run};
use std::future::Future;
pub use telltale_runtime::identity::credential;
use tokio_util::sync::CancellationToken;

/// A protocol that devices speak.
pub trait Adapter: Sized + Send + 'static {
    /// Its name, in logs.
    const NAME: &'static str;

    /// Serves until stopped, then finishes what is in hand within ten seconds.
    fn serve(
        self,
        intake: Intake,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}
