//! What is kept of an entry: the JSON texts that one worker goes by, and nothing else of it.
//!
//! Most things of a site are of a few models, so what is expected of them and what their properties are is one text
//! for thousands: [`Texts::shared`]. What is a thing's own is short. Texts are parsed when they are asked for; what
//! is shared stays parsed for a while.
use lru::LruCache;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};
use telltale_schemas::{check, thing::Policy};

/// Shared texts that stay parsed, and policies that are known to be right.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");
/// A longer one is parsed each time, so that a thousand of them do not fill the memory.
const TEXT_MAX: usize = 16 * 1024;

/// Which part of the entries a worker goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Policy,
    Annotation,
}

/// That part of one entry, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    /// The policy, or the `properties` of the annotation; `None` for an empty one.
    pub(super) shared: Option<Arc<str>>,
    /// The rest of the annotation; `None` for an empty one.
    pub(super) own: Option<Arc<str>>,
}

/// An entry without its Thing Description, which is skipped where it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slim<'a> {
    thing: String,
    #[serde(borrow)]
    policy: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(default, rename = "td")]
    _td: IgnoredAny,
    #[serde(default, rename = "registration")]
    _registration: IgnoredAny,
}

impl Texts {
    /// Reads that part of the entry of that thing, or says why no worker can go by the entry.
    pub(super) fn read(part: Part, thing: &str, value: &[u8], right: &Right) -> Result<Self, String> {
        let slim: Slim<'_> = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if slim.thing != thing {
            return Err(format!("it is about `{}`", slim.thing));
        }
        if let Some(policy) = slim.policy {
            right.check(thing, policy)?;
        }
        // A strange annotation is no reason to refuse a thing's readings; one that is none at all is.
        if slim.annotation.is_some_and(|raw| !raw.get().starts_with('{')) {
            return Err("no object at `/annotation`".to_owned());
        }
        match (part, slim.annotation) {
            (Part::Policy, _) => Ok(Self {
                shared: slim.policy.and_then(text),
                own: None,
            }),
            (Part::Annotation, None) => Ok(Self::default()),
            (Part::Annotation, Some(raw)) => Self::split(raw).map_err(|error| error.to_string()),
        }
    }

    fn split(annotation: &RawValue) -> Result<Self, serde_json::Error> {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(annotation.get())?;
        let properties = members.remove("properties");
        let (shared, kept) = match properties {
            Some(raw) if raw.get().starts_with('{') => (text(raw), None),
            other => (None, other),
        };
        members.extend(kept.map(|raw| ("properties".to_owned(), raw)));
        let own = if members.is_empty() {
            None
        } else {
            Some(serde_json::to_string(&members)?.into())
        };
        Ok(Self { shared, own })
    }
}

fn text(raw: &RawValue) -> Option<Arc<str>> {
    (raw.get() != "{}").then(|| Arc::from(raw.get()))
}

/// Policies that were found right last: most entries have one of them.
#[derive(Debug)]
pub(super) struct Right(Mutex<LruCache<Box<str>, ()>>);

impl Default for Right {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }
}

impl Right {
    /// Whether a worker can go by that policy, or why not.
    fn check(&self, thing: &str, policy: &RawValue) -> Result<(), String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(policy.get()).is_some() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(policy.get()).map_err(|error| error.to_string())?;
        let document = json!({ "thing": thing, "policy": value });
        if let Some(fault) = check::thing_entry(&document).first() {
            return Err(format!("{} at `{}`", fault.message, fault.pointer));
        }
        serde_json::from_str::<Policy>(policy.get()).map_err(|error| error.to_string())?;
        if policy.get().len() <= TEXT_MAX {
            known.put(Box::from(policy.get()), ());
        }
        Ok(())
    }
}

/// Shared texts, parsed; those that were asked for last stay so.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    recent: LruCache<Arc<str>, Arc<T>>,
    empty: Arc<T>,
}

impl<T: Default> Default for Parsed<T> {
    fn default() -> Self {
        Self {
            recent: LruCache::new(REMEMBERED_MAX),
            empty: Arc::default(),
        }
    }
}

impl<T: Default + DeserializeOwned> Parsed<T> {
    /// What that text says.
    pub(super) fn of(&mut self, text: Option<&Arc<str>>) -> Arc<T> {
        let Some(text) = text else {
            return self.empty.clone();
        };
        if let Some(parsed) = self.recent.get(text) {
            return parsed.clone();
        }
        let parsed: Arc<T> = Arc::new(serde_json::from_str(text).expect("it was checked when it was read"));
        if text.len() <= TEXT_MAX {
            self.recent.put(text.clone(), parsed.clone());
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_gone_by_is_told_apart_from_none() {
        for (value, problem) in [
            (r#"{"thing": "t"}"#, None),
            (r#"{"thing": "t", "policy": {"late": "2d"}}"#, None),
            (r#"{"thing": "t", "annotation": {"foi": "no uri"}}"#, None),
            (r#"{"thing": "u"}"#, Some("it is about `u`")),
            (
                r#"{"thing": "t", "policy": {"late": "soon"}}"#,
                Some("/policy/late"),
            ),
            (r#"{"thing": "t", "polic": {}}"#, Some("`polic`")),
            (r#"{"thing": "t", "annotation": 7}"#, Some("/annotation")),
            (
                r#"{"thing": "t", "policy": {"properties": {"p": {"unit": "furlong"}}}}"#,
                Some("furlong"),
            ),
            ("{", Some("EOF")),
        ] {
            for part in [Part::Policy, Part::Annotation] {
                let right = Right::default();
                let found = Texts::read(part, "t", value.as_bytes(), &right).err();
                let again = Texts::read(part, "t", value.as_bytes(), &right).err();
                assert_eq!(found, again, "{value}");
                match problem {
                    None => assert_eq!(found, None, "{value}"),
                    Some(problem) => assert!(
                        found.as_ref().is_some_and(|found| found.contains(problem)),
                        "{value}: {found:?}"
                    ),
                }
            }
        }
    }

    #[test]
    fn only_what_a_worker_goes_by_is_kept_to_the_last_digit_and_the_description_is_not() {
        let value = br#"{"thing":"t","td":{"title":"long","properties":{}},
            "policy":{"properties":{"p":{"maximum":0.1234567890123456789}}},
            "annotation":{"foi":"urn:x","properties":{"p":{"ucum":"Cel"}},"location":{"type":"Point","coordinates":[7.052350000000001,43]}},
            "registration":{"created":"2026-01-15T07:41:09.25Z","modified":"2026-01-15T07:41:09.25Z"}}"#;
        let policy = Texts::read(Part::Policy, "t", value, &Right::default()).unwrap();
        assert_eq!(
            policy.shared.as_deref(),
            Some(r#"{"properties":{"p":{"maximum":0.1234567890123456789}}}"#)
        );
        assert_eq!(policy.own, None);
        let annotation = Texts::read(Part::Annotation, "t", value, &Right::default()).unwrap();
        assert_eq!(annotation.shared.as_deref(), Some(r#"{"p":{"ucum":"Cel"}}"#));
        assert_eq!(
            annotation.own.as_deref(),
            Some(r#"{"foi":"urn:x","location":{"type":"Point","coordinates":[7.052350000000001,43]}}"#)
        );
    }

    #[test]
    fn nothing_is_kept_of_what_is_empty_and_properties_that_are_no_object_are_the_things_own() {
        let read = |value: &[u8]| Texts::read(Part::Annotation, "t", value, &Right::default()).unwrap();
        assert_eq!(read(br#"{"thing":"t","annotation":{}}"#), Texts::default());
        let strange = read(br#"{"thing":"t","annotation":{"properties":[1]}}"#);
        assert_eq!(
            (strange.shared, strange.own.as_deref()),
            (None, Some(r#"{"properties":[1]}"#))
        );
    }

    #[test]
    fn equal_texts_are_parsed_once() {
        let mut parsed = Parsed::<Policy>::default();
        let (one, other): (Arc<str>, Arc<str>) = (r#"{"late":"2d"}"#.into(), r#"{"late":"2d"}"#.into());
        let first = parsed.of(Some(&one));
        assert_eq!(first.late.as_deref(), Some("2d"));
        assert!(Arc::ptr_eq(&first, &parsed.of(Some(&other))));
        assert!(parsed.of(None).is_empty());
        let long: Arc<str> = format!(r#"{{"late":"2d"{}}}"#, " ".repeat(TEXT_MAX)).into();
        assert!(!Arc::ptr_eq(&parsed.of(Some(&long)), &parsed.of(Some(&long))));
    }
}
