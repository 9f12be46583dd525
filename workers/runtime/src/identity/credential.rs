//! What a device proves itself with: a name and a secret, of which we keep only a hash. Two secrets may be valid at
//! once, so that a device can be given a new one before the old one ends.
use super::token;
use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _, password_hash::SaltString};
use serde::{Deserialize, Serialize};
use std::fmt;
use telltale_schemas::Timestamp;

/// The bucket that holds them, one value for each device, under the device's name as a token.
pub const BUCKET: &str = "credentials";
/// In [`Credential::things`]: any thing of the site.
pub const ANY_THING: &str = "*";
/// Secrets of one device that are valid at once.
pub const SECRETS_MAX: usize = 2;

const SALT_BYTES: usize = 16;

/// An entry of the bucket `credentials`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Credential {
    /// Whose it is; the publisher of all that it brings.
    pub device: String,
    /// Its secrets, the newest first; at most [`SECRETS_MAX`].
    pub hashes: Vec<Hash>,
    /// The things that it may speak for; [`ANY_THING`] for all of the site.
    pub things: Vec<String>,
    /// Whether it may bring packs that we split (`POST /readings`).
    pub gateway: bool,
    /// Whether its readings may be of any age.
    pub backfill: bool,
}

/// What is kept of one secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// Argon2id of it, in PHC form.
    pub hash: String,
    /// When it was made; unknown where the entry is older than this word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
}

/// An entry as it may stand in the bucket: the one hash of entries that were written before there could be two is
/// read as well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    device: String,
    #[serde(default)]
    hash: Option<String>,
    #[serde(default)]
    hashes: Vec<Hash>,
    things: Vec<String>,
    #[serde(default)]
    gateway: bool,
    #[serde(default)]
    backfill: bool,
}

impl TryFrom<Written> for Credential {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut hashes = written.hashes;
        hashes.extend(written.hash.map(|hash| Hash { hash, made: None }));
        if hashes.len() > SECRETS_MAX {
            let found = hashes.len();
            return Err(format!(
                "the credential has {found} secrets; at most {SECRETS_MAX} are valid at once"
            ));
        }
        Ok(Self {
            device: written.device,
            hashes,
            things: written.things,
            gateway: written.gateway,
            backfill: written.backfill,
        })
    }
}

impl Credential {
    /// Of a device that may speak for the thing of its own name, and has no secret yet: nobody can come in with it.
    pub fn of(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            hashes: Vec::new(),
            things: vec![device.to_owned()],
            gateway: false,
            backfill: false,
        }
    }

    /// Whether it may speak for that thing.
    pub fn covers(&self, thing: &str) -> bool {
        self.things.iter().any(|own| own == ANY_THING || own == thing)
    }

    /// Whether the other may do exactly what this one may, whatever their secrets.
    pub fn has_rights_of(&self, other: &Self) -> bool {
        self.device == other.device
            && self.things == other.things
            && self.gateway == other.gateway
            && self.backfill == other.backfill
    }

    /// Whether that is one of its secrets. Slow on purpose: call it where blocking is allowed.
    pub fn verify(&self, secret: &[u8]) -> bool {
        self.hashes.iter().any(|hash| hash.verify(secret))
    }

    /// Takes a new secret's hash in, and lets the one before live on beside it unless it is to be `alone`.
    pub fn take(&mut self, hash: Hash, alone: bool) {
        let kept = if alone { 0 } else { SECRETS_MAX - 1 };
        self.hashes.truncate(kept);
        self.hashes.insert(0, hash);
    }

    /// [`Self::take`] with a fresh secret, which exists nowhere but in what is returned. Slow on purpose.
    pub fn rotate(&mut self, alone: bool) -> String {
        let (secret, hash) = Hash::fresh();
        self.take(hash, alone);
        secret
    }
}

impl Hash {
    /// A fresh secret, and what is kept of it. Slow on purpose: call it where blocking is allowed.
    ///
    /// # Panics
    /// Never: salt and parameters are valid.
    pub fn fresh() -> (String, Self) {
        let secret = token::new_secret();
        let salt =
            SaltString::encode_b64(&rand::random::<[u8; SALT_BYTES]>()).expect("sixteen bytes make a salt");
        let hash = Argon2::default()
            .hash_password(secret.as_bytes(), &salt)
            .expect("argon2's default parameters are valid")
            .to_string();
        let made = Some(Timestamp::now());
        (secret, Self { hash, made })
    }

    /// Whether it is that secret's. Slow on purpose: call it where blocking is allowed.
    pub fn verify(&self, secret: &[u8]) -> bool {
        PasswordHash::new(&self.hash)
            .is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok())
    }
}

impl fmt::Debug for Hash {
    /// Without the hash, so that it cannot reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credential {
    /// Without the hashes, so that they cannot reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("device", &self.device)
            .field("things", &self.things)
            .field("gateway", &self.gateway)
            .field("backfill", &self.backfill)
            .finish_non_exhaustive()
    }
}

/// A fresh credential for the thing of the same name: the HTTP bearer token, the secret alone (MQTT's
/// password), and what to put into the bucket. The secret exists nowhere else afterwards.
pub fn new_token(device: &str) -> (String, String, Credential) {
    let mut credential = Credential::of(device);
    let secret = credential.rotate(true);
    (token::join(device, &secret), secret, credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_its_own_device_and_no_other() {
        let (token, secret, credential) = new_token("pillar.7");
        assert_eq!(token::split(&token), Some(("pillar.7", secret.as_str())));
        assert!(credential.verify(secret.as_bytes()));
        assert!(!credential.verify(b"guess"));
        assert!(!credential.verify(b""));
        let (_, other, _) = new_token("pillar.7");
        assert_ne!(secret, other);
        assert!(!credential.verify(other.as_bytes()));
    }

    #[test]
    fn the_newest_two_secrets_are_valid_and_no_third() {
        let (_, first, mut credential) = new_token("lamp");
        let second = credential.rotate(false);
        assert!(credential.verify(first.as_bytes()) && credential.verify(second.as_bytes()));
        let third = credential.rotate(false);
        let valid = [&first, &second, &third].map(|secret| credential.verify(secret.as_bytes()));
        assert_eq!(valid, [false, true, true]);
        let last = credential.rotate(true);
        let valid = [&second, &third, &last].map(|secret| credential.verify(secret.as_bytes()));
        assert_eq!(valid, [false, false, true]);
    }

    #[test]
    fn a_credential_covers_the_things_it_names() {
        let (_, _, mut credential) = new_token("pillar-7");
        assert!(credential.covers("pillar-7"));
        assert!(!credential.covers("pillar-8"));
        assert!(!credential.covers("*"));
        credential.things = vec![ANY_THING.into()];
        assert!(credential.covers("pillar-8"));
    }

    #[test]
    fn neither_secret_nor_hash_is_shown() {
        let (_, secret, credential) = new_token("pillar-7");
        let shown = format!("{credential:?} {:?}", credential.hashes);
        assert!(!shown.contains(&secret) && !shown.contains("argon2"), "{shown}");
    }

    #[test]
    fn an_entry_of_the_bucket_is_read_with_its_defaults_whether_old_or_new() {
        for entry in [
            r#"{"device":"a","hash":"$argon2id$x","things":["a"]}"#,
            r#"{"device":"a","hashes":[{"hash":"$argon2id$x"}],"things":["a"]}"#,
        ] {
            let credential: Credential = serde_json::from_str(entry).unwrap();
            assert!(!credential.gateway && !credential.backfill);
            assert_eq!(credential.hashes.len(), 1);
            assert!(!credential.verify(b"anything"), "a broken hash admits nobody");
        }
        let (_, secret, credential) = new_token("a");
        let written = serde_json::to_vec(&credential).unwrap();
        let read: Credential = serde_json::from_slice(&written).unwrap();
        assert_eq!(read, credential);
        assert!(read.verify(secret.as_bytes()));
    }

    #[test]
    fn an_entry_with_more_than_two_secrets_is_refused() {
        let entry = r#"{"device":"a","hash":"x","hashes":[{"hash":"y"},{"hash":"z"}],"things":["a"]}"#;
        let refused = serde_json::from_str::<Credential>(entry).unwrap_err().to_string();
        assert!(refused.contains("3 secrets"), "{refused}");
    }
}
