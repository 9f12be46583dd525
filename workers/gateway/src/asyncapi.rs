//! What there is over NATS: AsyncAPI 3.0 at `/asyncapi.json`, from the lanes of `nats/src/subject.rs` and the schemas
//! of `schemas/json`, which are served beside it.
use crate::{app::App, openapi::file, service::OPERATIONS};
use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};
use serde_json::{Map, Value, json};
use telltale_nats::{
    Lane, header,
    subject::{TOKEN_MAX, api_shape, pack},
};
use telltale_runtime::web::{Path, Problem};
use telltale_schemas::{Kind, check::FILES};

/// Of our schemas, where a document says in which language a payload is described.
const SCHEMA_FORMAT: &str = "application/schema+json;version=draft-2020-12";

/// The routes of the document and of the schemas.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/asyncapi.json",
            get(|State(app): State<App>| async move {
                file(
                    "application/json",
                    document(app.bases().nats.as_deref(), &app).to_string(),
                )
            }),
        )
        .route("/schemas/{file}", get(schema))
}

/// One of our JSON Schemas.
async fn schema(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no such schema"))?;
    Ok(file("application/schema+json", *text))
}

fn document(server: Option<&str>, app: &App) -> Value {
    let mut document = describe(&app.bases().http);
    if let Some((protocol, host)) = server.and_then(|server| server.split_once("://")) {
        document["servers"] = json!({ "broker": { "host": host, "protocol": protocol } });
    }
    document
}

/// Where schemas are at that address.
fn describe(base: &str) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for lane in Lane::ALL {
        let word = lane.word();
        channels.insert(word.to_owned(), lane_channel(lane));
        // As seen from us: what we take, and what we tell.
        let action = if lane == Lane::Raw { "receive" } else { "send" };
        operations.insert(
            format!("{action}_{word}"),
            json!({
                "action": action,
                "channel": { "$ref": format!("#/channels/{word}") },
                "summary": summary(lane)
            }),
        );
    }
    for operation in OPERATIONS {
        let word = format!("things_{}", operation.word);
        channels.insert(word.clone(), api_channel(operation.word, "asked"));
        channels.insert(
            format!("{word}_reply"),
            json!({
                "address": null,
                "description": "The inbox of whoever asks.",
                "messages": { "answer": { "$ref": "#/components/messages/answer" } }
            }),
        );
        operations.insert(
            word.clone(),
            json!({
                "action": "receive",
                "channel": { "$ref": format!("#/channels/{word}") },
                "summary": operation.about,
                "reply": {
                    "address": { "location": "$message.header#/reply" },
                    "channel": { "$ref": format!("#/channels/{word}_reply") }
                }
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Telltale",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Readings, events and commands of things on NATS JetStream.",
            "license": { "name": "Apache-2.0" }
        },
        "defaultContentType": header::CLOUDEVENT,
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages(base), "parameters": parameters() }
    })
}

fn lane_channel(lane: Lane) -> Value {
    let mut names = vec!["site", "thing"];
    names.extend(lane.has_name().then_some("name"));
    let parameters: Map<String, Value> = names
        .into_iter()
        .map(|name| {
            (
                name.to_owned(),
                json!({ "$ref": format!("#/components/parameters/{name}") }),
            )
        })
        .collect();
    let message = kind(lane).map_or("raw", Kind::word);
    let mut channel = json!({
        "address": lane.shape(),
        "description": format!("{} Kept by the stream {}.", summary(lane), lane.stream()),
        "parameters": parameters,
        "messages": { message: { "$ref": format!("#/components/messages/{message}") } }
    });
    if lane == Lane::Valid {
        // One thing's name is that of no thing: what was at hand together.
        let site = telltale_nats::Name::new("site")
            .map(|site| pack(&site))
            .unwrap_or_default();
        channel["messages"]["pack"] = json!({ "$ref": "#/components/messages/pack" });
        channel["description"] = format!(
            "{} Up to 50 of them travel together as a batch, on a subject such as `{site}`.",
            channel["description"].as_str().unwrap_or_default()
        )
        .into();
    }
    channel
}

fn api_channel(operation: &str, message: &str) -> Value {
    json!({
        "address": api_shape("things", operation),
        "parameters": { "site": { "$ref": "#/components/parameters/site" } },
        "messages": { message: { "$ref": format!("#/components/messages/{message}") } }
    })
}

const fn kind(lane: Lane) -> Option<Kind> {
    match lane {
        Lane::Raw => None,
        Lane::Valid => Some(Kind::Reading),
        Lane::Annotated => Some(Kind::Observation),
        Lane::Derived => Some(Kind::Derivation),
        Lane::Event => Some(Kind::Event),
        Lane::Command => Some(Kind::Command),
        Lane::Outcome => Some(Kind::Outcome),
        Lane::Thing => Some(Kind::Registration),
        Lane::Quarantine => Some(Kind::Quarantine),
    }
}

const fn summary(lane: Lane) -> &'static str {
    match lane {
        Lane::Raw => "What devices sent, as they sent it.",
        Lane::Valid => "Readings that were found valid.",
        Lane::Annotated => "Readings with what is known of their thing.",
        Lane::Derived => "Records computed from others.",
        Lane::Event => "What happened to a thing.",
        Lane::Command => "Requests to a thing.",
        Lane::Outcome => "What became of a command.",
        Lane::Thing => "Changes in the life of a thing.",
        Lane::Quarantine => "Messages that were refused, whole, and why.",
    }
}

fn messages(base: &str) -> Map<String, Value> {
    let payload = |file: &str| {
        json!({
            "schemaFormat": SCHEMA_FORMAT,
            "schema": { "$ref": format!("{base}/schemas/{file}") }
        })
    };
    let mut messages: Map<String, Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let message = json!({
                "name": kind.event_type(),
                "contentType": header::CLOUDEVENT,
                "payload": payload(&format!("{}.v1.schema.json", kind.word()))
            });
            (kind.word().to_owned(), message)
        })
        .collect();
    messages.extend([
        ("raw".to_owned(), raw_message()),
        ("pack".to_owned(), pack_message(base)),
        ("asked".to_owned(), asked_message()),
        ("answer".to_owned(), answer_message()),
    ]);
    messages
}

fn raw_message() -> Value {
    json!({
        "summary": "JSON, SenML (JSON, CBOR) or CloudEvents, by `Content-Type`; else by its first byte.",
        "payload": {}
    })
}

fn pack_message(base: &str) -> Value {
    let item = json!({ "$ref": format!("{base}/schemas/reading.v1.schema.json") });
    json!({
        "contentType": header::CLOUDEVENT_BATCH,
        "payload": { "schemaFormat": SCHEMA_FORMAT, "schema": { "type": "array", "items": item } }
    })
}

fn asked_message() -> Value {
    json!({
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": ["Authorization"],
            "properties": { "Authorization": { "type": "string", "description": "Bearer <name>.<secret>" } }
        },
        "payload": {
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "td": { "type": "object" },
                "patch": { "type": "object" },
                "offset": { "type": "integer", "minimum": 0 },
                "limit": { "type": "integer", "minimum": 1 }
            }
        }
    })
}

fn answer_message() -> Value {
    json!({
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                "Nats-Service-Error-Code": { "type": "string", "description": "The HTTP status of a refusal." },
                "Nats-Service-Error": { "type": "string" }
            }
        },
        "payload": {}
    })
}

fn parameters() -> Value {
    let token =
        format!("At most {TOKEN_MAX} bytes of [A-Za-z0-9_=-]; every other byte, and `=`, is written `=XX`.");
    json!({
        "site": { "description": format!("The site. {token}") },
        "thing": { "description": format!("The thing. {token}") },
        "name": { "description": format!("Of the event, command, change or reason. {token}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_a_channel_with_the_schema_of_its_kind() {
        let document = describe("http://gw");
        for lane in Lane::ALL {
            let channel = &document["channels"][lane.word()];
            assert_eq!(channel["address"], lane.shape());
            let Some(kind) = kind(lane) else { continue };
            let message = &document["components"]["messages"][kind.word()];
            let schema = message["payload"]["schema"]["$ref"].as_str().unwrap();
            let file = schema.strip_prefix("http://gw/schemas/").unwrap();
            assert!(FILES.iter().any(|(known, _)| *known == file), "{file}");
        }
    }

    #[test]
    fn all_that_the_document_refers_to_inside_is_in_it() {
        fn check(document: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    let reference = members.get("$ref").and_then(Value::as_str);
                    if let Some(pointer) = reference.and_then(|reference| reference.strip_prefix('#')) {
                        assert!(document.pointer(pointer).is_some(), "{pointer}");
                    }
                    members.values().for_each(|value| check(document, value));
                }
                Value::Array(items) => items.iter().for_each(|value| check(document, value)),
                _ => {}
            }
        }
        let document = describe("http://gw");
        check(&document, &document);
    }
}
