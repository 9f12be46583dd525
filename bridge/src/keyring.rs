//! Who may come in: credentials read from their bucket at first sight, kept by watch, proven once.
use crate::{credential::Credential, guard::Guard};
use futures::StreamExt as _;
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use telltale_nats::{
    Name,
    async_nats::jetstream::{
        self,
        kv::{Entry, Operation, Store},
    },
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Credentials kept though nobody with them is connected.
const CACHED: NonZeroUsize = NonZeroUsize::new(10_000).expect("ten thousand is not zero");
/// How long a login may wait for the broker or for its turn to be verified.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reads of one credential that changes all the time, before its device is told to wait.
const READS_MAX: usize = 3;
/// Pause before the watch is opened again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// A credential that was read, for as long as the bucket holds the same.
#[derive(Debug)]
struct Held {
    credential: Credential,
    revision: u64,
    /// SHA-256 of the secret that was proven against the hash: argon2 runs once, not for each request.
    proven: OnceLock<[u8; 32]>,
    revoked: CancellationToken,
}

impl Held {
    fn is_proven_by(&self, secret: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        self.proven
            .get()
            .is_some_and(|proven| proven.ct_eq(&digest).into())
    }
}

/// A device that has proven who it is. It goes stale when its credential is changed or deleted.
#[derive(Debug, Clone)]
pub struct Ticket(Arc<Held>);

impl Ticket {
    /// What it may do.
    pub fn credential(&self) -> &Credential {
        &self.0.credential
    }

    /// Whether the credential has changed since.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.is_cancelled()
    }

    /// Returns when the credential has changed.
    pub async fn revoked(&self) {
        self.0.revoked.cancelled().await;
    }
}

/// Why nobody came in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such device, or another secret; which of them is nobody's business.
    #[error("device and secret do not match")]
    Wrong,
    /// Too many wrong guesses from there.
    #[error("too many attempts")]
    Slowed(Duration),
    /// The bucket cannot be read, or too many verify at once.
    #[error("credentials cannot be checked now")]
    Busy,
}

#[derive(Debug)]
struct Known {
    cached: LruCache<String, Arc<Held>>,
    /// All that anybody still holds, whether cached or not: the watch must find them.
    live: HashMap<String, Weak<Held>>,
    /// The newest revisions that the watch has told, against a read that it has overtaken.
    told: LruCache<String, u64>,
    /// How long `live` may grow before the dead are taken out.
    live_max: usize,
}

impl Known {
    fn find(&mut self, device: &str) -> Option<Arc<Held>> {
        if let Some(held) = self.cached.get(device) {
            return Some(held.clone());
        }
        let held = self.live.get(device)?.upgrade()?;
        self.cached.put(device.to_owned(), held.clone());
        Some(held)
    }

    fn keep(&mut self, held: &Arc<Held>) {
        let device = &held.credential.device;
        if self.live.len() >= self.live_max {
            self.live.retain(|_, weak| weak.strong_count() > 0);
            self.live_max = CACHED.get().max(self.live.len()) * 2;
        }
        self.live.insert(device.clone(), Arc::downgrade(held));
        self.cached.put(device.clone(), held.clone());
    }

    /// Forgets what the bucket no longer holds at that revision.
    fn revise(&mut self, device: &str, revision: Option<u64>) {
        if let Some(held) = self.find(device)
            && Some(held.revision) != revision
        {
            held.revoked.cancel();
            self.cached.pop(device);
            self.live.remove(device);
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
            known: Mutex::new(Known {
                cached: LruCache::new(CACHED),
                live: HashMap::new(),
                told: LruCache::new(CACHED),
                live_max: 2 * CACHED.get(),
            }),
            guard: Guard::new(),
            verifying: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Checks a device's secret. A secret that was right before is not slowed by anybody's guesses.
    pub async fn login(&self, device: &str, secret: &[u8], from: IpAddr) -> Result<Ticket, LoginError> {
        let cached = self.known().find(device);
        if let Some(held) = cached.filter(|held| held.is_proven_by(secret)) {
            return Ok(Ticket(held));
        }
        self.guard
            .take(device, from, Instant::now())
            .map_err(LoginError::Slowed)?;
        let checked = tokio::time::timeout(PATIENCE, self.check(device, secret))
            .await
            .unwrap_or(Err(LoginError::Busy));
        if !matches!(checked, Err(LoginError::Wrong)) {
            self.guard.give_back(device, from);
        }
        checked
    }

    async fn check(&self, device: &str, secret: &[u8]) -> Result<Ticket, LoginError> {
        let held = self.held(device).await?.ok_or(LoginError::Wrong)?;
        let turn = self
            .verifying
            .clone()
            .acquire_owned()
            .await
            .expect("never closed");
        // Others may have proven the same secret while this one waited for its turn.
        if held.is_proven_by(secret) {
            return Ok(Ticket(held));
        }
        let (claimed, copy) = (secret.to_vec(), held.clone());
        let is_right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            copy.credential.verify(&claimed)
        })
        .await
        .map_err(|_| LoginError::Busy)?;
        if !is_right {
            return Err(LoginError::Wrong);
        }
        held.proven.get_or_init(|| Sha256::digest(secret).into());
        Ok(Ticket(held))
    }

    async fn held(&self, device: &str) -> Result<Option<Arc<Held>>, LoginError> {
        if let Some(held) = self.known().find(device) {
            return Ok(Some(held));
        }
        let Ok(name) = Name::new(device) else {
            return Ok(None);
        };
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        let store = store.ok_or(LoginError::Busy)?;
        for _ in 0..READS_MAX {
            let entry = store.entry(name.token()).await.map_err(|error| {
                warn!(%error, "cannot read the bucket of credentials");
                LoginError::Busy
            })?;
            let Some(held) = entry.as_ref().and_then(|entry| read(entry, &name)) else {
                return Ok(None);
            };
            let mut known = self.known();
            // The watch may have told of a newer one while this was on its way.
            if known.told.get(device).is_some_and(|told| *told > held.revision) {
                continue;
            }
            if let Some(other) = known.find(device).filter(|other| other.revision == held.revision) {
                return Ok(Some(other));
            }
            let held = Arc::new(held);
            known.keep(&held);
            return Ok(Some(held));
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
        // A bucket that was made anew counts its revisions from one again.
        self.known().told.clear();
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
        let live: Vec<String> = self.known().live.keys().cloned().collect();
        for device in live {
            let Ok(name) = Name::new(device.as_str()) else {
                continue;
            };
            let entry = store.entry(name.token()).await?;
            let revision = entry
                .filter(|entry| entry.operation == Operation::Put)
                .map(|entry| entry.revision);
            self.known().revise(&device, revision);
        }
        Ok(())
    }

    fn heed(&self, change: &Entry) {
        let Ok(name) = Name::from_token(&change.key) else {
            return;
        };
        let mut known = self.known();
        known.told.put(name.plain().to_owned(), change.revision);
        let revision = (change.operation == Operation::Put).then_some(change.revision);
        known.revise(name.plain(), revision);
    }
}

/// What the bucket holds under that name; nothing if it is deleted, no credential, or another device's.
fn read(entry: &Entry, name: &Name) -> Option<Held> {
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
    Some(Held {
        credential,
        revision: entry.revision,
        proven: OnceLock::new(),
        revoked: CancellationToken::new(),
    })
}

#[cfg(test)]
impl Keyring {
    /// Holds those, from no bucket.
    pub(crate) fn of(credentials: impl IntoIterator<Item = Credential>) -> Self {
        let keyring = Self::new();
        for credential in credentials {
            keyring.known().keep(&Arc::new(Held {
                credential,
                revision: 1,
                proven: OnceLock::new(),
                revoked: CancellationToken::new(),
            }));
        }
        keyring
    }

    /// As if the bucket had lost it.
    pub(crate) fn revoke(&self, device: &str) {
        self.known().revise(device, None);
    }
}
