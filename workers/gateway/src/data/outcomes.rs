//! `GET /commands/events` and `GET /things/{id}/commands/events`: what becomes of commands, as Server-Sent Events.
use super::thing;
use crate::{
    app::App,
    auth::{Caller, Scope},
    directory::{Feed, Told, begin, pour},
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, Sse},
};
use futures::Stream;
use serde_json::{Value, json};
use telltale_nats::Name;
use telltale_runtime::web::{Path, Problem};
use telltale_schemas::{Envelope, Outcome};

/// What becomes of the commands of all things, as it happens; after `Last-Event-ID`, all that was missed first.
#[utoipa::path(
    get,
    path = "/commands/events",
    operation_id = "commandEvents",
    tag = "data",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen."),
    ),
    responses(
        (status = 200, description = "Events named by the state that a command has reached, until the client leaves.",
            body = String, content_type = "text/event-stream"),
        (status = 400, description = "No event has that id."),
        (status = 429, description = "The token has too many streams open."),
        (status = 503, description = "The broker does not answer."),
    )
)]
pub(super) async fn all(
    caller: Caller,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>>>, Problem> {
    caller.may(Scope::DataRead)?;
    serve(&caller, app, None, &headers).await
}

/// The same of the commands of one thing.
#[utoipa::path(
    get,
    path = "/things/{id}/commands/events",
    operation_id = "commandEventsOfThing",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen."),
    ),
    responses(
        (status = 200, description = "Events named by the state that a command has reached, until the client leaves.",
            body = String, content_type = "text/event-stream"),
        (status = 400, description = "No event has that id."),
        (status = 429, description = "The token has too many streams open."),
        (status = 503, description = "The broker does not answer."),
    )
)]
pub(super) async fn of_thing(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>>>, Problem> {
    caller.may(Scope::DataRead)?;
    let thing = thing(&id)?;
    serve(&caller, app, Some(thing), &headers).await
}

async fn serve(
    caller: &Caller,
    app: App,
    thing: Option<Name>,
    headers: &HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, anyhow::Error>> + use<>>, Problem> {
    let place = app.streams().take(caller)?;
    let from = begin(app.outcomes(), headers).await?;
    Ok(pour(&app, place, follow(app.outcomes().clone(), thing, from)))
}

fn follow(
    feed: Feed,
    thing: Option<Name>,
    from: u64,
) -> impl Stream<Item = Result<Event, anyhow::Error>> + use<> {
    futures::stream::try_unfold(from, move |mut from| {
        let (feed, thing) = (feed.clone(), thing.clone());
        async move {
            loop {
                let told = feed.next(from).await?;
                from = told.sequence + 1;
                if thing.as_ref().is_some_and(|thing| *thing != told.thing) {
                    continue;
                }
                if let Some((state, data)) = said(&told) {
                    let event = Event::default()
                        .event(state)
                        .id(told.sequence.to_string())
                        .data(data.to_string());
                    return Ok(Some((event, from)));
                }
            }
        }
    })
}

/// What is said of an outcome.
fn said(told: &Told) -> Option<(&'static str, Value)> {
    let outcome: Envelope<Outcome> = serde_json::from_slice(&told.payload).ok()?;
    let state = outcome.data.state.word();
    let mut data = json!({
        "id": outcome.data.command,
        "thing": outcome.subject,
        "name": outcome.data.name,
        "state": state,
        "time": outcome.time,
    });
    if !outcome.data.output.is_null() {
        data["output"] = outcome.data.output;
    }
    if let Some(problem) = outcome.data.problem {
        data["problem"] = problem.into();
    }
    Some((state, data))
}
