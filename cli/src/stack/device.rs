//! Devices that the stack itself brings, known to the bridge.
use super::Layout;
use crate::envfile;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs;
use telltale_bridge::credential::{self, Credential};
use telltale_nats::{Name, async_nats, client};

/// Whose credential is in `BRIDGE_TOKEN`.
const GATEWAY: &str = "gateway";
/// Whose credential is in `MQTT_USER` and `MQTT_PASSWORD`.
const SIMULATOR: &str = "simulator";

/// The devices that every stack brings.
#[derive(Debug)]
pub(super) struct Devices {
    gateway: Device,
    simulator: Device,
}

impl Devices {
    pub(super) fn load_or_make(layout: &Layout) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: Device::load_or_make(layout, GATEWAY)?,
            simulator: Device::load_or_make(layout, SIMULATOR)?,
        })
    }

    /// Lets the bridge know them.
    pub(super) async fn register(&self, client: &async_nats::Client) -> anyhow::Result<()> {
        self.gateway.register(client).await?;
        self.simulator.register(client).await
    }

    /// What `.telltale/env` says of them.
    pub(super) fn values(&self) -> [(&'static str, &str); 3] {
        [
            ("BRIDGE_TOKEN", &self.gateway.token),
            ("MQTT_USER", SIMULATOR),
            ("MQTT_PASSWORD", &self.simulator.secret),
        ]
    }
}

/// Lets the bridge know the devices that every stack brings.
pub async fn register(layout: &Layout, client: &async_nats::Client) -> anyhow::Result<()> {
    Devices::load_or_make(layout)?.register(client).await
}

/// A device that the stack itself brings, with its secret: kept, so that it stays the same.
#[derive(Serialize, Deserialize)]
struct Device {
    token: String,
    secret: String,
    credential: Credential,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("device", &self.credential.device)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// A device that may speak for every thing of the site, also of the past.
    fn load_or_make(layout: &Layout, name: &str) -> anyhow::Result<Self> {
        let path = layout.credentials().join(format!("{name}.device"));
        if path.is_file() {
            let named = || format!("read {}", path.display());
            return serde_json::from_slice(&fs::read(&path).with_context(named)?).with_context(named);
        }
        let (token, secret, credential) = credential::new_token(name);
        let credential = Credential {
            things: vec![credential::ANY_THING.to_owned()],
            gateway: true,
            backfill: true,
            ..credential
        };
        let device = Self {
            token,
            secret,
            credential,
        };
        envfile::write_private(&path, &serde_json::to_string(&device)?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(device)
    }

    /// Lets the bridge know it.
    async fn register(&self, client: &async_nats::Client) -> anyhow::Result<()> {
        let js = client::context(client.clone());
        let bucket = js
            .get_key_value(credential::BUCKET)
            .await
            .context("open the bucket `credentials`")?;
        let key = Name::new(self.credential.device.as_str())?;
        let value = serde_json::to_vec(&self.credential)?;
        if bucket
            .get(key.token())
            .await?
            .is_none_or(|there| there[..] != value[..])
        {
            bucket
                .put(key.token(), value.into())
                .await
                .context("write a credential")?;
        }
        Ok(())
    }
}
