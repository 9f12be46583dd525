//! A bearer token: `<name>.<secret>`.
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const SECRET_BYTES: usize = 32;

/// A secret of 256 random bits, in 43 characters of URL-safe base64: no `.` is among them.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>())
}

/// Puts a token together.
pub fn join(name: &str, secret: &str) -> String {
    format!("{name}.{secret}")
}

/// Splits a token into name and secret. The secret has no `.`, a name may.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (name, secret) = token.rsplit_once('.')?;
    (!name.is_empty() && !secret.is_empty()).then_some((name, secret))
}

/// Name and secret out of the value of an `Authorization` header: `Bearer <name>.<secret>`.
pub fn bearer(value: &[u8]) -> Option<(&str, &str)> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| split(token.trim()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_split_where_it_was_joined() {
        let secret = new_secret();
        assert_eq!(secret.len(), 43);
        assert_ne!(secret, new_secret());
        let token = join("pillar.7", &secret);
        assert_eq!(split(&token), Some(("pillar.7", secret.as_str())));
        let header = format!("bearer  {token}");
        assert_eq!(bearer(header.as_bytes()), Some(("pillar.7", secret.as_str())));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", ".", "device", "device.", ".secret"] {
            assert_eq!(split(text), None, "{text}");
        }
        for value in [&b"Basic a.b"[..], b"Bearer", b"Bearer ab", b"Bearer \xff.b"] {
            assert_eq!(bearer(value), None, "{value:x?}");
        }
    }
}
