//! Ids: names of effects, made once and the same however often a message is delivered.
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Longest key of a publisher, in bytes.
pub const KEY_MAX: usize = 128;

/// Whether a publisher may call its message that: 1 to 128 bytes of printable ASCII, no space.
pub fn is_key(key: &str) -> bool {
    (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}

/// Longest id of an envelope, in characters.
pub const ID_MAX: usize = 1_024;

/// Whether an envelope may have that id: 1 to 1 024 characters, none of them an ASCII control character, which no
/// header can hold.
pub fn is_id(id: &str) -> bool {
    !id.is_empty() && !id.bytes().any(|byte| byte.is_ascii_control()) && id.chars().count() <= ID_MAX
}

/// The id of what came in: `<thing>:<key>`.
pub fn of(thing: &str, key: &str) -> String {
    format!("{thing}:{key}")
}

/// The id of what a worker made: `<id of the cause>.<worker>.<n>`.
pub fn effect(cause: &str, worker: &str, n: usize) -> String {
    format!("{cause}.{worker}.{n}")
}

/// The id of what a stage refused: `<id>.<stage>.quarantine`, with `.<n>` after the `n`th replay, so that what is
/// refused again is another entry, and the same one however often it is delivered.
pub fn refusal(refused: &str, stage: &str, generation: u32) -> String {
    match generation {
        0 => format!("{refused}.{stage}.quarantine"),
        replay => format!("{refused}.{stage}.quarantine.{replay}"),
    }
}

/// What was refused, by the id of its quarantine entry.
pub fn refused<'a>(entry: &'a str, stage: &str, generation: u32) -> Option<&'a str> {
    entry
        .strip_suffix(&refusal("", stage, generation))
        .filter(|refused| !refused.is_empty())
}

/// Lower-case hex of the SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The trace in which a message begins (W3C Trace Context), the same for the same id.
pub fn traceparent(id: &str) -> String {
    let hash = Sha256::digest(id.as_bytes());
    let (trace, span) = hash.split_at(16);
    // An id of zeros only is forbidden; no one will find a text with such a hash, but it costs nothing.
    format!("00-{}-{}-01", hex(trace), hex(span.get(..8).unwrap_or(span)))
}

/// The same trace, one hop further: the span is named by what happens in it.
pub fn child(parent: &str, span: &str) -> Option<String> {
    let trace = trace_id(parent)?;
    let flags = parent.get(53..55)?;
    let hash = Sha256::digest(format!("{parent} {span}").as_bytes());
    Some(format!("00-{trace}-{}-{flags}", hex(hash.get(..8)?)))
}

/// The trace id of a `traceparent`, or `None` for one that W3C Trace Context tells to ignore.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = traceparent.splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let has_more = parts.next().is_some();
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || !has_more)
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2);
    is_valid.then_some(trace)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
            // Writing to a String cannot fail.
            let _written = write!(out, "{byte:02x}");
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_printable_ascii_of_1_to_128_bytes() {
        for key in ["k", "01JB3V9Q0H7T5W4M2N6K8R1C3D", "a:b/c~!", &"k".repeat(128)] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "two words", "tab\t", "clé", "\u{7f}", "a\n", &"k".repeat(129)] {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn each_refusal_of_a_message_has_an_id_of_its_own() {
        for (generation, id) in [
            (0, "t:7-1.validate.quarantine"),
            (2, "t:7-1.validate.quarantine.2"),
        ] {
            assert_eq!(refusal("t:7-1", "validate", generation), id);
            assert_eq!(refused(id, "validate", generation), Some("t:7-1"));
            assert_eq!(refused(id, "validate", 1), None);
            assert_eq!(refused(id, "store", generation), None);
        }
    }

    #[test]
    fn an_id_fits_into_a_header() {
        for good in ["t:k", "Straße 7:1 2", &"x".repeat(ID_MAX)] {
            assert!(is_id(good), "{good}");
        }
        for bad in [
            "",
            "t:a\nNats-Rollup: all",
            "t:\r",
            "t:\0",
            "t:\u{7f}",
            &"x".repeat(ID_MAX + 1),
        ] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn an_id_names_its_effect() {
        let reading = of("road-weather-17", "k1");
        assert_eq!(reading, "road-weather-17:k1");
        assert_eq!(
            effect(&reading, "over-limit", 0),
            "road-weather-17:k1.over-limit.0"
        );
    }

    #[test]
    fn a_trace_begins_and_goes_on() {
        let begun = traceparent("road-weather-17:k1");
        assert_eq!(begun, traceparent("road-weather-17:k1"));
        assert_eq!(begun.len(), 55);
        let next = child(&begun, "annotate 1").unwrap();
        assert_eq!(trace_id(&next), trace_id(&begun));
        assert_ne!(next, begun);
        assert_eq!(child("nonsense", "annotate 1"), None);
    }

    #[test]
    fn what_w3c_trace_context_tells_to_ignore_is_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert!(trace_id(&format!("{}-later", good.replacen("00-", "01-", 1))).is_some());
        for bad in [
            String::new(),
            good.replacen("00-", "0-", 1),
            good.to_uppercase(),
            format!("{good}-more"),
            good.replacen("00-", "ff-", 1),
            good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            good.replace('-', "_"),
            format!(" {good}"),
            good.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(trace_id(&bad), None, "{bad}");
        }
    }
}
