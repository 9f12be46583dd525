//! The data of things: properties, actions, events, and history.
//!
//! | module | holds |
//! |---|---|
//! | `property`, `command` | the last value of a property; writing one, and invoking an action |
//! | `commands`, `outcomes` | how far commands are, and taking one back; the same as it happens |
//! | `readings`, `events` | history |
//! | `range` | which part of it is asked for |
//! | `cursor` | where a page begins |
//! | `page` | a page as a document |
mod command;
mod commands;
mod cursor;
mod events;
mod outcomes;
mod page;
mod property;
mod range;
mod readings;

use crate::{app::App, registry};
use telltale_nats::Name;
use telltale_runtime::web::Problem;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(property::read, command::write))
        .routes(routes!(command::invoke))
        .routes(routes!(commands::list))
        .routes(routes!(commands::read, commands::cancel))
        .routes(routes!(outcomes::all))
        .routes(routes!(outcomes::of_thing))
        .routes(routes!(events::of_thing))
        .routes(routes!(readings::of_thing))
        .routes(routes!(readings::of_things))
}

/// The thing that a path or a query means.
fn thing(text: &str) -> Result<Name, Problem> {
    let found = registry::name(text).filter(|_| !text.contains('\0'));
    found.ok_or_else(|| no_name(text, "thing"))
}

/// The property, action or event that a path means.
fn affordance(text: &str) -> Result<Name, Problem> {
    let found = Name::new(text).ok().filter(|_| !text.contains('\0'));
    found.ok_or_else(|| no_name(text, "property, action or event"))
}

fn no_name(text: &str, what: &str) -> Problem {
    let shown: String = text.chars().take(80).collect();
    Problem::bad_request(format!(
        "`{}` cannot be the name of a {what}",
        shown.escape_debug()
    ))
}
