//! W3C Thing Descriptions (WoT TD 1.1): what is wrong with one, what follows from one, how one is made.
//!
//! | module | holds |
//! |---|---|
//! | [`check`](mod@check) | what a Thing Description must be: our JSON Schema, and the rules that no schema can say |
//! | [`compile`](mod@compile) | what the workers go by: policy and annotation |
//! | [`forms`] | the description as it is served: with our own forms, and its registration |
//! | [`model`] | a description from a Thing Model; the models that we bring |
//! | [`merge`] | JSON Merge Patch (RFC 7396), both ways |
//! | [`infer`](mod@infer) | a description proposed from what a device was seen to say |
//!
//! A directory takes one by [`read`], and makes its entry of the bucket `things` by [`entry`]:
//!
//! ```
//! use telltale_schemas::{td, Timestamp, thing::Registered};
//!
//! let td = td::read(br#"{
//!     "@context": "https://www.w3.org/2022/wot/td/v1.1",
//!     "id": "urn:dev:road:17",
//!     "title": "Road weather",
//!     "securityDefinitions": {"none": {"scheme": "nosec"}},
//!     "security": "none",
//!     "properties": {"surface_temperature": {
//!         "type": "number", "unit": "Cel", "maximum": 80, "readOnly": true,
//!         "forms": [{"href": "coap://[2001:db8::1]/t"}]
//!     }}
//! }"#)?;
//! let now = Timestamp::now();
//! let entry = td::entry(td, Registered { created: now, modified: now, expires: None, ttl: None })?;
//! assert_eq!(entry.thing, "urn:dev:road:17");
//! assert_eq!(entry.policy.properties["surface_temperature"].maximum, Some(80.0));
//! # Ok::<(), Vec<telltale_schemas::kinds::Fault>>(())
//! ```
pub mod check;
pub mod compile;
pub mod forms;
pub mod infer;
pub mod merge;
pub mod model;
mod place;
mod vocabulary;

pub use self::{check::check, compile::Compiled, compile::compile, infer::infer, model::models};
use crate::{
    kinds::Fault,
    strict::{self, Limits},
    thing::{Entry, Registered},
};
use serde_json::Value;

/// Media type of a Thing Description.
pub const MEDIA_TYPE: &str = "application/td+json";
/// The `@context` of TD 1.1, which every description has (TD 1.1 §5.3.1.1).
pub const CONTEXT: &str = "https://www.w3.org/2022/wot/td/v1.1";
/// The `@context` of TD 1.0; it may stand before the one of 1.1.
pub const CONTEXT_1_0: &str = "https://www.w3.org/2019/wot/td/v1";
/// What the prefix `telltale:` of our own terms stands for, in the `@context` of what we write.
pub const TERMS: &str = "urn:telltale:td#";
/// Before the name of a thing that is no URI, where a description must have one: thing `kitchen` is
/// `urn:telltale:thing:kitchen`. See [`thing_name`].
pub const NAMED: &str = "urn:telltale:thing:";
/// For what a directory is sent: as much as a device may send, 256 KiB and 32 levels.
pub const LIMITS: Limits = strict::DEVICE;
/// Longest name of a thing as a token of a subject, where each byte but letters, digits, `-` and `_` takes three.
pub const TOKEN_MAX: usize = 64;

/// A description from its bytes, checked; else what is wrong with it, each with its JSON Pointer.
///
/// Keys that come twice, numbers that no double holds and whatever else [`strict::parse`] refuses are among it.
pub fn read(bytes: &[u8]) -> Result<Value, Vec<Fault>> {
    let td = strict::parse(bytes, &LIMITS).map_err(|refusal| refusal.faults)?;
    let faults = check(&td);
    if faults.is_empty() { Ok(td) } else { Err(faults) }
}

/// The entry of the bucket `things` of a description, with its policy and annotation; or what is wrong with it. It
/// must have an `id`: whoever takes a description without one gives it one before.
pub fn entry(td: Value, registration: Registered) -> Result<Entry, Vec<Fault>> {
    let faults = check(&td);
    if !faults.is_empty() {
        return Err(faults);
    }
    let id = td.get("id").and_then(Value::as_str);
    let Some(thing) = id.and_then(thing_name) else {
        return Err(vec![Fault::at("/id", "a thing needs an `id`, which is its name")]);
    };
    let Compiled { policy, annotation } = compile(&td);
    Ok(Entry {
        thing,
        policy,
        annotation,
        td: Some(td),
        registration: Some(registration),
    })
}

/// The thing's name that the `id` of a description stands for: the `id` itself, but for [`NAMED`] and a name
/// behind it. `None` for what is no name of a thing: too long, or not the one spelling.
pub fn thing_name(id: &str) -> Option<String> {
    let name = match id.strip_prefix(NAMED) {
        Some(rest) => unescaped(rest)?,
        None => id.to_owned(),
    };
    (thing_id(&name) == id && is_name(&name)).then_some(name)
}

/// The `id` in the description of the thing of that name: the name, if it is a URI, as a description wants one;
/// else the name behind [`NAMED`], percent-encoded. [`thing_name`] is the way back.
pub fn thing_id(name: &str) -> String {
    if crate::check::is_uri(name) {
        name.to_owned()
    } else {
        format!("{NAMED}{}", escaped(name))
    }
}

/// Whether a subject has room for it as the name of a thing (`nats/src/subject.rs`).
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let length: usize = name.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum();
    (1..=TOKEN_MAX).contains(&length) && !name.starts_with('_') && !name.contains(char::is_control)
}

/// Percent-encoded, so that it is one segment of a path and of a URN.
fn escaped(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)].into());
            out.push(HEX[usize::from(byte & 15)].into());
        }
    }
    out
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => rest.next().and_then(digit)? << 4 | rest.next().and_then(digit)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_the_id_of_its_description_lead_to_each_other() {
        for (name, id) in [
            ("urn:dev:ops:32473-1", "urn:dev:ops:32473-1"),
            ("https://a.example/t1", "https://a.example/t1"),
            ("kitchen", "urn:telltale:thing:kitchen"),
            ("a/b c", "urn:telltale:thing:a%2Fb%20c"),
            ("Br\u{fc}cke", "urn:telltale:thing:Br%C3%BCcke"),
            ("00:1a:2b", "urn:telltale:thing:00:1a:2b"),
            ("urn:B r", "urn:telltale:thing:urn:B%20r"),
        ] {
            assert_eq!(thing_id(name), id);
            assert_eq!(thing_name(id).as_deref(), Some(name), "{id}");
        }
    }

    #[test]
    fn an_id_that_is_no_name_or_another_spelling_of_one_is_nobodys() {
        let (longest, longer) = ("x".repeat(58), "x".repeat(59));
        let long = format!("urn:{longer}");
        for id in [
            "kitchen",
            "urn:telltale:thing:",
            "urn:telltale:thing:kit%63hen",
            "urn:telltale:thing:a%2fb",
            "urn:telltale:thing:%C3",
            "urn:telltale:thing:urn:x:1",
            "urn:telltale:thing:_pack",
            "urn:telltale:thing:a%0Ab",
            long.as_str(),
        ] {
            assert_eq!(thing_name(id), None, "{id}");
        }
        assert!(thing_name(&format!("urn:{longest}")).is_some(), "3 + 3 + 58 = 64");
    }
}
