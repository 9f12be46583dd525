//! `GET /things/{thing}/commands`: the commands of a thing, as they come (`Accept: text/event-stream`) or one for each request
//! (`?wait=20s`). What a device answers comes as `POST /things/{thing}/outcomes/{id}`, like any uplink.
use super::{Face, admit};
use crate::{
    downlink::{Confirmation, Downlink, NotSent, Parcel},
    intake::Intake,
    keyring::Ticket,
    metrics::Protocol,
    route,
    uplink::Refusal,
};
use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{convert::Infallible, net::IpAddr, time::Duration};
use telltale_nats::Name;
use telltale_runtime::web::{Peer, Problem, body};
use telltale_schemas::duration;
use tokio::sync::{mpsc, oneshot};

/// How long a request waits for a command, if it does not say.
const WAIT: Duration = Duration::from_secs(1);
/// The longest that it may say.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Silence that a device, and whatever is between us, is not left in.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the query string says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    wait: Option<String>,
}

/// A command for the wire, and who waits until it is there.
type Errand = (Parcel, oneshot::Sender<Result<Confirmation, NotSent>>);

/// The way of one thing's commands to a request; `ASKS` where each is a request of its own.
struct Way<const ASKS: bool>(mpsc::Sender<Errand>);

impl<const ASKS: bool> Downlink for Way<ASKS> {
    const PROTOCOL: Protocol = Protocol::Http;
    const ASKS: bool = ASKS;

    async fn send(&mut self, parcel: &Parcel) -> Result<Confirmation, NotSent> {
        let (done, sent) = oneshot::channel();
        self.0
            .send((parcel.clone(), done))
            .await
            .map_err(|_| NotSent::Gone)?;
        sent.await.unwrap_or(Err(NotSent::Gone))
    }
}

pub(super) async fn commands(State(face): State<Face>, request: Request) -> Response {
    let from = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let (head, rest) = request.into_parts();
    let ticket = match admit(&face.intake, &head.headers, from).await {
        Ok(ticket) => ticket,
        Err(problem) => return body::refuse(rest, problem).await,
    };
    let asked = of(&face.intake, &ticket, head.uri.path()).and_then(|thing| Ok((thing, wait(&head.uri)?)));
    let (thing, wait) = match asked {
        Ok(asked) => asked,
        Err(problem) => return body::refuse(rest, problem).await,
    };
    if is_stream(&head.headers) {
        stream(&face, &thing, ticket)
    } else {
        one(&face, &thing, &ticket, wait).await
    }
}

/// The thing whose commands are asked for, if this device may.
fn of(intake: &Intake, ticket: &Ticket, path: &str) -> Result<Name, Problem> {
    let filter = format!("{}/+", path.strip_prefix('/').unwrap_or(path));
    let thing = route::commands(&filter).map_err(|error| {
        intake.count_refused(Protocol::Http, "name");
        Problem::from(error)
    })?;
    let refusal = if ticket.is_revoked() {
        Refusal::Revoked
    } else if ticket.credential().covers(thing.plain()) {
        return Ok(thing);
    } else {
        Refusal::Forbidden(thing.plain().to_owned())
    };
    intake.refused(Protocol::Http, ticket, &refusal);
    Err(refusal.into())
}

fn wait(uri: &axum::http::Uri) -> Result<Duration, Problem> {
    let how: axum::extract::Query<How> = axum::extract::Query::try_from_uri(uri)
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {}", error.body_text())))?;
    match &how.wait {
        None => Ok(WAIT),
        Some(text) => duration::parse(text)
            .filter(|wait| *wait <= WAIT_MAX)
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Problem::bad_request(format!("`wait` is `{shown}`; say up to 60s, as in 20s"))
            }),
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"))
}

/// Every command as it comes, until the device leaves.
fn stream(face: &Face, thing: &Name, ticket: Ticket) -> Response {
    let (session, errands) = mpsc::channel(1);
    let hold = face.intake.downlinks().hold(thing, Way::<false>(session));
    let stop = face.stop.clone();
    let ends = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = ticket.revoked() => {}
        }
    };
    let events = futures::stream::unfold((errands, hold), |(mut errands, hold)| async move {
        loop {
            let (parcel, done) = errands.recv().await?;
            if done.send(Ok(Confirmation::Answer)).is_ok() {
                let data = String::from_utf8_lossy(&parcel.payload).into_owned();
                let event = Event::default()
                    .event("command")
                    .id(parcel.id.as_str())
                    .data(data);
                return Some((Ok::<_, Infallible>(event), (errands, hold)));
            }
        }
    });
    Sse::new(events.take_until(Box::pin(ends)))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// The next command, or none after a while.
async fn one(face: &Face, thing: &Name, ticket: &Ticket, wait: Duration) -> Response {
    let (session, mut errands) = mpsc::channel(1);
    let hold = face.intake.downlinks().hold(thing, Way::<true>(session));
    let found = tokio::select! {
        biased;
        () = ticket.revoked() => return Problem::from(Refusal::Revoked).into_response(),
        errand = errands.recv() => errand.and_then(|(parcel, done)| {
            done.send(Ok(Confirmation::Answer)).ok()?;
            serde_json::from_slice::<Box<RawValue>>(&parcel.payload).ok()
        }),
        () = face.stop.cancelled() => None,
        () = tokio::time::sleep(wait) => None,
    };
    drop(hold);
    Json(json!({ "commands": found.into_iter().collect::<Vec<_>>() })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_as_long_as_it_says_up_to_a_minute() {
        let of = |query: &str| wait(&format!("/things/lamp/commands{query}").parse().unwrap());
        assert_eq!(of("").unwrap(), WAIT);
        assert_eq!(of("?wait=20s").unwrap(), Duration::from_secs(20));
        for query in ["?wait=61s", "?wait=soon", "?wait=", "?until=20s"] {
            assert_eq!(of(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
