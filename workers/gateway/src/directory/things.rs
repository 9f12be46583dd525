//! One description: created, retrieved, replaced, patched, deleted (W3C WoT Discovery §7.3.1).
use super::{
    many::{self, Told},
    media, serve, thing,
};
use crate::{
    app::App,
    auth::{Caller, Scope},
    openapi::{Description, Patch},
    registry::{DESCRIPTION_MAX, Error, Written},
};
use axum::{
    extract::{FromRequest as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::Value;
use telltale_nats::Name;
use telltale_runtime::web::{Path, Problem, Whole};
use telltale_schemas::{kinds::Change, strict, td};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(retrieve, replace, patch, delete))
}

/// Registers a thing that is not there yet. A description without an `id` gets one.
///
/// Or many: as `application/x-ndjson`, a description a line. The answer has a line for each as soon as it is known what
/// came of it (`line`, `status`, and `id` or a problem), and at its end how many were `created` and `refused`.
#[utoipa::path(
    post,
    path = "/things",
    tag = "directory",
    operation_id = "createAnonymousThing",
    request_body(content((Description = "application/td+json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "What came of each line.", body = Told, content_type = "application/x-ndjson"),
        (status = 201, description = "It is registered; `Location` has its path.", headers(("Location" = String))),
        (status = 400, description = "Not a Thing Description; `errors` has each fault with its place."),
        (status = 409, description = "A thing of that `id` is registered already."),
        (status = 413, description = "Too large."),
        (status = 415, description = "Not said to be a Thing Description."),
    )
)]
async fn create(caller: Caller, State(app): State<App>, request: Request) -> Result<Response, Problem> {
    caller.may(Scope::ThingsWrite)?;
    let headers = request.headers().clone();
    if media::judge(&headers, &[many::LINES]).is_ok() {
        return many::create(app, &caller, request.into_body()).await;
    }
    let Whole(body) = Whole::<DESCRIPTION_MAX>::from_request(request, &app).await?;
    let td = description(&headers, &body)?;
    let written = app.registry().create(td, Some(caller.name())).await;
    let written = written.map_err(told)?;
    let name = Name::new(written.found.entry.thing.as_str());
    let name = name.map_err(|error| Problem::internal(&error.into()))?;
    Ok(created(&name, &written))
}

/// The description of a thing, with our forms and its registration.
#[utoipa::path(
    get,
    path = "/things/{id}",
    tag = "directory",
    operation_id = "retrieveThing",
    params(("id" = String, Path, description = "The `id` of its description, or the thing's name.")),
    responses(
        (status = 200, description = "It, with its revision in `ETag`.", body = Description,
            content_type = "application/td+json", headers(("ETag" = String))),
        (status = 404, description = "No such thing is registered here."),
    )
)]
async fn retrieve(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsRead)?;
    let found = app.registry().described(&thing(&id)?).await?;
    let served = serve(app.bases(), app.site(), &found);
    let body = served.to_string();
    Ok((
        [
            (header::CONTENT_TYPE, HeaderValue::from_static(td::MEDIA_TYPE)),
            (header::ETAG, etag(found.revision)),
        ],
        body,
    )
        .into_response())
}

/// Registers a thing, or replaces its description. The `id` in it must be that of the path.
#[utoipa::path(
    put,
    path = "/things/{id}",
    tag = "directory",
    operation_id = "updateThing",
    params(
        ("id" = String, Path, description = "The `id` of its description."),
        ("If-Match" = Option<String>, Header, description = "Only over the revision that this `ETag` was of."),
    ),
    request_body(content = Description, content_type = "application/td+json"),
    responses(
        (status = 201, description = "It is new.", headers(("Location" = String))),
        (status = 204, description = "It is replaced."),
        (status = 400, description = "Not a Thing Description; `errors` has each fault with its place."),
        (status = 404, description = "No thing can have that name."),
        (status = 412, description = "It is not at that revision."),
        (status = 413, description = "Too large."),
        (status = 415, description = "Not said to be a Thing Description."),
    )
)]
async fn replace(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole<DESCRIPTION_MAX>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsWrite)?;
    let thing = thing(&id)?;
    let mut td = description(&headers, &body)?;
    serve::unserve(app.bases(), app.site(), &thing, &mut td);
    let revision = if_match(&headers);
    let written = app.registry().replace(&thing, td, revision, Some(caller.name()));
    let written = written.await.map_err(told)?;
    Ok(match written.change {
        Some(Change::Created) => created(&thing, &written),
        _ => changed(&written),
    })
}

/// Changes parts of a description (RFC 7396). An empty patch makes a registration with a `ttl` last anew.
#[utoipa::path(
    patch,
    path = "/things/{id}",
    tag = "directory",
    operation_id = "partiallyUpdateThing",
    params(
        ("id" = String, Path, description = "The `id` of its description, or the thing's name."),
        ("If-Match" = Option<String>, Header, description = "Only over the revision that this `ETag` was of."),
    ),
    request_body(content = Patch, content_type = "application/merge-patch+json"),
    responses(
        (status = 204, description = "It is changed."),
        (status = 400, description = "What came of it is no Thing Description; `errors` has each fault with its place."),
        (status = 404, description = "No such thing is registered here."),
        (status = 412, description = "It is not at that revision."),
        (status = 413, description = "Too large."),
        (status = 415, description = "Not said to be a merge patch."),
    )
)]
async fn patch(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole<DESCRIPTION_MAX>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsWrite)?;
    let thing = thing(&id)?;
    media::judge(&headers, media::PATCH)?;
    let patch = strict::parse(&body, &td::LIMITS)?;
    let revision = if_match(&headers);
    let written = app
        .registry()
        .patch(&thing, &patch, revision, Some(caller.name()));
    Ok(changed(&written.await.map_err(told)?))
}

/// Takes a thing away. What it sent stays.
#[utoipa::path(
    delete,
    path = "/things/{id}",
    tag = "directory",
    operation_id = "deleteThing",
    params(
        ("id" = String, Path, description = "The `id` of its description, or the thing's name."),
        ("If-Match" = Option<String>, Header, description = "Only that revision, by its `ETag`."),
    ),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "No such thing is registered here."),
        (status = 412, description = "It is not at that revision."),
    )
)]
async fn delete(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::ThingsWrite)?;
    let thing = thing(&id)?;
    app.registry().described(&thing).await?;
    let (revision, by) = (if_match(&headers), Some(caller.name()));
    app.registry()
        .remove(&thing, Change::Deleted, revision, by)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn description(headers: &HeaderMap, body: &Bytes) -> Result<Value, Problem> {
    media::judge(headers, media::DESCRIPTION)?;
    strict::parse(body, &td::LIMITS).map_err(|refusal| told(Error::Invalid(refusal.faults)))
}

/// A refusal, in which faults of a description have the names of the standard too.
pub(super) fn told(error: Error) -> Problem {
    let is_invalid = matches!(error, Error::Invalid(_));
    let problem = Problem::from(error);
    if is_invalid {
        problem.with_validation_errors()
    } else {
        problem
    }
}

fn created(thing: &Name, written: &Written) -> Response {
    let location = HeaderValue::from_str(&td::forms::path(thing.plain()));
    let location = location.unwrap_or_else(|_| HeaderValue::from_static("/things"));
    let headers = [
        (header::LOCATION, location),
        (header::ETAG, etag(written.found.revision)),
    ];
    (StatusCode::CREATED, headers).into_response()
}

fn changed(written: &Written) -> Response {
    (
        StatusCode::NO_CONTENT,
        [(header::ETAG, etag(written.found.revision))],
    )
        .into_response()
}

fn etag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The revision that `If-Match` names; 0, which none has, for what is no tag of ours.
fn if_match(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(header::IF_MATCH)?.to_str().unwrap_or_default();
    if said == "*" {
        return None;
    }
    let tag = said.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(tag.and_then(|tag| tag.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_not_ours_matches_nothing() {
        let of = |said: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_str(said).unwrap());
            if_match(&headers)
        };
        assert_eq!(if_match(&HeaderMap::new()), None);
        assert_eq!(of("*"), None);
        assert_eq!(of("\"17\""), Some(17));
        for said in ["17", "W/\"17\"", "\"x\"", "\"1\", \"2\"", ""] {
            assert_eq!(of(said), Some(0), "{said}");
        }
    }
}
