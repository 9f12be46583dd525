//! What the service answers: the registry's doings, from and to JSON.
use super::AboutThing;
use crate::{
    app::App,
    directory::{serve, thing},
    registry::Written,
};
use serde::Deserialize;
use serde_json::{Value, json};
use telltale_runtime::web::Problem;
use telltale_schemas::{
    kinds::{Change, Fault},
    strict, td,
};

/// Descriptions of a page where nobody says how many, and most on any: an answer is one message.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;
/// A page ends when it has so many bytes.
const PAGE_BYTES: usize = 512 * 1024;

/// A request; what an operation does not need may not be there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    id: Option<String>,
    td: Option<Value>,
    patch: Option<Value>,
    offset: usize,
    limit: Option<usize>,
}

impl Asked {
    fn read(payload: &[u8]) -> Result<Self, Problem> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let value = strict::parse(payload, &td::LIMITS)?;
        serde_json::from_value(value)
            .map_err(|error| Problem::invalid(vec![Fault::at("", format!("not a request: {error}"))]))
    }

    fn id(&self) -> Result<&str, Problem> {
        let missing = || Problem::invalid(vec![Fault::at("/id", "say which thing: `id`")]);
        self.id.as_deref().ok_or_else(missing)
    }
}

fn part(part: Option<Value>, name: &str) -> Result<Value, Problem> {
    let missing = || {
        Problem::invalid(vec![Fault::at(
            format!("/{name}"),
            format!("`{name}` is missing"),
        )])
    };
    part.ok_or_else(missing)
}

/// Does what is asked; `about` becomes the thing that it is about.
pub(super) async fn answer(
    app: &App,
    word: &str,
    payload: &[u8],
    by: &str,
    about: &mut AboutThing,
) -> Result<Value, Problem> {
    let asked = Asked::read(payload)?;
    if word == "list" {
        return list(app, &asked).await;
    }
    let by = Some(by);
    if word == "create" {
        let written = app.registry().create(part(asked.td, "td")?, by).await?;
        *about = crate::registry::name(&written.found.entry.thing);
        return Ok(told(&written));
    }
    let name = thing(asked.id()?)?;
    *about = Some(name.clone());
    match word {
        "get" => {
            let found = app.registry().described(&name).await?;
            Ok(serve(app.bases(), app.site(), &found))
        }
        "replace" => {
            let td = part(asked.td, "td")?;
            Ok(told(&app.registry().replace(&name, td, None, by).await?))
        }
        "patch" => {
            let patch = part(asked.patch, "patch")?;
            Ok(told(&app.registry().patch(&name, &patch, None, by).await?))
        }
        _ => {
            app.registry().described(&name).await?;
            let gone = app.registry().remove(&name, Change::Deleted, None, by).await?;
            Ok(json!({ "id": td::thing_id(&gone.entry.thing) }))
        }
    }
}

fn told(written: &Written) -> Value {
    json!({
        "id": td::thing_id(&written.found.entry.thing),
        "revision": written.found.revision,
        "change": written.change.map(Change::word),
    })
}

async fn list(app: &App, asked: &Asked) -> Result<Value, Problem> {
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let page = app.registry().page(asked.offset, limit)?;
    let (members, taken) = crate::directory::members(app, &page.names, PAGE_BYTES).await?;
    let end = asked.offset.saturating_add(taken);
    Ok(json!({
        "total": page.total,
        "etag": page.etag,
        "members": members,
        "next": (end < page.total).then_some(end),
    }))
}
