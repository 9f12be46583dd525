//! What changes in the directory, as Server-Sent Events (W3C WoT Discovery §7.3.2).
use super::{
    feed::{Feed, Told},
    serve,
};
use crate::{
    app::App,
    auth::{Caller, Scope},
    registry::Found,
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use telltale_runtime::web::{Path, Problem, Query};
use telltale_schemas::{Envelope, Registration, td};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Silence that a client, and whatever is between us, is not left in.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a browser sends when it comes again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(all)).routes(routes!(some))
}

/// The three types that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Created,
    Updated,
    Deleted,
}

impl Type {
    const ALL: [Self; 3] = [Self::Created, Self::Updated, Self::Deleted];

    const fn word(self) -> &'static str {
        match self {
            Self::Created => "thing_created",
            Self::Updated => "thing_updated",
            Self::Deleted => "thing_deleted",
        }
    }

    /// Of a change in the life of a thing. Who comes and goes on the wire is no change of a description.
    fn of_change(word: &str) -> Option<Self> {
        match word {
            "created" => Some(Self::Created),
            "updated" => Some(Self::Updated),
            "deleted" | "expired" | "moved" => Some(Self::Deleted),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Whether an event has the whole description that is new, or the patch (RFC 7396) that changed it.
    #[serde(default)]
    diff: bool,
}

/// Every change of the directory, as it happens; after `Last-Event-ID`, all that was missed first.
#[utoipa::path(
    get,
    path = "/events",
    tag = "directory",
    operation_id = "events",
    params(
        Asked,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen."),
    ),
    responses(
        (status = 200, description = "Events `thing_created`, `thing_updated`, `thing_deleted`, until the client leaves.",
            body = String, content_type = "text/event-stream"),
        (status = 400, description = "No event has that id."),
        (status = 429, description = "This token has as many event streams open as it may; or too many attempts with wrong tokens."),
    )
)]
async fn all(
    caller: Caller,
    State(app): State<App>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>>>, Problem> {
    caller.may(Scope::ThingsRead)?;
    serve_events(app, &caller, None, asked, &headers).await
}

/// The changes of one type.
#[utoipa::path(
    get,
    path = "/events/{type}",
    tag = "directory",
    operation_id = "eventsOfType",
    params(
        ("type" = String, Path, description = "`thing_created`, `thing_updated` or `thing_deleted`."),
        Asked,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen."),
    ),
    responses(
        (status = 200, description = "Events of that type, until the client leaves.", body = String,
            content_type = "text/event-stream"),
        (status = 400, description = "No event has that id."),
        (status = 429, description = "This token has as many event streams open as it may; or too many attempts with wrong tokens."),
        (status = 404, description = "No such type."),
    )
)]
async fn some(
    caller: Caller,
    State(app): State<App>,
    Path(word): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>>>, Problem> {
    caller.may(Scope::ThingsRead)?;
    let wanted = Type::ALL.into_iter().find(|one| one.word() == word);
    let wanted = wanted.ok_or_else(|| {
        Problem::not_found("no such type: there are thing_created, thing_updated and thing_deleted")
    })?;
    serve_events(app, &caller, Some(wanted), asked, &headers).await
}

async fn serve_events(
    app: App,
    caller: &Caller,
    wanted: Option<Type>,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>> + use<>>, Problem> {
    let place = app.streams().take(caller)?;
    let from = begin(app.feed(), headers).await?;
    let events = follow(app.clone(), wanted, asked, from);
    Ok(pour(&app, place, events))
}

/// Where a client begins to read a feed.
pub(crate) async fn begin(feed: &Feed, headers: &HeaderMap) -> Result<u64, Problem> {
    let last = feed.last().await.map_err(|error| {
        tracing::warn!("events cannot be served: {error:#}");
        Problem::away("the broker does not answer")
    })?;
    match headers.get(&LAST_EVENT_ID) {
        None => Ok(last + 1),
        Some(said) => after(said.to_str().unwrap_or_default(), last),
    }
}

/// Events until the process ends; the client's place is held for as long.
pub(crate) fn pour<S, P>(
    app: &App,
    place: P,
    events: S,
) -> Sse<impl Stream<Item = Result<Event, anyhow::Error>> + use<S, P>>
where
    S: Stream<Item = Result<Event, anyhow::Error>> + Send + 'static,
    P: Send + 'static,
{
    let ends = app.stop().clone().cancelled_owned();
    let events = events.take_until(ends).map(move |event| {
        let _held = &place;
        event
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Where to go on after the event that was seen last.
fn after(said: &str, last: u64) -> Result<u64, Problem> {
    let seen = said.parse().ok().filter(|seen: &u64| *seen <= last);
    seen.map(|seen| seen + 1).ok_or_else(|| {
        let shown: String = said.chars().take(40).collect();
        Problem::bad_request(format!(
            "`Last-Event-ID` is `{}`, and no event has had that id: leave it out to begin now",
            shown.escape_debug()
        ))
    })
}

fn follow(
    app: App,
    wanted: Option<Type>,
    asked: Asked,
    from: u64,
) -> impl Stream<Item = Result<Event, anyhow::Error>> + use<> {
    futures::stream::try_unfold(from, move |mut from| {
        let app = app.clone();
        async move {
            loop {
                let told = app.feed().next(from).await?;
                from = told.sequence + 1;
                let kind = Type::of_change(&told.change);
                let Some(kind) = kind.filter(|kind| wanted.is_none_or(|wanted| wanted == *kind)) else {
                    continue;
                };
                if let Some(data) = data(&app, kind, asked, &told).await? {
                    let event = Event::default()
                        .event(kind.word())
                        .id(told.sequence.to_string())
                        .data(data.to_string());
                    return Ok(Some((event, from)));
                }
            }
        }
    })
}

/// What is said of it; nothing of a thing without a description.
async fn data(app: &App, kind: Type, asked: Asked, told: &Told) -> anyhow::Result<Option<Value>> {
    let id = td::thing_id(told.thing.plain());
    if kind == Type::Deleted {
        return Ok(Some(json!({ "id": id })));
    }
    let Ok(message) = serde_json::from_slice::<Envelope<Registration>>(&told.payload) else {
        return Ok(None);
    };
    let Some(entry) = message.data.entry.filter(|entry| entry.td.is_some()) else {
        return Ok(None);
    };
    let found = Found {
        revision: message.data.revision,
        entry: *entry,
    };
    if !asked.diff {
        return Ok(Some(json!({ "id": id })));
    }
    let before = match kind {
        Type::Updated => before(app.feed(), told).await?,
        Type::Created | Type::Deleted => None,
    };
    Ok(Some(match (before, &found.entry.td) {
        (Some(before), Some(now)) => {
            let mut patch = td::merge::diff(&before, now);
            patch["id"] = id.into();
            patch
        }
        _ => serve(app.bases(), app.site(), &found),
    }))
}

async fn before(feed: &Feed, told: &Told) -> anyhow::Result<Option<Value>> {
    feed.before(&told.thing, told.sequence).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_on_after_the_last_one_seen_and_no_other_id_is_taken() {
        assert_eq!(after("0", 7).unwrap(), 1);
        assert_eq!(after("7", 7).unwrap(), 8);
        for said in ["8", "-1", "", "x", "18446744073709551615", "1e3"] {
            assert_eq!(after(said, 7).unwrap_err().status().as_u16(), 400, "{said}");
        }
    }

    #[test]
    fn the_life_of_a_thing_is_three_types_of_events() {
        for (change, kind) in [
            ("created", Some("thing_created")),
            ("updated", Some("thing_updated")),
            ("deleted", Some("thing_deleted")),
            ("expired", Some("thing_deleted")),
            ("moved", Some("thing_deleted")),
            ("online", None),
        ] {
            assert_eq!(Type::of_change(change).map(Type::word), kind, "{change}");
        }
    }
}
