//! Where a page of history begins: the place of its first row in the order of all.
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use telltale_schemas::Timestamp;

/// Longest cursor that is read.
const MAX: usize = 2_048;

/// A place in the order `(time, message_id, ordinal)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) time: Timestamp,
    pub(super) ordinal: i16,
    pub(super) message_id: String,
}

impl Cursor {
    /// The first place of that moment.
    pub(super) fn at(time: Timestamp) -> Self {
        Self {
            time,
            ordinal: 0,
            message_id: String::new(),
        }
    }

    /// Letters, digits, `-` and `_`: it can stand in a URL as it is.
    pub(super) fn write(&self) -> String {
        let text = format!("{}.{}.{}", self.time.as_micros(), self.ordinal, self.message_id);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// What [`write`](Self::write) wrote.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = (text.len() <= MAX).then(|| URL_SAFE_NO_PAD.decode(text).ok())??;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.splitn(3, '.');
        let (micros, ordinal, id) = (parts.next()?, parts.next()?, parts.next()?);
        // PostgreSQL cannot hold it.
        if id.contains('\0') {
            return None;
        }
        Some(Self {
            time: Timestamp::from_micros(micros.parse().ok()?)?,
            ordinal: ordinal.parse().ok()?,
            message_id: id.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000, ordinal: i16, message_id in "[^\0]{0,80}") {
            let time = Timestamp::from_micros(micros).unwrap();
            let cursor = Cursor { time, ordinal, message_id };
            let written = cursor.write();
            prop_assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(Cursor::read(&written), Some(cursor));
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,80}") {
            let _either = Cursor::read(&text);
            let _either = Cursor::read(&URL_SAFE_NO_PAD.encode(text));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "x", "1.2", "1.2.x\0", "99999999999999999999.0.x", "1.70000.x"] {
            assert_eq!(Cursor::read(text), None, "{text}");
            assert_eq!(Cursor::read(&URL_SAFE_NO_PAD.encode(text)), None, "{text}");
        }
        assert_eq!(Cursor::read(&"A".repeat(MAX + 1)), None);
    }
}
