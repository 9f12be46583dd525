//! What there is over HTTP: OpenAPI 3.1 at `/openapi.json`, and a page at `/docs` that shows it without anything from
//! elsewhere.
//!
//! Beside each handler stands what is its own; what holds for all of them (problems, the token) is added here.
use crate::app::App;
use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use telltale_runtime::web::problem;
use telltale_schemas::check::FILES;
use utoipa::{ToSchema, openapi::OpenApi};

/// A W3C Thing Description 1.1.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct Description(pub(crate) Value);

/// A JSON Merge Patch (RFC 7396) of a description: members that are `null` are taken away.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct Patch(pub(crate) Value);

/// What any request may be answered with: status, and why.
const EVERYWHERE: [(&str, &str); 4] = [
    ("400", "The request cannot be read."),
    (
        "403",
        "The token is not for this, or the request is of another site's page.",
    ),
    ("415", "A body with a `Content-Encoding`."),
    ("421", "Another host is meant."),
];
/// And where a token is asked for.
const WITH_TOKEN: [(&str, &str); 3] = [
    ("401", "No token, or none that is valid."),
    ("429", "Too many attempts with wrong tokens."),
    (
        "503",
        "Something that is needed does not answer; try again after `Retry-After`.",
    ),
];
/// And where there is a body.
const WITH_BODY: [(&str, &str); 2] = [
    ("408", "The body did not come in time."),
    ("413", "The body is too large."),
];
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// The page: no script, style or request but our own.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
);

/// The routes of the document and of the page.
pub(crate) fn routes(document: OpenApi) -> Router<App> {
    let document = complete(serde_json::to_value(document).unwrap_or_default()).to_string();
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { file("application/json", document.clone()) }),
        )
        .route("/docs", get(|| async { page() }))
        .route(
            "/docs/viewer.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("docs/viewer.js")) }),
        )
        .route(
            "/docs/viewer.css",
            get(|| async { file("text/css; charset=utf-8", include_str!("docs/viewer.css")) }),
        )
}

fn page() -> Response {
    let html = file("text/html; charset=utf-8", include_str!("docs/index.html"));
    ([POLICY], html).into_response()
}

/// A file that is what it says it is.
pub(crate) fn file(kind: &'static str, text: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, text.into()).into_response()
}

/// The document of the handlers, with what holds for all of them.
fn complete(mut document: Value) -> Value {
    document["info"] = json!({
        "title": "Telltale gateway",
        "description": "Things, their descriptions, their data and their actions. Show a token: \
            `Authorization: Bearer <name>.<secret>`. Refusals are problems (RFC 9457).",
        "version": env!("CARGO_PKG_VERSION"),
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
    });
    document["security"] = json!([{ "token": [] }]);
    document["components"]["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer", "description": "`telltale token create` makes one." }
    });
    document["components"]["schemas"]["Problem"] = problem_schema();
    document["components"]["schemas"]["Description"] = description_schema();
    let paths = document["paths"].as_object_mut();
    for item in paths.into_iter().flat_map(Map::values_mut) {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                complete_operation(operation);
            }
        }
    }
    document
}

fn complete_operation(operation: &mut Value) {
    // `security: [{}]` of its own says that nobody need say who asks.
    let with_token = operation.get("security").is_none();
    let with_body = operation.get("requestBody").is_some();
    let general = EVERYWHERE
        .iter()
        .chain(WITH_TOKEN.iter().filter(|_| with_token))
        .chain(WITH_BODY.iter().filter(|_| with_body));
    // A parameter that may be left out cannot be `null`: there is no such value in an address or a header.
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if let Some(Value::Array(types)) = parameter.pointer_mut("/schema/type") {
            types.retain(|kind| kind != "null");
        }
        // Said by its bounds; a format of fewer bits than they have would contradict them.
        if let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut)
            && schema.contains_key("maximum")
        {
            schema.remove("format");
        }
    }
    if !operation["responses"].is_object() {
        operation["responses"] = json!({});
    }
    for (status, why) in general {
        if operation["responses"].get(status).is_none() {
            operation["responses"][status] = json!({ "description": why });
        }
    }
    let responses = operation["responses"].as_object_mut();
    for (status, response) in responses.into_iter().flatten() {
        if status.starts_with(['4', '5']) && response.get("content").is_none() {
            let schema = json!({ "$ref": "#/components/schemas/Problem" });
            response["content"] = json!({ problem::MEDIA_TYPE: { "schema": schema } });
        }
    }
}

/// Our own schema of descriptions, as a part of this document: what it refers to is here too.
fn description_schema() -> Value {
    let file = FILES
        .iter()
        .find(|(name, _)| *name == "thing-description.v1.schema.json");
    let text = file.map_or("{}", |(_, text)| *text);
    let text = text.replace("\"#/$defs/", "\"#/components/schemas/Description/$defs/");
    let mut schema: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    schema
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "Why a request was refused (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string", "description": "The status in words." },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What was wrong, and what to do." },
            "errors": {
                "type": "array",
                "description": "Each fault of a document.",
                "items": {
                    "type": "object",
                    "required": ["pointer", "message"],
                    "properties": {
                        "pointer": { "type": "string", "description": "Where (JSON Pointer, RFC 6901)." },
                        "message": { "type": "string" }
                    }
                }
            },
            "validationErrors": {
                "type": "array",
                "description": "The same in the words of W3C WoT Discovery.",
                "items": {
                    "type": "object",
                    "required": ["field", "description"],
                    "properties": { "field": { "type": "string" }, "description": { "type": "string" } }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &'static str)| {
            (format!("{item} {path}"), &document["paths"][path][item])
        };
        paths
            .keys()
            .flat_map(|path| METHODS.map(|method| (path, method)))
            .map(of)
            .filter(|(_, operation)| operation.is_object())
            .collect()
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_a_summary_and_its_refusals() {
        let document = complete(serde_json::to_value(crate::api().into_openapi()).unwrap());
        let operations = operations(&document);
        assert!(operations.len() >= 12, "{}", operations.len());
        let mut names = BTreeSet::new();
        for (what, operation) in operations {
            assert!(
                names.insert(operation["operationId"].as_str().unwrap()),
                "{what}: its name is another's"
            );
            assert!(operation["summary"].is_string(), "{what} says nothing");
            assert!(operation["tags"][0].is_string(), "{what} is in no group");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{what}");
            assert!(responses.contains_key("421"), "{what}");
            let is_open = operation.get("security").is_some();
            assert_eq!(responses.contains_key("401"), !is_open, "{what}");
            let is_discovery = operation["tags"][0] == "discovery";
            assert!(!is_open || is_discovery, "{what} asks for no token");
        }
    }

    #[test]
    fn all_that_the_document_refers_to_is_in_it() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = complete(serde_json::to_value(crate::api().into_openapi()).unwrap());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/Problem"));
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
