//! A description as it is served: with our forms and its registration.
use crate::registry::Found;
use serde_json::Value;
use telltale_nats::{Lane, Name, Subject};
use telltale_schemas::{
    Timestamp,
    td::forms::{self, Nats, Use},
};

/// Says that a description has a `registration` (W3C WoT Discovery §7.2.1).
const DISCOVERY: &str = "https://www.w3.org/2022/wot/discovery";

/// The addresses that clients know us by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bases {
    /// The gateway, without a slash at the end.
    pub(crate) http: String,
    /// The bridge's MQTT.
    pub(crate) mqtt: Option<String>,
    /// The broker.
    pub(crate) nats: Option<String>,
}

impl Bases {
    /// Does something with them and the subjects of a thing of that site.
    fn with<T>(&self, site: &Name, thing: &Name, act: impl FnOnce(&forms::Bases<'_>) -> T) -> T {
        let subject = |usage: Use, name: &str| subject(site, thing, usage, name);
        act(&forms::Bases {
            http: Some(&self.http),
            mqtt: self.mqtt.as_deref(),
            nats: self.nats.as_deref().map(|server| Nats {
                server,
                subject: &subject,
            }),
        })
    }
}

/// Where on the broker one hears of a property or an event. Commands go through whoever checks them.
fn subject(site: &Name, thing: &Name, usage: Use, name: &str) -> Option<String> {
    let (site, thing) = (site.clone(), thing.clone());
    let subject = match usage {
        Use::Observe => Subject::of(Lane::Annotated, site, thing),
        Use::Subscribe => Subject::named(Lane::Event, site, thing, Name::new(name).ok()?),
        Use::Write | Use::Invoke => return None,
    };
    Some(subject.to_string())
}

/// The description of a described thing, enriched; `null` of one that is not described.
pub(crate) fn serve(bases: &Bases, site: &Name, found: &Found) -> Value {
    let entry = &found.entry;
    let (Some(td), Some(times), Ok(thing)) =
        (&entry.td, &entry.registration, Name::new(entry.thing.as_str()))
    else {
        return Value::Null;
    };
    let served = bases.with(site, &thing, |bases| {
        forms::serve(td, bases, times, Timestamp::now())
    });
    enriched(served)
}

/// What an author gives back of what we served: without our forms.
pub(super) fn unserve(bases: &Bases, site: &Name, thing: &Name, td: &mut Value) {
    let registration = td.get("registration").cloned();
    bases.with(site, thing, |bases| forms::strip(td, bases));
    // How long it is to last is the author's to say.
    if let (Some(registration), Some(td)) = (registration, td.as_object_mut()) {
        td.insert("registration".to_owned(), registration);
    }
    if let Some(Value::Array(contexts)) = td.get_mut("@context") {
        contexts.retain(|context| context != DISCOVERY);
        if let [Value::String(only)] = contexts.as_slice() {
            td["@context"] = Value::String(only.clone());
        }
    }
}

/// With the `@context` of what a directory adds.
fn enriched(mut td: Value) -> Value {
    match td.get_mut("@context") {
        Some(Value::Array(contexts)) if !contexts.iter().any(|context| context == DISCOVERY) => {
            contexts.push(DISCOVERY.into());
        }
        Some(context @ Value::String(_)) if context != DISCOVERY => {
            *context = Value::Array(vec![context.take(), DISCOVERY.into()]);
        }
        _ => {}
    }
    td
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let path = forms::path(text);
    path.strip_prefix("/things/").unwrap_or(&path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_enriched_is_taken_back_as_it_was() {
        let thing = Name::new("urn:t:1").unwrap();
        let site = Name::new("local").unwrap();
        let bases = Bases {
            http: "http://127.0.0.1:8081".to_owned(),
            ..Bases::default()
        };
        let one = "https://www.w3.org/2022/wot/td/v1.1";
        for context in [
            json!(one),
            json!([one, {"@language": "en"}]),
            json!([one, "https://a.example/"]),
        ] {
            let td = json!({"@context": context, "id": "urn:t:1", "title": "t"});
            let mut served = enriched(td.clone());
            assert!(served["@context"].as_array().unwrap().contains(&json!(DISCOVERY)));
            assert_eq!(served["@context"][0], one);
            assert_eq!(enriched(served.clone()), served);
            unserve(&bases, &site, &thing, &mut served);
            assert_eq!(served, td);
        }
    }
}
