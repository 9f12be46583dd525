//! The directory as a NATS service: `api.<site>.things.<operation>`, found by `$SRV.PING`, `INFO` and `STATS` (the
//! protocol of NATS services, ADR-32 of its architecture).
//!
//! Ours, and not the client library's, because a service answers to inboxes only: the server does not check the reply
//! subject of a request, and the library answers to any. A request has the same token as over HTTP, in its header
//! `Authorization`; a refusal is the same problem, with its status in `Nats-Service-Error-Code`.
mod answer;
mod stats;

use crate::{
    app::App,
    auth::{Scope, audit::Entry},
};
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use stats::Stats;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};
use telltale_nats::{
    Name,
    async_nats::{self, Message, Subject},
    subject,
};
use telltale_runtime::web::Problem;
use tokio::sync::Semaphore;

/// The service's name, in subjects and to whoever looks for it.
pub(crate) const SERVICE: &str = "things";
/// One of all gateways of a site answers a request.
const QUEUE: &str = "q";
/// Requests handled at once; more wait.
const AT_ONCE: usize = 64;

/// Something that can be asked.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The last token of its subject.
    pub(crate) word: &'static str,
    /// For people.
    pub(crate) about: &'static str,
    scope: Scope,
}

/// All that can be asked.
pub(crate) const OPERATIONS: [Operation; 6] = [
    Operation {
        word: "list",
        about: "A page of descriptions, in the order of their ids.",
        scope: Scope::ThingsRead,
    },
    Operation {
        word: "get",
        about: "The description of a thing.",
        scope: Scope::ThingsRead,
    },
    Operation {
        word: "create",
        about: "Registers a thing that is not there yet.",
        scope: Scope::ThingsWrite,
    },
    Operation {
        word: "replace",
        about: "Registers a thing, or replaces its description.",
        scope: Scope::ThingsWrite,
    },
    Operation {
        word: "patch",
        about: "Changes parts of a description (RFC 7396).",
        scope: Scope::ThingsWrite,
    },
    Operation {
        word: "delete",
        about: "Takes a thing away.",
        scope: Scope::ThingsWrite,
    },
];

/// Answers until stopped.
pub(crate) async fn run(app: &App, instance: &str) {
    tokio::select! {
        () = app.stop().cancelled() => {}
        ended = serve(app, instance) => {
            if let Err(error) = ended {
                tracing::error!("the service `{SERVICE}` ends: {error:#}");
            }
        }
    }
}

async fn serve(app: &App, instance: &str) -> anyhow::Result<()> {
    let filter = subject::api_filter(app.site(), SERVICE);
    let mut questions = app.nats().queue_subscribe(filter, QUEUE.to_owned()).await?;
    let stats = Arc::new(Stats::new(app.site(), instance));
    let mut discoveries = stats::subscribe(app.nats(), &stats).await?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        tokio::select! {
            question = questions.next() => {
                let Some(question) = question else { anyhow::bail!("the subscription ended") };
                let place = places.clone().acquire_owned().await?;
                let (app, stats) = (app.clone(), stats.clone());
                tokio::spawn(async move {
                    handle(&app, &stats, question).await;
                    drop(place);
                });
            }
            question = discoveries.next() => {
                let Some(question) = question else { anyhow::bail!("the subscription ended") };
                if let Some((reply, body)) = inbox(&question).zip(stats.discovered(&question.subject)) {
                    say(app, reply, async_nats::HeaderMap::new(), body.to_string().into()).await;
                }
            }
        }
    }
}

/// Where to answer: to an inbox, or not at all.
fn inbox(question: &Message) -> Option<Subject> {
    let reply = question.reply.as_ref();
    reply.filter(|reply| reply.starts_with("_INBOX_")).cloned()
}

async fn handle(app: &App, stats: &Stats, question: Message) {
    let Some(reply) = inbox(&question) else { return };
    let word = question.subject.rsplit('.').next().unwrap_or_default();
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.word == word) else {
        let problem = Problem::not_found("no such operation; $SRV.INFO.things has them all");
        return refuse(app, reply, &problem).await;
    };
    let began = Instant::now();
    let answered = ask(app, operation, &question).await;
    stats.count(operation.word, began.elapsed(), answered.as_ref().err());
    match answered {
        Ok(body) => say(app, reply, async_nats::HeaderMap::new(), body.to_string().into()).await,
        Err(problem) => refuse(app, reply, &problem).await,
    }
}

async fn ask(app: &App, operation: &Operation, question: &Message) -> Result<Value, Problem> {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let person = app.people().admit(&headers(question), nowhere)?;
    let mut thing = None;
    let answered = if person.may(operation.scope) {
        answer::answer(app, operation.word, &question.payload, &person.name, &mut thing).await
    } else {
        Err(Problem::forbidden(format!(
            "the token of `{}` is not for this: it lacks the scope `{}`",
            person.name, operation.scope
        )))
    };
    if operation.scope.writes() {
        let status = answered
            .as_ref()
            .err()
            .map_or(200, |problem| problem.status().as_u16());
        let entry = Entry {
            who: person.name.clone(),
            scope: Some(operation.scope),
            what: format!("{SERVICE}.{}", operation.word),
            thing,
            status: Some(status),
            address: None,
        };
        app.people().audit().record(&entry).await;
    }
    answered
}

/// What HTTP would have been sent.
fn headers(question: &Message) -> HeaderMap {
    let said = question.headers.iter().flat_map(|headers| headers.iter());
    let said = said.filter(|(name, _)| header::AUTHORIZATION.as_str().eq_ignore_ascii_case(name.as_ref()));
    let mut headers = HeaderMap::new();
    for value in said.flat_map(|(_, values)| values) {
        if let Ok(value) = HeaderValue::from_str(value.as_str()) {
            headers.append(header::AUTHORIZATION, value);
        }
    }
    headers
}

async fn refuse(app: &App, reply: Subject, problem: &Problem) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Service-Error-Code", problem.status().as_str());
    // A header is one line.
    let text: String = problem.detail().chars().filter(|c| !c.is_control()).collect();
    headers.insert("Nats-Service-Error", text.as_str());
    say(app, reply, headers, problem.to_json().into()).await;
}

async fn say(app: &App, reply: Subject, headers: async_nats::HeaderMap, body: Bytes) {
    // A reply to a request: whoever misses it asks again.
    if let Err(error) = app.nats().publish_with_headers(reply, headers, body).await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

/// The thing that a request is about, for the audit.
type AboutThing = Option<Name>;
