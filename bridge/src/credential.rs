//! What a device proves itself with: a name and a secret, of which we keep only a hash.
use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _, password_hash::SaltString};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The bucket that holds them, one value for each device, under the device's name as a token.
pub const BUCKET: &str = "credentials";
/// In [`Credential::things`]: any thing of the site.
pub const ANY_THING: &str = "*";

const SECRET_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// An entry of the bucket `credentials`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Whose it is; the publisher of all that it brings.
    pub device: String,
    /// Argon2id of the secret, in PHC form.
    pub hash: String,
    /// The things that it may speak for; [`ANY_THING`] for all of the site.
    pub things: Vec<String>,
    /// Whether it may bring packs that we split (`POST /readings`).
    #[serde(default)]
    pub gateway: bool,
    /// Whether its readings may be of any age.
    #[serde(default)]
    pub backfill: bool,
}

impl Credential {
    /// Whether it may speak for that thing.
    pub fn covers(&self, thing: &str) -> bool {
        self.things.iter().any(|own| own == ANY_THING || own == thing)
    }

    /// Whether that is its secret. Slow on purpose: call it where blocking is allowed.
    pub fn verify(&self, secret: &[u8]) -> bool {
        PasswordHash::new(&self.hash)
            .is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok())
    }
}

impl fmt::Debug for Credential {
    /// Without the hash, so that it cannot reach a log.
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
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
    let credential = Credential {
        device: device.to_owned(),
        hash: hash(secret.as_bytes()),
        things: vec![device.to_owned()],
        gateway: false,
        backfill: false,
    };
    (format!("{device}.{secret}"), secret, credential)
}

fn hash(secret: &[u8]) -> String {
    let salt =
        SaltString::encode_b64(&rand::random::<[u8; SALT_BYTES]>()).expect("sixteen bytes make a salt");
    Argon2::default()
        .hash_password(secret, &salt)
        .expect("argon2's default parameters are valid")
        .to_string()
}

/// Splits a bearer token into device and secret. The secret has no `.`, a device's name may.
pub fn parse_token(token: &str) -> Option<(&str, &str)> {
    let (device, secret) = token.rsplit_once('.')?;
    (!device.is_empty() && !secret.is_empty()).then_some((device, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_its_own_device_and_no_other() {
        let (token, secret, credential) = new_token("pillar.7");
        assert_eq!(parse_token(&token), Some(("pillar.7", secret.as_str())));
        assert!(credential.verify(secret.as_bytes()));
        assert!(!credential.verify(b"guess"));
        assert!(!credential.verify(b""));
        let (_, other, _) = new_token("pillar.7");
        assert_ne!(secret, other);
        assert!(!credential.verify(other.as_bytes()));
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
    fn what_is_no_token_is_refused() {
        for text in ["", ".", "device", "device.", ".secret"] {
            assert_eq!(parse_token(text), None, "{text}");
        }
    }

    #[test]
    fn neither_secret_nor_hash_is_shown() {
        let (_, secret, credential) = new_token("pillar-7");
        let shown = format!("{credential:?}");
        assert!(!shown.contains(&secret) && !shown.contains("argon2"), "{shown}");
    }

    #[test]
    fn an_entry_of_the_bucket_is_read_with_its_defaults() {
        let entry = r#"{"device":"a","hash":"$argon2id$x","things":["a"]}"#;
        let credential: Credential = serde_json::from_str(entry).unwrap();
        assert!(!credential.gateway && !credential.backfill);
        assert!(!credential.verify(b"anything"), "a broken hash admits nobody");
    }
}
