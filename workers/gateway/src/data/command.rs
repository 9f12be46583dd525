//! Writing a property and invoking an action: a `command` on `command.<site>.<thing>.<name>`.
//!
//! "Queued" is said once the stream COMMANDS has it, and means no more: whether it is carried out is told by outcomes.
use super::{affordance, thing};
use crate::{
    app::App,
    auth::{Caller, Scope},
    sql::media,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use telltale_nats::{
    Lane, Name, Subject, header,
    publish::{Outgoing, PublishError},
};
use telltale_runtime::web::{Path, Problem, Query, body};
use telltale_schemas::{
    Command, Envelope, Timestamp, check, duration, id,
    kinds::Fault,
    pending::PRIORITY_MAX,
    strict::{self, Limits},
};
use ulid::Ulid;
use utoipa::ToSchema;

/// What an input may be.
const INPUT: Limits = Limits {
    bytes: 16 * 1024,
    depth: 32,
};
/// How long a command is worth carrying out, if not said.
const EXPIRES: Duration = Duration::from_secs(600);
/// The longest that may be said: the stream keeps commands a day longer.
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 86_400);
/// The asker's own key.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the query string says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    expires: Option<String>,
    priority: Option<u8>,
    start: Option<Timestamp>,
}

/// When it is worth carrying out, and before which others.
#[derive(Debug, Clone, Copy, PartialEq)]
struct When {
    expires: Timestamp,
    priority: Option<u8>,
    start: Option<Timestamp>,
}

/// A command that waits for its device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queued {
    /// Its id; outcomes name it as `command_id`.
    id: String,
    /// The thing.
    thing: String,
    /// The property or action.
    name: String,
    /// `queued`: the stream COMMANDS has it on disk. It does not say that it was carried out.
    #[schema(example = "queued")]
    state: &'static str,
    /// After this it is never carried out (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    expires: Timestamp,
}

type Answer = (StatusCode, Json<Queued>);

/// Writes a property: sends its device a command. The body is the value, as JSON.
///
/// With `Idempotency-Key`, sent again until a day after its end it is still one command.
#[utoipa::path(
    put,
    path = "/things/{id}/properties/{name}",
    operation_id = "writeProperty",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("name" = String, Path, description = "A property that its description does not call `readOnly`."),
        ("expires" = Option<String>, Query, description = "How long it is worth carrying out, as in 30s; up to 7d, 10m if not said."),
        ("priority" = Option<u8>, Query, description = "0 to 9, larger first among the commands of the thing; 5 if not said."),
        ("start" = Option<String>, Query, description = "Not delivered before (RFC 3339)."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters."),
    ),
    request_body(content = Value, content_type = "application/json"),
    responses(
        (status = 202, description = "The command is on disk and waits for its device.", body = Queued),
        (status = 400, description = "The value is not what the description demands; `errors` names the place."),
        (status = 403, description = "The token lacks the scope `command`, or the property is read-only."),
        (status = 404, description = "No such thing is described, or it has no such property."),
        (status = 413, description = "The value is too large."),
        (status = 415, description = "The value is no JSON."),
        (status = 503, description = "The broker does not take it now; it may have it all the same."),
    )
)]
pub(super) async fn write(
    caller: Caller,
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    Query(how): Query<How>,
    headers: HeaderMap,
    request: Body,
) -> Result<Answer, Problem> {
    caller.may(Scope::Command)?;
    let (thing, name) = (thing(&id)?, affordance(&name)?);
    let when = when(&how)?;
    let input = read(&headers, request).await?;
    let property = described(&app, &thing, "properties", &name).await?;
    if property.get("readOnly") == Some(&Value::Bool(true)) {
        return Err(Problem::forbidden(format!(
            "property `{name}` of thing `{thing}` is read-only"
        )));
    }
    let input = input.ok_or_else(|| Problem::bad_request("the body is the value, as JSON; there is none"))?;
    judge(&property, &input)?;
    send(&app, &caller, &headers, thing, name, input, when).await
}

/// Invokes an action: sends its device a command. The body is the input, as JSON, where the action has one.
///
/// With `Idempotency-Key`, sent again until a day after its end it is still one command.
#[utoipa::path(
    post,
    path = "/things/{id}/actions/{name}",
    operation_id = "invokeAction",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("name" = String, Path, description = "An action of its description."),
        ("expires" = Option<String>, Query, description = "How long it is worth carrying out, as in 30s; up to 7d, 10m if not said."),
        ("priority" = Option<u8>, Query, description = "0 to 9, larger first among the commands of the thing; 5 if not said."),
        ("start" = Option<String>, Query, description = "Not delivered before (RFC 3339)."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters."),
    ),
    request_body(content = Option<Value>, content_type = "application/json"),
    responses(
        (status = 202, description = "The command is on disk and waits for its device.", body = Queued),
        (status = 400, description = "The input is not what the description demands; `errors` names the place."),
        (status = 403, description = "The token lacks the scope `command`."),
        (status = 404, description = "No such thing is described, or it has no such action."),
        (status = 413, description = "The input is too large."),
        (status = 415, description = "The input is no JSON."),
        (status = 503, description = "The broker does not take it now; it may have it all the same."),
    )
)]
pub(super) async fn invoke(
    caller: Caller,
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    Query(how): Query<How>,
    headers: HeaderMap,
    request: Body,
) -> Result<Answer, Problem> {
    caller.may(Scope::Command)?;
    let (thing, name) = (thing(&id)?, affordance(&name)?);
    let when = when(&how)?;
    let input = read(&headers, request).await?;
    let action = described(&app, &thing, "actions", &name).await?;
    let input = match (action.get("input"), input) {
        (Some(schema), input) => {
            let input = input.unwrap_or_default();
            judge(schema, &input)?;
            input
        }
        (None, None | Some(Value::Null)) => Value::Null,
        (None, Some(_)) => {
            return Err(Problem::bad_request(format!(
                "action `{name}` of thing `{thing}` has no input"
            )));
        }
    };
    send(&app, &caller, &headers, thing, name, input, when).await
}

fn when(how: &How) -> Result<When, Problem> {
    let span = match &how.expires {
        None => EXPIRES,
        Some(text) => duration::parse(text)
            .filter(|span| !span.is_zero() && *span <= EXPIRES_MAX)
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Problem::bad_request(format!("`expires` is `{shown}`; say up to 7d, as in 30s or 10m"))
            })?,
    };
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let expires = Timestamp::now().plus_micros(micros);
    if let Some(priority) = how.priority.filter(|priority| *priority > PRIORITY_MAX) {
        let told = format!("`priority` is {priority}; say 0 to {PRIORITY_MAX}");
        return Err(Problem::bad_request(told));
    }
    if let Some(start) = how.start.filter(|start| expires <= *start) {
        let told = format!("`start` is {start}, when it has expired: say a longer `expires`");
        return Err(Problem::bad_request(told));
    }
    Ok(When {
        expires,
        priority: how.priority,
        start: how.start,
    })
}

async fn read(headers: &HeaderMap, request: Body) -> Result<Option<Value>, Problem> {
    let bytes = body::read(request, INPUT.bytes).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    media::demand_json(headers, "what is sent is application/json")?;
    Ok(Some(strict::parse(&bytes, &INPUT)?))
}

/// What the thing's description says of it.
async fn described(app: &App, thing: &Name, kind: &str, name: &Name) -> Result<Value, Problem> {
    let mut found = app.registry().described(thing).await?;
    let one = found
        .entry
        .td
        .as_mut()
        .and_then(|td| td.get_mut(kind))
        .and_then(|all| all.get_mut(name.plain()))
        .map(Value::take);
    let what = if kind == "actions" { "action" } else { "property" };
    one.ok_or_else(|| {
        Problem::not_found(format!(
            "the description of thing `{thing}` has no {what} `{name}`"
        ))
    })
}

fn judge(schema: &Value, input: &Value) -> Result<(), Problem> {
    match check::against(schema, input) {
        Ok(faults) if faults.is_empty() => Ok(()),
        Ok(faults) => Err(Problem::invalid(faults)),
        Err(why) => Err(Problem::invalid(vec![Fault::at(
            "",
            format!("the description's own schema cannot be used: {why}"),
        )])),
    }
}

async fn send(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    thing: Name,
    name: Name,
    input: Value,
    when: When,
) -> Result<Answer, Problem> {
    let id = id::of(thing.plain(), &key(headers)?);
    let queued = Queued {
        id: id.clone(),
        thing: thing.plain().to_owned(),
        name: name.plain().to_owned(),
        state: "queued",
        expires: when.expires,
    };
    let command = Command {
        priority: when.priority,
        start: when.start,
        ..Command::new(name.plain(), input)
    };
    let source = format!("/{}/gateway", app.site().plain());
    let mut envelope = Envelope::new(&id, source, thing.plain(), Timestamp::now(), command);
    let traceparent = id::traceparent(&id);
    envelope.protocol = Some("http".to_owned());
    envelope.publisher = Some(caller.name().to_owned());
    envelope.traceparent = Some(traceparent.clone());
    envelope.expirytime = Some(when.expires);
    let payload = serde_json::to_vec(&envelope).map_err(|error| Problem::internal(&error.into()))?;
    let outgoing = Outgoing {
        subject: Subject::named(Lane::Command, app.site().clone(), thing, name).to_string(),
        headers: vec![
            (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
            (header::TRACEPARENT, traceparent),
            (header::MSG_ID, id),
        ],
        payload: payload.into(),
        stream: Lane::Command.stream(),
    };
    match app.publisher().send(outgoing).await {
        Ok(_) => Ok((StatusCode::ACCEPTED, Json(queued))),
        Err(error) => Err(refused(error)),
    }
}

/// The asker's key, or a new one.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(Ulid::generate().to_string()),
        (Some(key), None) if key.to_str().is_ok_and(id::is_key) => {
            Ok(key.to_str().unwrap_or_default().to_owned())
        }
        _ => Err(Problem::bad_request(
            "`Idempotency-Key` is once 1 to 128 printable ASCII characters without spaces",
        )),
    }
}

fn refused(error: PublishError) -> Problem {
    match error {
        PublishError::Full | PublishError::Busy | PublishError::CapForSubject => {
            Problem::away(format!("the command was not taken: {error}"))
        }
        PublishError::Away(why) => {
            tracing::warn!("a command was not confirmed: {why}");
            Problem::away("the broker did not confirm the command; it may have it")
        }
        PublishError::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the command is too large"),
        PublishError::Other(why) => Problem::internal(&anyhow::anyhow!("publish a command: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;

    #[test]
    fn a_key_is_the_askers_or_new() {
        let mut headers = HeaderMap::new();
        assert_ne!(key(&headers).unwrap(), key(&headers).unwrap());
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k1"));
        assert_eq!(key(&headers).unwrap(), "k1");
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("k2"));
        assert_eq!(key(&headers).unwrap_err().status(), 400);
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("two words"));
        assert_eq!(key(&headers).unwrap_err().status(), 400);
    }

    #[test]
    fn an_input_is_judged_by_the_description() {
        let schema = json!({ "type": "integer", "minimum": 0, "maximum": 100, "unit": "%", "forms": [{ "href": "x" }] });
        assert!(judge(&schema, &json!(50)).is_ok());
        for wrong in [json!(101), json!("50"), json!(null)] {
            assert_eq!(judge(&schema, &wrong).unwrap_err().status(), 400, "{wrong}");
        }
    }

    #[test]
    fn a_command_is_worth_carrying_out_for_a_week_at_most() {
        let how = |text: &str| How {
            expires: Some(text.to_owned()),
            ..How::default()
        };
        assert!(when(&how("7d")).is_ok() && when(&How::default()).is_ok());
        for text in ["8d", "0s", "soon"] {
            assert!(when(&how(text)).is_err(), "{text}");
        }
        let start = Some(Timestamp::now().plus_micros(60_000_000));
        let late = How { start, ..how("30s") };
        assert_eq!(when(&late).unwrap_err().status(), 400);
        assert_eq!(
            when(&How {
                start,
                ..How::default()
            })
            .unwrap()
            .start,
            start
        );
        let high = How {
            priority: Some(10),
            ..How::default()
        };
        assert_eq!(when(&high).unwrap_err().status(), 400);
    }
}
