//! The directory of things: W3C WoT Discovery §7, with its introductions, and CoRE links (RFC 6690, RFC 9176).
//!
//! | module | holds |
//! |---|---|
//! | `things` | create, retrieve, replace, patch, delete |
//! | `many` | many created in one request |
//! | `list` | the list, page by page |
//! | `search` | search by JSONPath |
//! | `events` | what changes, as it happens; over `feed`, which reads the stream THINGS |
//! | `introduction` | `/.well-known/wot` |
//! | `links` | `/.well-known/core`, and look-up of links |
//! | `serve` | a description with our forms and its registration |
//! | `media` | media types of bodies |
//! | [`expiry`] | taking away what has expired |
mod events;
pub(crate) mod expiry;
mod feed;
mod introduction;
mod links;
mod list;
mod many;
mod media;
mod search;
mod serve;
mod things;

pub(crate) use events::{begin, pour};
pub(crate) use feed::{Feed, Told};
pub(crate) use list::members;
pub(crate) use serve::{Bases, serve};

use crate::{app::App, registry};
use telltale_nats::Name;
use telltale_runtime::web::Problem;
use utoipa_axum::router::OpenApiRouter;

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(things::routes())
        .merge(list::routes())
        .merge(search::routes())
        .merge(events::routes())
        .merge(introduction::routes())
        .merge(links::routes())
}

/// The thing that the `{id}` of a path means: the `id` of its description, or its name.
pub(crate) fn thing(id: &str) -> Result<Name, Problem> {
    registry::name(id).ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        Problem::not_found(format!(
            "no thing can be named `{}`: at most 64 bytes once escaped, not beginning with `_`",
            shown.escape_debug()
        ))
    })
}
