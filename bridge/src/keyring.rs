//! Who may come in: credentials read from their bucket at first sight, kept by watch, proven once.
mod held;

use crate::credential::Credential;
use futures::StreamExt as _;
pub use held::Ticket;
use held::{Held, Known};
use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};
use telltale_nats::{
    Name,
    async_nats::jetstream::{
        self,
        kv::{Entry, Operation, Store},
    },
};
use telltale_runtime::identity::guard::Guard;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a login may wait for the broker or for its turn to be verified.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reads of one credential that changes all the time, before its device is told to wait.
const READS_MAX: usize = 3;
/// Pause before the watch is opened again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// Why nobody came in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such device, or another secret; which of them is told to nobody outside.
    #[error("device and secret do not match")]
    Wrong(Why),
    /// Too many wrong guesses from there.
    #[error("too many attempts")]
    Slowed(Duration),
    /// The bucket cannot be read, or too many verify at once.
    #[error("credentials cannot be checked now")]
    Busy,
}

/// What exactly was wrong, for metrics and audit alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No name, or no secret.
    Missing,
    /// No credential of that name, as far as we know there never was.
    Unknown,
    /// There was a credential of that name.
    Revoked,
    /// There is one, and that is none of its secrets.
    Secret,
}

impl Why {
    /// For metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Secret => "secret",
        }
    }
}

/// The credentials of the site.
#[derive(Debug)]
pub struct Keyring {
    store: RwLock<Option<Store>>,
    known: Mutex<Known>,
    guard: Guard,
    verifying: Arc<Semaphore>,
}

impl Keyring {
    /// Empty, and away until [`Keyring::watch`] has found the bucket.
    pub(crate) fn new() -> Self {
        // Argon2 takes 19 MiB and a core: never more at once than there are cores.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            store: RwLock::new(None),
            known: Mutex::new(Known::new()),
            guard: Guard::new(),
            verifying: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Checks a device's secret. A secret that was right before is not slowed by anybody's guesses.
    pub async fn login(&self, device: &str, secret: &[u8], from: IpAddr) -> Result<Ticket, LoginError> {
        if device.is_empty() || secret.is_empty() {
            return Err(LoginError::Wrong(Why::Missing));
        }
        // What is no name is nobody's, and nothing is to be remembered of it: it may be long.
        if Name::new(device).is_err() {
            return Err(LoginError::Wrong(Why::Unknown));
        }
        let cached = self.known().find(device);
        if let Some(held) = cached
            && let Some(proven) = held.proven_by(secret)
        {
            return Ok(Ticket::new(held, proven, from));
        }
        self.guard
            .take(device, from, Instant::now())
            .map_err(LoginError::Slowed)?;
        let checked = tokio::time::timeout(PATIENCE, self.check(device, secret, from))
            .await
            .unwrap_or(Err(LoginError::Busy));
        if !matches!(checked, Err(LoginError::Wrong(_))) {
            self.guard.give_back(device, from);
        }
        checked
    }

    async fn check(&self, device: &str, claimed: &[u8], from: IpAddr) -> Result<Ticket, LoginError> {
        let held = self.held(device).await?;
        let turn = self
            .verifying
            .clone()
            .acquire_owned()
            .await
            .expect("never closed");
        // Others may have proven the same secret while this one waited for its turn.
        if let Some(proven) = held.proven_by(claimed) {
            return Ok(Ticket::new(held, proven, from));
        }
        let (copy, valid) = (claimed.to_vec(), held.valid());
        let right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            valid.into_iter().find(|secret| secret.verify(&copy))
        })
        .await
        .map_err(|_| LoginError::Busy)?;
        match right {
            Some(secret) if secret.is_revoked() => Err(LoginError::Wrong(Why::Revoked)),
            Some(secret) => Ok(Ticket::new(held, secret, from)),
            None => Err(LoginError::Wrong(Why::Secret)),
        }
    }

    async fn held(&self, device: &str) -> Result<Arc<Held>, LoginError> {
        if let Some(held) = self.known().find(device) {
            return Ok(held);
        }
        let name = Name::new(device).map_err(|_| LoginError::Wrong(Why::Unknown))?;
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        let store = store.ok_or(LoginError::Busy)?;
        for _ in 0..READS_MAX {
            let entry = store.entry(name.token()).await.map_err(|error| {
                warn!(%error, "cannot read the bucket of credentials");
                LoginError::Busy
            })?;
            let entry = entry.ok_or(LoginError::Wrong(Why::Unknown))?;
            if entry.operation != Operation::Put {
                return Err(LoginError::Wrong(Why::Revoked));
            }
            let credential = read(&entry, &name).ok_or(LoginError::Wrong(Why::Unknown))?;
            let mut known = self.known();
            // The watch may have told of a newer one while this was on its way.
            if known.is_overtaken(device, entry.revision) {
                continue;
            }
            if let Some(other) = known
                .find(device)
                .filter(|other| other.revision() == entry.revision)
            {
                return Ok(other);
            }
            let held = Arc::new(Held::new(credential, entry.revision));
            known.keep(&held);
            return Ok(held);
        }
        Err(LoginError::Busy)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the bucket until stopped; `report` learns whether it can be followed, and why not.
    pub async fn watch(
        &self,
        context: &jetstream::Context,
        report: impl Fn(Result<(), String>),
        stop: &CancellationToken,
    ) {
        loop {
            let following = self.follow(context, &report);
            tokio::select! {
                () = stop.cancelled() => return,
                Err(error) = following => {
                    warn!("cannot follow the bucket of credentials: {error:#}");
                    report(Err("the bucket `credentials` cannot be followed".into()));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_RETRY) => {}
            }
        }
    }

    async fn follow(
        &self,
        context: &jetstream::Context,
        report: impl Fn(Result<(), String>),
    ) -> anyhow::Result<std::convert::Infallible> {
        let store = context.get_key_value(crate::credential::BUCKET).await?;
        let mut changes = store.watch_all().await?;
        self.known().forget_told();
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        self.recheck(&store).await?;
        report(Ok(()));
        info!("following the bucket of credentials");
        while let Some(change) = changes.next().await {
            self.heed(&change?);
        }
        anyhow::bail!("the watch has ended")
    }

    /// What changed while nothing was watched.
    async fn recheck(&self, store: &Store) -> anyhow::Result<()> {
        let devices = self.known().devices();
        for device in devices {
            let Ok(name) = Name::new(device.as_str()) else {
                continue;
            };
            let entry = store.entry(name.token()).await?;
            let found = entry
                .as_ref()
                .and_then(|entry| Some((read(entry, &name)?, entry.revision)));
            let found = found
                .as_ref()
                .map(|(credential, revision)| (credential, *revision));
            self.known().revise(&device, found);
        }
        Ok(())
    }

    fn heed(&self, change: &Entry) {
        let Ok(name) = Name::from_token(&change.key) else {
            return;
        };
        let mut known = self.known();
        known.tell(name.plain(), change.revision);
        // Most are nobody's yet; and a read may have been faster than the watch.
        let is_news = known
            .find(name.plain())
            .is_some_and(|held| held.revision() < change.revision);
        if is_news {
            let found = read(change, &name);
            known.revise(
                name.plain(),
                found.as_ref().map(|credential| (credential, change.revision)),
            );
        }
    }
}

/// What the bucket holds under that name; nothing if it is deleted, no credential, or another device's.
fn read(entry: &Entry, name: &Name) -> Option<Credential> {
    if entry.operation != Operation::Put {
        return None;
    }
    let credential: Credential = serde_json::from_slice(&entry.value)
        .inspect_err(|error| warn!(device = %name, %error, "the credential of `{name}` cannot be read"))
        .ok()?;
    if credential.device != name.plain() {
        warn!(device = %name, "the credential under `{name}` is another device's");
        return None;
    }
    Some(credential)
}

#[cfg(test)]
impl Keyring {
    /// Holds those, from no bucket.
    pub(crate) fn of(credentials: impl IntoIterator<Item = Credential>) -> Self {
        let keyring = Self::new();
        for credential in credentials {
            keyring.known().keep(&Arc::new(Held::new(credential, 1)));
        }
        keyring
    }

    /// As if the bucket had lost it.
    pub(crate) fn revoke(&self, device: &str) {
        self.known().revise(device, None);
    }

    /// As if the bucket held that now.
    pub(crate) fn revise(&self, credential: &Credential) {
        self.known().revise(&credential.device, Some((credential, 2)));
    }
}
