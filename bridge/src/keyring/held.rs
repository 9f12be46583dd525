//! Credentials that were read, and the tickets of those who proved one of their secrets.
use crate::credential::{Credential, Hash};
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

/// Credentials kept though nobody with them is connected.
const CACHED: NonZeroUsize = NonZeroUsize::new(10_000).expect("ten thousand is not zero");

/// A credential that was read. Its secrets may change while it is held; its rights may not.
#[derive(Debug)]
pub(super) struct Held {
    /// Without its hashes: they are in `secrets`.
    credential: Credential,
    secrets: Mutex<Secrets>,
}

#[derive(Debug)]
struct Secrets {
    /// As of this revision of the bucket.
    revision: u64,
    valid: Vec<Arc<Secret>>,
}

/// One secret of a credential, for as long as the bucket holds it.
#[derive(Debug)]
pub(super) struct Secret {
    hash: Hash,
    /// SHA-256 of what was proven against the hash: argon2 runs once, not for each request.
    proven: OnceLock<[u8; 32]>,
    revoked: CancellationToken,
}

impl Secret {
    fn new(hash: Hash) -> Arc<Self> {
        Arc::new(Self {
            hash,
            proven: OnceLock::new(),
            revoked: CancellationToken::new(),
        })
    }

    /// Slow on purpose.
    pub(super) fn verify(&self, claimed: &[u8]) -> bool {
        let is_right = self.hash.verify(claimed);
        if is_right {
            self.proven.get_or_init(|| Sha256::digest(claimed).into());
        }
        is_right
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }
}

impl Held {
    pub(super) fn new(mut credential: Credential, revision: u64) -> Self {
        let hashes = std::mem::take(&mut credential.hashes);
        let valid = hashes.into_iter().map(Secret::new).collect();
        Self {
            credential,
            secrets: Mutex::new(Secrets { revision, valid }),
        }
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn revision(&self) -> u64 {
        self.secrets().revision
    }

    /// Those that are valid now, the newest first.
    pub(super) fn valid(&self) -> Vec<Arc<Secret>> {
        self.secrets().valid.clone()
    }

    /// The secret that was proven by that before.
    pub(super) fn proven_by(&self, claimed: &[u8]) -> Option<Arc<Secret>> {
        let digest: [u8; 32] = Sha256::digest(claimed).into();
        let secrets = self.secrets();
        let is_it = |secret: &&Arc<Secret>| {
            secret
                .proven
                .get()
                .is_some_and(|proven| proven.ct_eq(&digest).into())
        };
        secrets.valid.iter().find(is_it).cloned()
    }

    /// Goes on with the secrets that are valid now: whoever proved one that still is stays.
    fn renew(&self, hashes: &[Hash], revision: u64) {
        let mut secrets = self.secrets();
        let mut before = std::mem::take(&mut secrets.valid);
        secrets.revision = revision;
        secrets.valid = hashes
            .iter()
            .map(
                |hash| match before.iter().position(|secret| secret.hash == *hash) {
                    Some(at) => before.swap_remove(at),
                    None => Secret::new(hash.clone()),
                },
            )
            .collect();
        drop(secrets);
        for ended in before {
            ended.revoked.cancel();
        }
    }

    fn revoke(&self) {
        let revision = self.revision();
        self.renew(&[], revision);
    }
}

/// A device that has proven who it is. It goes stale when that secret ends, or the credential's rights change.
#[derive(Debug, Clone)]
pub struct Ticket {
    held: Arc<Held>,
    secret: Arc<Secret>,
    from: IpAddr,
}

impl Ticket {
    pub(super) fn new(held: Arc<Held>, secret: Arc<Secret>, from: IpAddr) -> Self {
        Self { held, secret, from }
    }

    /// What it may do.
    pub fn credential(&self) -> &Credential {
        &self.held.credential
    }

    /// Where it came from.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Whether it has gone stale.
    pub fn is_revoked(&self) -> bool {
        self.secret.is_revoked()
    }

    /// Cancelled when it has gone stale.
    pub fn revocation(&self) -> &CancellationToken {
        &self.secret.revoked
    }

    /// Returns when it has gone stale.
    pub async fn revoked(&self) {
        self.secret.revoked.cancelled().await;
    }
}

/// What was read and is still of use.
#[derive(Debug)]
pub(super) struct Known {
    cached: LruCache<String, Arc<Held>>,
    /// All that anybody still holds, whether cached or not: the watch must find them.
    live: HashMap<String, Weak<Held>>,
    /// The newest revisions that the watch has told, against a read that it has overtaken.
    told: LruCache<String, u64>,
    /// How long `live` may grow before the dead are taken out.
    live_max: usize,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            cached: LruCache::new(CACHED),
            live: HashMap::new(),
            told: LruCache::new(CACHED),
            live_max: 2 * CACHED.get(),
        }
    }

    pub(super) fn find(&mut self, device: &str) -> Option<Arc<Held>> {
        if let Some(held) = self.cached.get(device) {
            return Some(held.clone());
        }
        let held = self.live.get(device)?.upgrade()?;
        self.cached.put(device.to_owned(), held.clone());
        Some(held)
    }

    pub(super) fn keep(&mut self, held: &Arc<Held>) {
        let device = &held.credential.device;
        if self.live.len() >= self.live_max {
            self.live.retain(|_, weak| weak.strong_count() > 0);
            self.live_max = CACHED.get().max(self.live.len()) * 2;
        }
        self.live.insert(device.clone(), Arc::downgrade(held));
        self.cached.put(device.clone(), held.clone());
    }

    /// Goes by what the bucket holds now: nothing, other rights, or other secrets.
    pub(super) fn revise(&mut self, device: &str, found: Option<(&Credential, u64)>) {
        let Some(held) = self.find(device) else { return };
        match found {
            Some((credential, revision)) if credential.has_rights_of(&held.credential) => {
                held.renew(&credential.hashes, revision);
            }
            _ => {
                held.revoke();
                self.cached.pop(device);
                self.live.remove(device);
            }
        }
    }

    /// What the watch told.
    pub(super) fn tell(&mut self, device: &str, revision: u64) {
        self.told.put(device.to_owned(), revision);
    }

    /// Whether the watch has told of something newer.
    pub(super) fn is_overtaken(&mut self, device: &str, revision: u64) -> bool {
        self.told.get(device).is_some_and(|told| *told > revision)
    }

    /// A bucket that was made anew counts its revisions from one again.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
    }

    /// All devices that anybody may still hold a ticket of.
    pub(super) fn devices(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::new_token;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ticket(held: &Arc<Held>, claimed: &str) -> Ticket {
        let valid = held.valid();
        let secret = valid.iter().find(|secret| secret.verify(claimed.as_bytes()));
        Ticket::new(held.clone(), secret.expect("it is one of them").clone(), HERE)
    }

    #[test]
    fn a_rotation_leaves_those_alone_whose_secret_is_still_valid() {
        let (_, first, mut credential) = new_token("lamp");
        let held = Arc::new(Held::new(credential.clone(), 1));
        let mut known = Known::new();
        known.keep(&held);
        let old = ticket(&held, &first);
        let second = credential.rotate(false);
        known.revise("lamp", Some((&credential, 2)));
        assert!(!old.is_revoked(), "the older of two secrets is valid");
        let new = ticket(&held, &second);
        assert!(held.proven_by(first.as_bytes()).is_some());
        drop(credential.rotate(false));
        known.revise("lamp", Some((&credential, 3)));
        assert!(
            old.is_revoked() && !new.is_revoked(),
            "a third pushes out the first"
        );
        assert!(held.proven_by(first.as_bytes()).is_none());
        known.revise("lamp", None);
        assert!(new.is_revoked() && held.valid().is_empty());
    }

    #[test]
    fn other_rights_end_every_ticket() {
        let (_, secret, mut credential) = new_token("lamp");
        let held = Arc::new(Held::new(credential.clone(), 1));
        let mut known = Known::new();
        known.keep(&held);
        let ticket = ticket(&held, &secret);
        credential.things.push("pillar".into());
        known.revise("lamp", Some((&credential, 2)));
        assert!(ticket.is_revoked());
        assert!(known.find("lamp").is_none(), "the next login reads it anew");
    }
}
