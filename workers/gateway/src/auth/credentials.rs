//! The credentials of devices over HTTP: `/things/{id}/credentials`, for administrators.
use super::{Caller, Scope};
use crate::app::App;
use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use telltale_nats::{Name, async_nats::jetstream::kv::Store, client};
use telltale_runtime::{
    identity::{
        credential::{ANY_THING, Credential},
        issue::{self, Issued, Wish},
    },
    web::{Path, Problem, Whole},
};
use telltale_schemas::{Timestamp, kinds::Fault};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Things that one credential may speak for.
const THINGS_MAX: usize = 1_000;
/// The largest body, in bytes.
const BODY_MAX: usize = 128 * 1024;
/// What has a secret in it is kept by nobody on the way.
const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, rotate, revoke))
}

/// What a device's new credential is to be. What is left out stays as it is; of a new one, it speaks for the thing of
/// its own name alone.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// The secrets before this one end at once. Else the last one stays valid beside it, until the next rotation.
    alone: bool,
    /// The things that it may speak for; `*` for any of the site.
    things: Option<Vec<String>>,
    /// Whether it may bring readings of several things in one pack.
    gateway: Option<bool>,
    /// Whether its readings may be of any age.
    backfill: Option<bool>,
}

/// A device's credential. The secret is told when it is made, and never again.
#[derive(Debug, Serialize, ToSchema)]
struct Told {
    /// The device; MQTT's user name.
    device: String,
    /// The things that it may speak for; `*` for any of the site.
    things: Vec<String>,
    /// Whether it may bring readings of several things in one pack.
    gateway: bool,
    /// Whether its readings may be of any age.
    backfill: bool,
    /// When each of its valid secrets was made (RFC 3339), the newest first.
    #[schema(value_type = Vec<Option<String>>)]
    secrets: Vec<Option<Timestamp>>,
    /// For HTTP: `Authorization: Bearer <token>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// MQTT's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Credential> for Told {
    fn from(credential: Credential) -> Self {
        Self {
            device: credential.device,
            things: credential.things,
            gateway: credential.gateway,
            backfill: credential.backfill,
            secrets: credential.hashes.into_iter().map(|hash| hash.made).collect(),
            token: None,
            secret: None,
        }
    }
}

impl From<Issued> for Told {
    fn from(issued: Issued) -> Self {
        Self {
            token: issued.token(),
            secret: issued.secret,
            ..issued.credential.into()
        }
    }
}

/// What an answer with a credential in it is.
type Answer = (StatusCode, [(HeaderName, HeaderValue); 1], Json<Told>);

/// A device's credential, without its secrets.
#[utoipa::path(
    get,
    path = "/things/{id}/credentials",
    tag = "identity",
    operation_id = "retrieveCredential",
    params(("id" = String, Path, description = "The device's name: that of its thing.")),
    responses(
        (status = 200, description = "What it may do, and when its secrets were made.", body = Told),
        (status = 404, description = "It has no credential."),
    )
)]
async fn show(caller: Caller, State(app): State<App>, Path(device): Path<String>) -> Result<Answer, Problem> {
    caller.may(Scope::Admin)?;
    let device = name(&device)?;
    let found = issue::find(&store(&app).await?, &device).await;
    let (credential, _) = found
        .map_err(|error| away(&error))?
        .ok_or_else(|| none(&device))?;
    Ok((StatusCode::OK, NO_STORE, Json(credential.into())))
}

/// Gives a device a new secret. The one before stays valid beside it until the next time, unless it is to be alone.
#[utoipa::path(
    post,
    path = "/things/{id}/credentials",
    tag = "identity",
    operation_id = "rotateCredential",
    params(("id" = String, Path, description = "The device's name: that of its thing.")),
    request_body(content = Option<Wanted>, content_type = "application/json"),
    responses(
        (status = 200, description = "It had a credential, which has a new secret.", body = Told),
        (status = 201, description = "It has its first credential.", body = Told),
        (status = 400, description = "Not what a credential can be; `errors` has each fault with its place."),
        (status = 404, description = "Nothing can be named so."),
    )
)]
async fn rotate(
    caller: Caller,
    State(app): State<App>,
    Path(device): Path<String>,
    Whole(body): Whole<BODY_MAX>,
) -> Result<Answer, Problem> {
    caller.may(Scope::Admin)?;
    let device = name(&device)?;
    let wanted = wanted(&body)?;
    let wish = Wish {
        rotate: true,
        alone: wanted.alone,
        things: wanted.things,
        gateway: wanted.gateway,
        backfill: wanted.backfill,
    };
    let issued = issue::change(&store(&app).await?, &device, &wish)
        .await
        .map_err(|error| away(&error))?;
    let status = if issued.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, NO_STORE, Json(issued.into())))
}

/// Takes a device's credential away: its sessions end within moments.
#[utoipa::path(
    delete,
    path = "/things/{id}/credentials",
    tag = "identity",
    operation_id = "revokeCredential",
    params(("id" = String, Path, description = "The device's name: that of its thing.")),
    responses(
        (status = 204, description = "It has none any more."),
        (status = 404, description = "It had none."),
    )
)]
async fn revoke(
    caller: Caller,
    State(app): State<App>,
    Path(device): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::Admin)?;
    let device = name(&device)?;
    let was_there = issue::revoke(&store(&app).await?, &device)
        .await
        .map_err(|error| away(&error))?;
    if was_there {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(none(&device))
    }
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    if body.is_empty() {
        return Ok(Wanted::default());
    }
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not what is wanted: {error}")))?;
    let things = wanted.things.iter().flatten();
    let faults: Vec<Fault> = things
        .enumerate()
        .filter(|(_, thing)| *thing != ANY_THING)
        .filter_map(|(at, thing)| {
            let error = Name::new(thing.as_str()).err()?;
            Some(Fault::at(format!("/things/{at}"), error.to_string()))
        })
        .collect();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    match wanted.things.as_ref().map_or(1, Vec::len) {
        1..=THINGS_MAX => Ok(wanted),
        found => {
            let message = format!("{found} things; a credential speaks for 1 to {THINGS_MAX}, or for `*`");
            Err(Problem::invalid(vec![Fault::at("/things", message)]))
        }
    }
}

/// The device of a path: by its name, or by the `id` of its thing's description.
fn name(device: &str) -> Result<Name, Problem> {
    let name = crate::directory::thing(device)?;
    if name.plain().chars().any(char::is_control) {
        return Err(Problem::bad_request("a device's name has no control characters"));
    }
    Ok(name)
}

async fn store(app: &App) -> Result<Store, Problem> {
    let context = client::context(app.nats().clone());
    issue::bucket(&context).await.map_err(|error| away(&error))
}

fn away(error: &anyhow::Error) -> Problem {
    tracing::warn!("credentials cannot be reached: {error:#}");
    Problem::away("credentials cannot be reached now")
}

fn none(device: &Name) -> Problem {
    Problem::not_found(format!("`{}` has no credential", device.plain()))
}
