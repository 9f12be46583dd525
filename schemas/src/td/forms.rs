//! A description as it is served: what its author wrote, with forms under our own addresses and its registration.
//!
//! Nothing of the author's is taken away or changed. Our forms come after the author's, so that who takes the first
//! form that fits talks to the device as before.
use super::{check::AFFORDANCES, escaped, thing_name, vocabulary::of_form};
use crate::{Timestamp, thing::Registered};
use serde_json::{Map, Value, json};
use std::fmt;

/// What one can do with a thing through a form of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Hear of each value of a property.
    Observe,
    /// Set a property.
    Write,
    /// Invoke an action.
    Invoke,
    /// Hear of an event.
    Subscribe,
}

/// The addresses that our forms begin with; none of a protocol that is not there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bases<'a> {
    /// The gateway: `http://127.0.0.1:8080`, without a slash at the end.
    pub http: Option<&'a str>,
    /// The bridge's MQTT: `mqtt://127.0.0.1:1883`, without a slash at the end.
    pub mqtt: Option<&'a str>,
    /// The broker.
    pub nats: Option<Nats<'a>>,
}

/// The broker, and the subjects on it.
#[derive(Clone, Copy)]
pub struct Nats<'a> {
    /// `nats://127.0.0.1:4222`, without a slash at the end.
    pub server: &'a str,
    /// The subject of a use of the property, action or event of that name; `None` where there is none. Subjects are
    /// built in `nats/src/subject.rs` alone, so whoever serves gives this.
    pub subject: &'a dyn Fn(Use, &str) -> Option<String>,
}

impl fmt::Debug for Nats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The path of a thing at the gateway, from its name: `/things/urn:dev:1`.
pub fn path(thing: &str) -> String {
    format!("/things/{}", escaped(thing))
}

/// Where the gateway has a property or an action; of an event, the page of when it happened.
pub(super) fn address(path: &str, kind: &str, name: &str) -> String {
    let name = escaped(name);
    if kind == "events" {
        format!("{path}/events?name={name}")
    } else {
        format!("{path}/{kind}/{name}")
    }
}

/// The description with our forms and its registration. `retrieved` is when it is served.
///
/// A form whose address the affordance has already is not added again.
pub fn serve(td: &Value, bases: &Bases<'_>, registration: &Registered, retrieved: Timestamp) -> Value {
    let mut served = td.clone();
    let ours = Ours::of(td, bases);
    for kind in AFFORDANCES {
        let affordances = served.get_mut(kind).and_then(Value::as_object_mut);
        for (name, affordance) in affordances.into_iter().flatten() {
            let added = ours.forms(kind, name, affordance);
            if let Some(Value::Array(forms)) = affordance.get_mut("forms") {
                for form in added {
                    if !forms.iter().any(|known| ours.is_same(known, &form)) {
                        forms.push(form);
                    }
                }
            }
        }
    }
    if let Value::Object(members) = &mut served {
        let mut block = serde_json::to_value(registration).unwrap_or_default();
        block["retrieved"] = retrieved.to_string().into();
        members.insert("registration".to_owned(), block);
    }
    served
}

/// Takes our forms and the registration off again, from a description that was served and comes back changed. A form
/// that is the last of its affordance stays: without one it would be no description.
pub fn strip(td: &mut Value, bases: &Bases<'_>) {
    let nats = bases.nats.map(|nats| nats.server);
    let bases: Vec<&str> = [bases.http, bases.mqtt, nats].into_iter().flatten().collect();
    let is_ours = |form: &Value| {
        let href = form.get("href").and_then(Value::as_str).unwrap_or_default();
        let rest = bases.iter().find_map(|base| href.strip_prefix(base));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    for kind in AFFORDANCES {
        let affordances = td.get_mut(kind).and_then(Value::as_object_mut);
        for affordance in affordances.into_iter().flat_map(Map::values_mut) {
            if let Some(Value::Array(forms)) = affordance.get_mut("forms")
                && !forms.iter().all(is_ours)
            {
                forms.retain(|form| !is_ours(form));
            }
        }
    }
    if let Value::Object(members) = td {
        members.remove("registration");
    }
}

/// What our forms of one thing have in common.
struct Ours<'a> {
    bases: &'a Bases<'a>,
    path: String,
    /// The security of what the gateway serves, and the member that it stands in.
    http_security: (&'static str, Value),
    /// Whether a path in the description is one at the gateway that serves it.
    is_at_home: bool,
}

impl<'a> Ours<'a> {
    fn of(td: &Value, bases: &'a Bases<'a>) -> Self {
        let id = td.get("id").and_then(Value::as_str).unwrap_or_default();
        // A definition of our own would change the author's; so a form says it itself where none of those fits.
        let http_security = match bearer(td) {
            Some(name) => ("security", json!([name])),
            None => (of_form::SECURITY, json!({"scheme": "bearer", "in": "header"})),
        };
        Self {
            bases,
            path: path(&thing_name(id).unwrap_or_else(|| id.to_owned())),
            http_security,
            is_at_home: td.get("base").is_none(),
        }
    }

    fn is_same(&self, known: &Value, new: &Value) -> bool {
        let href = |form: &'_ Value| {
            form.get("href")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (known, new) = (href(known), href(new));
        let at_gateway = self.bases.http.and_then(|base| new.strip_prefix(base));
        known == new || (self.is_at_home && at_gateway == Some(known.as_str()))
    }

    /// Our forms of one property, action or event.
    fn forms(&self, kind: &str, name: &str, affordance: &Value) -> Vec<Value> {
        let is = |hint: &str| affordance.get(hint).and_then(Value::as_bool) == Some(true);
        let (reads, writes) = (!is("writeOnly"), !is("readOnly"));
        let mut forms = Vec::new();
        forms.extend(self.http(kind, name, (reads, writes)));
        if kind == "events" || (kind == "properties" && reads) {
            forms.extend(self.mqtt(kind, name));
        }
        let uses: &[(Use, bool)] = match kind {
            "properties" => &[(Use::Observe, reads), (Use::Write, writes)],
            "actions" => &[(Use::Invoke, true)],
            _ => &[(Use::Subscribe, true)],
        };
        let uses = uses.iter().filter(|(_, is_allowed)| *is_allowed);
        forms.extend(uses.filter_map(|(what, _)| self.nats(*what, name)));
        forms
    }

    fn http(&self, kind: &str, name: &str, (reads, writes): (bool, bool)) -> Option<Value> {
        let base = self.bases.http?;
        let ops: &[(&str, bool)] = match kind {
            "properties" => &[("readproperty", reads), ("writeproperty", writes)],
            "actions" => &[("invokeaction", true)],
            _ => &[("subscribeevent", true)],
        };
        let ops = ops.iter().filter(|(_, is_allowed)| *is_allowed);
        let ops: Vec<&str> = ops.map(|(op, _)| *op).collect();
        let href = format!("{base}{}", address(&self.path, kind, name));
        let mut form = json!({"href": href, "op": ops});
        let (member, security) = &self.http_security;
        form[*member] = security.clone();
        Some(form)
    }

    /// Where the device itself speaks. The bridge gives what a device says to nobody else over MQTT.
    fn mqtt(&self, kind: &str, name: &str) -> Option<Value> {
        let base = self.bases.mqtt?;
        let (topic, op) = if kind == "events" {
            (format!("events/{}", escaped(name)), "subscribeevent")
        } else {
            ("readings".to_owned(), "observeproperty")
        };
        Some(json!({
            "href": format!("{base}{}/{topic}", self.path),
            "op": [op],
            "mqv:controlPacket": "publish",
            of_form::SIDE: "device",
            of_form::SECURITY: {"scheme": "basic", "in": "auto"},
        }))
    }

    fn nats(&self, what: Use, name: &str) -> Option<Value> {
        let nats = self.bases.nats?;
        let subject = (nats.subject)(what, name)?;
        let op = match what {
            Use::Observe => "observeproperty",
            Use::Write => "writeproperty",
            Use::Invoke => "invokeaction",
            Use::Subscribe => "subscribeevent",
        };
        Some(json!({
            "href": format!("{}/{subject}", nats.server),
            "op": [op],
            "contentType": "application/cloudevents+json",
            of_form::SECURITY: {"scheme": "telltale:nkey"},
        }))
    }
}

/// The name of the description's own scheme for a bearer token in the header, which is what the gateway takes.
fn bearer(td: &Value) -> Option<&str> {
    let definitions = td.get("securityDefinitions")?.as_object()?;
    let is_it = |scheme: &Value| {
        let text = |member: &str| scheme.get(member).and_then(Value::as_str);
        text("scheme") == Some("bearer") && text("in").is_none_or(|place| place == "header")
    };
    definitions
        .iter()
        .find_map(|(name, scheme)| is_it(scheme).then_some(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> Value {
        json!({
            "id": "urn:dev:1",
            "securityDefinitions": {"none": {"scheme": "nosec"}},
            "properties": {
                "on": {"forms": [{"href": "coap://lamp/on"}]},
                "power": {"readOnly": true, "forms": [{"href": "/things/urn:dev:1/properties/power"}]},
                "pin code": {"writeOnly": true, "forms": [{"href": "coap://lamp/pin"}]},
            },
            "actions": {"blink": {"forms": [{"href": "coap://lamp/blink"}]}},
            "events": {"broken": {"forms": [{"href": "coap://lamp/broken"}]}},
        })
    }

    fn registered() -> Registered {
        let at = Timestamp::parse("2026-01-15T07:41:09Z").unwrap();
        Registered {
            created: at,
            modified: at,
            expires: None,
            ttl: None,
        }
    }

    fn subject(what: Use, name: &str) -> Option<String> {
        (name != "pin code").then(|| format!("{what:?}.{name}"))
    }

    fn everywhere() -> Bases<'static> {
        Bases {
            http: Some("http://127.0.0.1:8080"),
            mqtt: Some("mqtt://127.0.0.1:1883"),
            nats: Some(Nats {
                server: "nats://127.0.0.1:4222",
                subject: &subject,
            }),
        }
    }

    fn hrefs(td: &Value, pointer: &str) -> Vec<String> {
        let forms = td
            .pointer(pointer)
            .and_then(|affordance| affordance["forms"].as_array());
        let forms = forms.into_iter().flatten();
        forms
            .map(|form| form["href"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn each_affordance_has_the_forms_of_the_bases_that_are_set_behind_its_own() {
        let served = serve(&lamp(), &everywhere(), &registered(), Timestamp::now());
        assert_eq!(
            hrefs(&served, "/properties/on"),
            [
                "coap://lamp/on",
                "http://127.0.0.1:8080/things/urn:dev:1/properties/on",
                "mqtt://127.0.0.1:1883/things/urn:dev:1/readings",
                "nats://127.0.0.1:4222/Observe.on",
                "nats://127.0.0.1:4222/Write.on",
            ]
        );
        assert_eq!(
            hrefs(&served, "/actions/blink")[1..],
            [
                "http://127.0.0.1:8080/things/urn:dev:1/actions/blink",
                "nats://127.0.0.1:4222/Invoke.blink",
            ]
        );
        assert_eq!(
            hrefs(&served, "/events/broken")[1..],
            [
                "http://127.0.0.1:8080/things/urn:dev:1/events?name=broken",
                "mqtt://127.0.0.1:1883/things/urn:dev:1/events/broken",
                "nats://127.0.0.1:4222/Subscribe.broken",
            ]
        );
        let nowhere = serve(&lamp(), &Bases::default(), &registered(), Timestamp::now());
        assert_eq!(hrefs(&nowhere, "/properties/on"), ["coap://lamp/on"]);
    }

    #[test]
    fn what_cannot_be_read_or_written_has_no_form_for_it() {
        let served = serve(&lamp(), &everywhere(), &registered(), Timestamp::now());
        assert_eq!(
            hrefs(&served, "/properties/power")[1..],
            [
                "mqtt://127.0.0.1:1883/things/urn:dev:1/readings",
                "nats://127.0.0.1:4222/Observe.power"
            ],
            "the gateway's is there already, as a path"
        );
        assert_eq!(
            hrefs(&served, "/properties/pin code")[1..],
            ["http://127.0.0.1:8080/things/urn:dev:1/properties/pin%20code"]
        );
        assert_eq!(
            served["properties"]["pin code"]["forms"][1]["op"],
            json!(["writeproperty"])
        );
    }

    #[test]
    fn the_registration_says_when_it_was_retrieved() {
        let now = Timestamp::parse("2026-01-16T00:00:00Z").unwrap();
        let served = serve(&lamp(), &everywhere(), &registered(), now);
        assert_eq!(
            served["registration"],
            json!({
                "created": "2026-01-15T07:41:09Z",
                "modified": "2026-01-15T07:41:09Z",
                "retrieved": "2026-01-16T00:00:00Z",
            })
        );
    }

    #[test]
    fn what_is_served_and_stripped_is_what_its_author_wrote() {
        let mut served = serve(&lamp(), &everywhere(), &registered(), Timestamp::now());
        let again = serve(&served, &everywhere(), &registered(), Timestamp::now());
        assert_eq!(
            hrefs(&again, "/events/broken").len(),
            4,
            "served again has no form twice"
        );
        strip(&mut served, &everywhere());
        assert_eq!(served, lamp());
    }

    #[test]
    fn a_form_names_the_bearer_scheme_of_its_description_or_says_itself_what_it_needs() {
        let bases = Bases {
            http: Some("http://h"),
            ..Bases::default()
        };
        let form = |td: &Value| {
            serve(td, &bases, &registered(), Timestamp::now())["actions"]["blink"]["forms"][1].clone()
        };
        let mut td = lamp();
        assert_eq!(form(&td)["telltale:security"]["scheme"], "bearer");
        assert!(form(&td).get("security").is_none());
        td["securityDefinitions"]["b"] = json!({"scheme": "bearer"});
        assert_eq!(form(&td)["security"], json!(["b"]));
    }
}
