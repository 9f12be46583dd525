//! Forms: names that are defined, and URI templates whose variables are declared.
use super::{AFFORDANCES, security};
use crate::{kinds::Fault, refusal::shown, td::place::Place};
use serde_json::{Map, Value};

pub(super) fn check(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    let context = Context::of(whole);
    context.own_variables(whole, faults);
    if let Some(base) = whole.member("base")
        && let Some(message) = base.value.as_str().and_then(security::secret_in_uri)
    {
        faults.push(base.fault(message));
    }
    for form in whole.items_of("forms") {
        context.form(&form, None, faults);
    }
    for (_, affordance) in AFFORDANCES.iter().flat_map(|kind| whole.members_of(kind)) {
        for form in affordance.items_of("forms") {
            context.form(&form, affordance.value.get("uriVariables"), faults);
        }
    }
}

/// What the forms of a description refer to.
struct Context<'a> {
    definitions: Option<&'a Map<String, Value>>,
    schemas: Option<&'a Map<String, Value>>,
    variables: Option<&'a Value>,
    base: &'a str,
    security: Option<&'a Value>,
}

impl<'a> Context<'a> {
    fn of(whole: &Place<'a>) -> Self {
        let map = |name: &str| whole.value.get(name).and_then(Value::as_object);
        Self {
            definitions: map("securityDefinitions"),
            schemas: map("schemaDefinitions"),
            variables: whole.value.get("uriVariables"),
            base: whole.text("base").unwrap_or_default(),
            security: whole.value.get("security"),
        }
    }

    /// The variables that the key of `apikey` in the URI takes, by the names of their schemes.
    fn keys(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let definitions = self.definitions.into_iter().flatten();
        definitions.filter_map(|(name, scheme)| {
            let is_in_uri = scheme.get("in").and_then(Value::as_str) == Some("uri");
            let variable = scheme.get("name").and_then(Value::as_str);
            variable
                .filter(|_| is_in_uri)
                .map(|variable| (name.as_str(), variable))
        })
    }

    /// What takes a security parameter is no other variable (TD 1.1 §5.3.3.5).
    fn own_variables(&self, whole: &Place<'_>, faults: &mut Vec<Fault>) {
        let affordances = AFFORDANCES.iter().flat_map(|kind| whole.members_of(kind));
        let places = affordances
            .map(|(_, affordance)| affordance)
            .chain([whole.clone()]);
        for (name, variable) in places.flat_map(|place| place.members_of("uriVariables")) {
            if self.keys().any(|(_, key)| key == name) {
                faults.push(variable.fault("a security scheme has a variable of that name"));
            }
        }
    }

    fn form(&self, form: &Place<'_>, variables: Option<&Value>, faults: &mut Vec<Fault>) {
        let empty = Map::new();
        security::uses(form, self.definitions.unwrap_or(&empty), faults);
        for response in form.items_of("additionalResponses") {
            let Some(schema) = response.member("schema") else {
                continue;
            };
            let is_there = |name: &str| self.schemas.is_some_and(|schemas| schemas.contains_key(name));
            if let Some(name) = schema.value.as_str().filter(|name| !is_there(name)) {
                faults.push(schema.fault(format!("`{}` is not in `schemaDefinitions`", shown(name))));
            }
        }
        if let Some(href) = form.member("href") {
            self.href(form, &href, variables, faults);
        }
    }

    fn href(&self, form: &Place<'_>, href: &Place<'_>, variables: Option<&Value>, faults: &mut Vec<Fault>) {
        let Some(text) = href.value.as_str() else { return };
        if let Some(message) = security::secret_in_uri(text) {
            faults.push(href.fault(message));
        }
        let Some(used) = template_variables(text) else {
            faults.push(href.fault("a URI template whose braces do not match"));
            return;
        };
        let is_declared = |name: &str| {
            let has = |map: Option<&Value>| map.is_some_and(|map| map.get(name).is_some());
            has(variables) || has(self.variables) || self.keys().any(|(_, key)| key == name)
        };
        if let Some(unknown) = used.iter().find(|name| !is_declared(name)) {
            let message = format!("variable `{}` is not in `uriVariables`", shown(unknown));
            faults.push(href.fault(message));
        }
        let security = form.value.get("security").or(self.security);
        let is_used = |scheme: &str| match security {
            Some(Value::String(name)) => name == scheme,
            Some(Value::Array(names)) => names.iter().any(|name| name.as_str() == Some(scheme)),
            _ => false,
        };
        let of_base = template_variables(self.base).unwrap_or_default();
        let missing = self
            .keys()
            .find(|(scheme, key)| is_used(scheme) && !used.contains(key) && !of_base.contains(key));
        if let Some((scheme, key)) = missing {
            let message = format!("security `{}` needs `{{{}}}` in it", shown(scheme), shown(key));
            faults.push(href.fault(message));
        }
    }
}

/// The variables of a URI template (RFC 6570 §2); `None` where its braces do not match.
fn template_variables(template: &str) -> Option<Vec<&str>> {
    let mut variables = Vec::new();
    let mut rest = template;
    loop {
        let Some((before, after)) = rest.split_once('{') else {
            return (!rest.contains('}')).then_some(variables);
        };
        let (expression, after) = after.split_once('}')?;
        if before.contains('}') || expression.contains('{') {
            return None;
        }
        let names = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
        variables.extend(names.split(',').map(|name| {
            let name = name.strip_suffix('*').unwrap_or(name);
            name.split(':').next().unwrap_or_default()
        }));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_template_are_found() {
        for (template, wanted) in [
            ("/a", Some(vec![])),
            ("/a/{b}", Some(vec!["b"])),
            ("/{?p,d}", Some(vec!["p", "d"])),
            ("{/a*}{&b:3}", Some(vec!["a", "b"])),
            ("/{a", None),
            ("/a}", None),
            ("/{a{b}}", None),
        ] {
            assert_eq!(template_variables(template), wanted, "{template}");
        }
    }
}
