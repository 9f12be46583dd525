//! `/.well-known/wot`: the description of the directory itself (W3C WoT Discovery §6.2, §7.4). It has nothing of any
//! thing, so nobody need say who asks.
use super::serve::Bases;
use crate::{app::App, openapi::Description};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use telltale_schemas::td;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(wot))
}

/// The description of the directory itself.
#[utoipa::path(
    get,
    path = "/.well-known/wot",
    tag = "discovery",
    security(()),
    responses((status = 200, description = "It.", body = Description, content_type = "application/td+json"))
)]
async fn wot(State(app): State<App>) -> Response {
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(td::MEDIA_TYPE))];
    let body = description(app.bases(), app.site().plain()).to_string();
    (kind, body).into_response()
}

/// Of a directory at that address.
fn description(bases: &Bases, site: &str) -> Value {
    let id = td::thing_id(&format!("directory of {site}"));
    let title = format!("Things of {site}");
    let diff = json!({ "diff": { "type": "boolean", "default": false } });
    json!({
        "@context": [
            td::CONTEXT,
            "https://www.w3.org/2022/wot/discovery",
            { "htv": "http://www.w3.org/2011/http#" }
        ],
        "@type": "ThingDirectory",
        "id": id,
        "title": title,
        "base": format!("{}/", bases.http),
        "securityDefinitions": { "token": { "scheme": "bearer", "in": "header", "format": "opaque", "alg": "none" } },
        "security": "token",
        "properties": {
            "things": {
                "description": "All descriptions, page by page",
                "readOnly": true,
                "uriVariables": {
                    "offset": { "type": "integer", "minimum": 0, "default": 0 },
                    "limit": { "type": "integer", "minimum": 1 },
                    "format": { "type": "string", "enum": ["array", "collection"], "default": "array" }
                },
                "forms": [get("things{?offset,limit,format}", "application/ld+json")]
            }
        },
        "actions": actions(),
        "events": {
            "thingCreated": event("thing_created", &diff),
            "thingUpdated": event("thing_updated", &diff),
            "thingDeleted": event("thing_deleted", &json!({}))
        }
    })
}

fn actions() -> Value {
    let text = json!({ "type": "string" });
    let thing = json!({ "id": { "type": "string", "description": "The `id` of a description" } });
    json!({
        "createAnonymousThing": {
            "description": "Register a thing that may have no id",
            "input": { "type": "object" },
            "forms": [form("things", "POST", td::MEDIA_TYPE)]
        },
        "createThing": {
            "description": "Register a thing by its id",
            "uriVariables": thing,
            "input": { "type": "object" },
            "forms": [form("things/{id}", "PUT", td::MEDIA_TYPE)]
        },
        "retrieveThing": {
            "description": "The description of a thing",
            "uriVariables": thing,
            "safe": true,
            "idempotent": true,
            "output": { "type": "object" },
            "forms": [form("things/{id}", "GET", td::MEDIA_TYPE)]
        },
        "updateThing": {
            "description": "Replace a description",
            "uriVariables": thing,
            "input": { "type": "object" },
            "idempotent": true,
            "forms": [form("things/{id}", "PUT", td::MEDIA_TYPE)]
        },
        "partiallyUpdateThing": {
            "description": "Change parts of a description",
            "uriVariables": thing,
            "input": { "type": "object" },
            "forms": [form("things/{id}", "PATCH", "application/merge-patch+json")]
        },
        "deleteThing": {
            "description": "Take a thing away",
            "uriVariables": thing,
            "idempotent": true,
            "forms": [form("things/{id}", "DELETE", td::MEDIA_TYPE)]
        },
        "searchJSONPath": {
            "description": "Search by JSONPath (RFC 9535)",
            "uriVariables": { "query": text },
            "safe": true,
            "idempotent": true,
            "output": { "type": "array" },
            "forms": [form("search/jsonpath{?query}", "GET", "application/json")]
        }
    })
}

fn get(href: &str, kind: &str) -> Value {
    json!({ "href": href, "htv:methodName": "GET", "contentType": kind })
}

fn form(href: &str, method: &str, kind: &str) -> Value {
    json!({ "href": href, "htv:methodName": method, "contentType": kind, "op": "invokeaction" })
}

fn event(word: &str, variables: &Value) -> Value {
    let query = if variables.get("diff").is_some() {
        "{?diff}"
    } else {
        ""
    };
    json!({
        "uriVariables": variables,
        "data": { "type": "object", "properties": { "id": { "type": "string" } }, "required": ["id"] },
        "forms": [{
            "href": format!("events/{word}{query}"),
            "subprotocol": "sse",
            "contentType": "text/event-stream",
            "op": "subscribeevent"
        }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_s_own_description_is_one_that_it_would_take() {
        let bases = Bases {
            http: "http://127.0.0.1:8081".to_owned(),
            ..Bases::default()
        };
        assert_eq!(td::check(&description(&bases, "a8-km42")), []);
    }
}
