//! The bridge's seal on what it publishes to `raw`: without it, `validate` believes no header.
//!
//! HMAC-SHA256 with the deployment's key over the subject, our headers and the payload, each preceded by its
//! length as eight bytes, big end first; an absent header is an empty one. Lower-case hex.
use crate::header;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

/// Bytes of a key and of a seal.
const LENGTH: usize = 32;
/// What is sealed besides the subject and the payload, in this order.
const SEALED: [&str; 6] = [
    header::ID,
    header::PUBLISHER,
    header::RECEIVED,
    header::PROTOCOL,
    header::BACKFILL,
    header::CONTENT_TYPE,
];

/// The deployment's key.
#[derive(Clone)]
pub struct Key([u8; LENGTH]);

/// Why a text is no key. The text is not shown.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the seal's key from `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not 64 hexadecimal digits.
    #[error("a seal's key is 64 hexadecimal digits, nothing else")]
    Malformed,
}

impl Key {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// From 64 hexadecimal digits; white space around them is ignored.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        unhex(text.trim()).map(Self).ok_or(KeyError::Malformed)
    }

    /// From a file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// What [`Key::parse`] reads. A secret.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    fn mac<'a>(
        &self,
        subject: &str,
        lookup: impl Fn(&str) -> Option<&'a str>,
        payload: &[u8],
    ) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("an HMAC takes a key of any length");
        let mut part = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        part(subject.as_bytes());
        for name in SEALED {
            part(lookup(name).unwrap_or_default().as_bytes());
        }
        part(payload);
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The value of `Telltale-Seal` for a message.
pub fn seal(key: &Key, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> String {
    let lookup = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| *value)
    };
    hex(&key.mac(subject, lookup, payload).finalize().into_bytes())
}

/// Whether a message carries its valid seal. Takes the same time for every wrong one.
pub fn verify<'a>(
    key: &Key,
    subject: &str,
    lookup: impl Fn(&str) -> Option<&'a str>,
    payload: &[u8],
) -> bool {
    let Some(claimed) = lookup(header::SEAL).and_then(unhex) else {
        return false;
    };
    key.mac(subject, lookup, payload).verify_slice(&claimed).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

fn unhex(text: &str) -> Option<[u8; LENGTH]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "raw.local.t1";
    const HEADERS: [(&str, &str); 3] = [
        (header::ID, "t1:k"),
        (header::PUBLISHER, "gateway"),
        (header::CONTENT_TYPE, "application/json"),
    ];

    fn key() -> Key {
        Key::parse(&"0123456789abcdef".repeat(4)).unwrap()
    }

    fn check(subject: &str, headers: &[(&str, &str)], seal: &str, payload: &[u8]) -> bool {
        let lookup = |name: &str| {
            (name == header::SEAL).then_some(seal).or_else(|| {
                headers
                    .iter()
                    .find(|(found, _)| *found == name)
                    .map(|(_, value)| *value)
            })
        };
        verify(&key(), subject, lookup, payload)
    }

    #[test]
    fn a_seal_covers_subject_headers_and_payload() {
        let sealed = seal(&key(), SUBJECT, &HEADERS, b"{}");
        assert!(check(SUBJECT, &HEADERS, &sealed, b"{}"));
        assert!(!check("raw.local.t2", &HEADERS, &sealed, b"{}"));
        assert!(!check(SUBJECT, &HEADERS, &sealed, b"{ }"));
        assert!(!check(SUBJECT, &HEADERS[..2], &sealed, b"{}"));
        let backfill = [HEADERS.as_slice(), &[(header::BACKFILL, "1")]].concat();
        assert!(!check(SUBJECT, &backfill, &sealed, b"{}"));
        for wrong in ["", "00", &"0".repeat(64), &sealed.replace(|_: char| true, "g")] {
            assert!(!check(SUBJECT, &HEADERS, wrong, b"{}"), "{wrong}");
        }
    }

    #[test]
    fn bytes_cannot_move_from_one_header_to_the_next() {
        let one = seal(
            &key(),
            SUBJECT,
            &[(header::ID, "ab"), (header::PUBLISHER, "c")],
            b"",
        );
        let other = seal(
            &key(),
            SUBJECT,
            &[(header::ID, "a"), (header::PUBLISHER, "bc")],
            b"",
        );
        assert_ne!(one, other);
    }

    /// Another implementation must come to the same seal: changing this value breaks running deployments.
    #[test]
    fn the_seal_is_what_it_always_was() {
        assert_eq!(
            seal(&key(), SUBJECT, &HEADERS, b"{\"temperature\":21.5}"),
            "31f8155208eba2a0e994aa2fad3c0a549c9ae60a94941644f8e59be5ce66f9a8"
        );
    }

    #[test]
    fn a_key_is_read_as_written_and_never_shown() {
        let key = Key::generate();
        assert_eq!(Key::parse(&format!("{}\n", key.to_hex())).unwrap().0, key.0);
        assert_eq!(format!("{key:?}"), "Key(..)");
        for wrong in ["", "abc", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert!(Key::parse(wrong).is_err());
        }
    }
}
