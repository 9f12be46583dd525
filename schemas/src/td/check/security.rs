//! Security: names that are defined, schemes that fit together, and no secrets.
use crate::{kinds::Fault, refusal::shown, td::place::Place};
use serde_json::{Map, Value};

pub(super) fn check(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    let empty = Map::new();
    let definitions = whole.value.get("securityDefinitions").and_then(Value::as_object);
    let definitions = definitions.unwrap_or(&empty);
    uses(whole, definitions, faults);
    for (name, scheme) in whole.members_of("securityDefinitions") {
        combination(name, &scheme, definitions, faults);
        flow(&scheme, faults);
        location(&scheme, faults);
        secrets(&scheme, faults);
    }
}

/// The names that the `security` of a description or of a form gives are defined.
pub(super) fn uses(place: &Place<'_>, definitions: &Map<String, Value>, faults: &mut Vec<Fault>) {
    let Some(security) = place.member("security") else {
        return;
    };
    for used in security.one_or_several() {
        if let Some(name) = used.value.as_str()
            && !definitions.contains_key(name)
        {
            faults.push(used.fault(undefined(name)));
        }
    }
}

fn undefined(name: &str) -> String {
    format!("`{}` is not in `securityDefinitions`", shown(name))
}

/// `combo`: exactly one of `oneOf` and `allOf`, of schemes that are defined and are not it itself.
fn combination(name: &str, scheme: &Place<'_>, definitions: &Map<String, Value>, faults: &mut Vec<Fault>) {
    if scheme.text("scheme") != Some("combo") {
        return;
    }
    match (scheme.member("oneOf"), scheme.member("allOf")) {
        (Some(_), Some(all)) => faults.push(all.fault("`oneOf` or `allOf`, not both")),
        (None, None) => faults.push(scheme.fault("a `combo` has `oneOf` or `allOf`")),
        _ => {}
    }
    for part in ["oneOf", "allOf"].iter().flat_map(|word| scheme.items_of(word)) {
        let Some(other) = part.value.as_str() else {
            continue;
        };
        if !definitions.contains_key(other) {
            faults.push(part.fault(undefined(other)));
        } else if reaches(other, name, definitions, definitions.len()) {
            faults.push(part.fault(format!("`{}` is made of itself", shown(name))));
        }
    }
}

/// Whether a combination comes to `wanted` within that many steps; there are no more definitions than that.
fn reaches(from: &str, wanted: &str, definitions: &Map<String, Value>, steps: usize) -> bool {
    if from == wanted {
        return true;
    }
    let Some(steps) = steps.checked_sub(1) else {
        return false;
    };
    let parts = |word: &str| {
        let scheme = definitions.get(from)?;
        scheme.get(word)?.as_array()
    };
    ["oneOf", "allOf"]
        .iter()
        .filter_map(|word| parts(word))
        .flatten()
        .filter_map(Value::as_str)
        .any(|other| other != from && reaches(other, wanted, definitions, steps))
}

/// `oauth2`: what each flow needs (TD 1.1 §5.3.3.10, RFC 6749, RFC 8628).
fn flow(scheme: &Place<'_>, faults: &mut Vec<Fault>) {
    if scheme.text("scheme") != Some("oauth2") {
        return;
    }
    let needed: &[&str] = match scheme.text("flow") {
        Some("code" | "device") => &["authorization", "token"],
        Some("client") => &["token"],
        _ => return,
    };
    let flow = scheme.text("flow").unwrap_or_default();
    for word in needed {
        if scheme.member(word).is_none() {
            let pointer = format!("{}/{word}", scheme.pointer);
            faults.push(Fault::at(pointer, format!("flow `{flow}` needs `{word}`")));
        }
    }
    if flow == "client"
        && let Some(authorization) = scheme.member("authorization")
    {
        faults.push(authorization.fault("flow `client` has no `authorization`"));
    }
}

/// Where a scheme's parameter stands: in a URI or a body it needs a name.
fn location(scheme: &Place<'_>, faults: &mut Vec<Fault>) {
    match scheme.text("in") {
        Some("uri") if scheme.text("name").is_none() => {
            let pointer = format!("{}/name", scheme.pointer);
            faults.push(Fault::at(pointer, "`in` is `uri`: the variable needs a `name`"));
        }
        Some("body") => {
            let name = scheme.member("name");
            if let Some(name) = name.filter(|name| !name.value.as_str().is_some_and(is_pointer)) {
                faults.push(name.fault("`in` is `body`: the name is a JSON Pointer"));
            }
        }
        _ => {}
    }
}

fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

/// Members of a security definition that would hold the secret itself, without what separates their words.
const SECRETS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "clientsecret",
    "sharedsecret",
    "key",
    "apikey",
    "privatekey",
    "secretkey",
    "psk",
    "credential",
    "credentials",
    "accesstoken",
    "refreshtoken",
    "token",
];

/// A description is read by many: it tells how to identify oneself, never with what (TD 1.1 §10).
fn secrets(scheme: &Place<'_>, faults: &mut Vec<Fault>) {
    let is_oauth2 = scheme.text("scheme") == Some("oauth2");
    for (name, member) in scheme.members() {
        // The address of the server that gives tokens is no secret.
        let is_address = is_oauth2 && name == "token";
        let word = name.rsplit_once(':').map_or(name, |(_, word)| word);
        let word: String = word.chars().filter(|c| c.is_alphanumeric()).collect();
        let is_secret = SECRETS.contains(&word.to_lowercase().as_str());
        if is_secret && !is_address && member.value.is_string() {
            faults.push(member.fault("a secret in a description that many read; take it out, and change it"));
        }
        // The same in a URI is found wherever URIs are.
        if let Some(text) = member.value.as_str()
            && ["proxy", "authorization", "token", "refresh"].contains(&name)
            && let Some(message) = secret_in_uri(text)
        {
            faults.push(member.fault(message));
        }
    }
}

/// Why a URI holds a secret: a password before the host, or a query parameter that is one.
pub(super) fn secret_in_uri(uri: &str) -> Option<&'static str> {
    let rest = uri.split_once("//").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user
        .split_once(':')
        .is_some_and(|(_, password)| !password.is_empty())
    {
        return Some("a password in a URI that many read; take it out, and change it");
    }
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let holds = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .any(|(name, value)| {
            let name: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
            // A template's variable stands for what the client knows.
            let name = name.to_lowercase();
            // `?key=` asks for an entry as often as it gives a secret.
            !value.is_empty() && !value.starts_with('{') && name != "key" && SECRETS.contains(&name.as_str())
        });
    holds.then_some("a secret in the query of a URI that many read; take it out, and change it")
}
