//! Giving devices their credentials, and taking them away. The bridge follows the bucket: what ends here ends there
//! within moments, with every session that used it.
use super::{
    credential::{BUCKET, Credential, Hash},
    token,
};
use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    self,
    kv::{Operation, Store},
};
use telltale_nats::Name;

/// Attempts to write an entry while others write it too.
const CONTESTS_MAX: usize = 5;

/// What is to become of a credential; what is not said stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Give it a new secret.
    pub rotate: bool,
    /// With a new secret: the ones before end at once.
    pub alone: bool,
    /// The things that it may speak for, [`super::credential::ANY_THING`] for all of the site.
    pub things: Option<Vec<String>>,
    /// Whether it may bring packs that are split.
    pub gateway: Option<bool>,
    /// Whether its readings may be of any age.
    pub backfill: Option<bool>,
}

/// What became of it.
#[derive(Debug)]
pub struct Issued {
    /// The credential as it stands now.
    pub credential: Credential,
    /// The new secret, MQTT's password, where one was wished for. It exists nowhere else.
    pub secret: Option<String>,
    /// Whether there was no credential before.
    pub is_new: bool,
}

impl Issued {
    /// The bearer token for HTTP, where there is a new secret.
    pub fn token(&self) -> Option<String> {
        Some(token::join(&self.credential.device, self.secret.as_deref()?))
    }
}

/// The bucket.
pub async fn bucket(js: &jetstream::Context) -> anyhow::Result<Store> {
    js.get_key_value(BUCKET)
        .await
        .context("open the bucket `credentials`; `telltale provision` makes it")
}

/// The credential of a device, and the revision that it has.
pub async fn find(store: &Store, device: &Name) -> anyhow::Result<Option<(Credential, u64)>> {
    let entry = store.entry(device.token()).await.context("read a credential")?;
    let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
        return Ok(None);
    };
    let credential = serde_json::from_slice(&entry.value)
        .with_context(|| format!("read the credential of `{}`", device.plain()))?;
    Ok(Some((credential, entry.revision)))
}

/// Makes a device's credential what is wished; makes one where there is none. Without a new secret, an existing one.
pub async fn change(store: &Store, device: &Name, wish: &Wish) -> anyhow::Result<Issued> {
    let fresh = if wish.rotate {
        Some(tokio::task::spawn_blocking(Hash::fresh).await?)
    } else {
        None
    };
    for _ in 0..CONTESTS_MAX {
        let entry = store.entry(device.token()).await.context("read a credential")?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let before = match entry.filter(|entry| entry.operation == Operation::Put) {
            Some(entry) => {
                let read = serde_json::from_slice(&entry.value);
                Some(read.with_context(|| format!("read the credential of `{}`", device.plain()))?)
            }
            None => None,
        };
        let is_new = before.is_none();
        if is_new && fresh.is_none() {
            bail!(
                "`{}` has no credential: give it one with a new secret",
                device.plain()
            );
        }
        let mut credential = before.unwrap_or_else(|| Credential::of(device.plain()));
        if let Some(things) = &wish.things {
            credential.things.clone_from(things);
        }
        credential.gateway = wish.gateway.unwrap_or(credential.gateway);
        credential.backfill = wish.backfill.unwrap_or(credential.backfill);
        if let Some((_, hash)) = &fresh {
            credential.take(hash.clone(), wish.alone);
        }
        let value = serde_json::to_vec(&credential)?.into();
        // Only over what was looked at: two rotations at once are two rotations.
        match store.update(device.token(), value, revision).await {
            Ok(_) => {
                return Ok(Issued {
                    credential,
                    secret: fresh.map(|(secret, _)| secret),
                    is_new,
                });
            }
            Err(error) if error.kind() == jetstream::kv::UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(error).context("write a credential"),
        }
    }
    bail!(
        "others change the credential of `{}` all the time",
        device.plain()
    )
}

/// Takes a device's credential away; whether there was one. That there was is remembered, for the audit of those who
/// still use it.
pub async fn revoke(store: &Store, device: &Name) -> anyhow::Result<bool> {
    let entry = store.entry(device.token()).await.context("read a credential")?;
    let was_there = entry.is_some_and(|entry| entry.operation == Operation::Put);
    if was_there {
        store
            .delete(device.token())
            .await
            .context("take a credential away")?;
    }
    Ok(was_there)
}
