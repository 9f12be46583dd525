//! `api.<site>.actuate.cancel`: takes a command back that no bridge has taken yet.
use crate::{
    CANCEL, STAGE,
    desk::{Desk, Ended},
};
use anyhow::Context as _;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use telltale_nats::{
    Name,
    async_nats::{Client, HeaderMap, Message, Subject, Subscriber},
    pending, subject,
};
use telltale_schemas::{kinds::State, pending::Told};

/// The question.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// The thing's name.
    thing: String,
    /// The command's id.
    command: String,
    /// Who asks; it is told with the outcome.
    #[serde(default)]
    by: Option<String>,
}

/// The answer: `cancelled`, or why not.
#[derive(Debug, Serialize)]
struct Answer {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Answer {
    fn refused(status: u16, problem: impl Into<String>) -> Self {
        Self {
            status,
            state: None,
            problem: Some(problem.into()),
        }
    }
}

/// Of several copies one is asked.
pub(crate) async fn listen(client: &Client, site: &Name) -> anyhow::Result<Subscriber> {
    let subject = subject::api(site, STAGE, CANCEL);
    let listening = client.queue_subscribe(subject.clone(), STAGE.to_owned()).await;
    listening.with_context(|| format!("subscribe to `{subject}`"))
}

/// Answers until the subscription ends.
pub(crate) async fn answer(client: Client, mut questions: Subscriber, desk: Arc<Desk>) {
    while let Some(question) = questions.next().await {
        // Only inboxes are answered: a reply subject is the asker's choice, and the server does not check it.
        let Some(reply) = question
            .reply
            .clone()
            .filter(|reply| reply.starts_with("_INBOX_"))
        else {
            continue;
        };
        let answer = cancel(&desk, &question).await;
        say(&client, reply, &answer).await;
    }
}

async fn cancel(desk: &Desk, question: &Message) -> Answer {
    let question: Question = match serde_json::from_slice(&question.payload) {
        Ok(question) => question,
        Err(error) => {
            return Answer::refused(400, format!("{{\"thing\", \"command\"}} is asked for: {error}"));
        }
    };
    let Ok(thing) = Name::new(question.thing.as_str()) else {
        return Answer::refused(400, format!("`{}` is no thing's name", question.thing));
    };
    let key = pending::key(&thing, &question.command);
    let why = question
        .by
        .map_or_else(|| "taken back".to_owned(), |by| format!("taken back by {by}"));
    let ended = desk.end(&key, |pending| {
        (pending.state == State::Queued).then(|| Told::of(State::Cancelled).because(why.clone()))
    });
    match ended.await {
        Ok(Ended::Done) => Answer {
            status: 200,
            state: Some(State::Cancelled),
            problem: None,
        },
        Ok(Ended::Gone) => Answer::refused(
            404,
            format!(
                "no command `{}` of thing `{thing}` waits: it has ended, or there was none",
                question.command
            ),
        ),
        Ok(Ended::Not(pending)) => match pending.end {
            Some(end) if end.data.state == State::Cancelled => Answer {
                status: 200,
                state: Some(State::Cancelled),
                problem: None,
            },
            Some(end) => Answer::refused(
                409,
                format!(
                    "command `{}` has ended: {}",
                    question.command,
                    end.data.state.word()
                ),
            ),
            None => Answer::refused(
                409,
                format!("command `{}` was already sent to its device", question.command),
            ),
        },
        Err(error) => {
            tracing::warn!(key, "a command could not be cancelled: {error:#}");
            Answer::refused(503, "the broker does not answer; ask again")
        }
    }
}

async fn say(client: &Client, reply: Subject, answer: &Answer) {
    let payload = serde_json::to_vec(answer).expect("plain members serialize");
    // A reply to a request: whoever misses it asks again.
    let sent = client
        .publish_with_headers(reply, HeaderMap::new(), payload.into())
        .await;
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not sent");
    }
}
