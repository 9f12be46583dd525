//! What becomes of commands: `GET /things/{id}/commands` and one of them, and `DELETE`, which takes it back.
use super::{
    page::{Item, Visit},
    readings::{cell, unreadable},
    thing,
};
use crate::{
    app::App,
    auth::{Caller, Scope},
    sql::{
        media::{self, Format},
        pour::Param,
    },
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use telltale_nats::{Name, async_nats::jetstream::kv::Operation, client, pending, subject};
use telltale_runtime::web::{Path, Problem, Query};
use telltale_schemas::{Timestamp, kinds::State as Step, pending::Pending};
use time::OffsetDateTime;
use tokio_postgres::Row;
use utoipa::ToSchema;

macro_rules! columns {
    () => {
        "select id, thing, name, state, issuer, input, output, problem, priority, start, expires, asked, queued, sent, \
         attempts, acknowledged, ended from commands where thing = $1"
    };
}

const ONE: &str = concat!(columns!(), " and id = $2");
const SOME: &str = concat!(
    columns!(),
    " and ($2::text is null or state = $2) order by asked desc, id limit $3"
);
const FORMATS: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];
/// Commands of a list, if not said.
const LIMIT: u16 = 100;
const LIMIT_MAX: u16 = 1_000;
/// How long actuate may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A command, as in the view `commands`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Its id.
    id: String,
    /// The thing.
    thing: String,
    /// The property or action.
    name: String,
    /// queued, sent, acknowledged; or its end: succeeded, failed, expired, cancelled, unknown.
    state: String,
    /// Who gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// What the property is set to, or the action called with.
    #[schema(value_type = Value)]
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    /// What the device answered.
    #[schema(value_type = Value)]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// 0 to 9, larger first.
    priority: i16,
    /// Not delivered before (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Timestamp>,
    /// Never delivered afterwards (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    /// When it was first told of (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    /// When it was queued (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<Timestamp>,
    /// When it was last sent to its device (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Timestamp>,
    /// How often it was sent.
    attempts: i64,
    /// When the device had it (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Timestamp>,
    /// When it ended (RFC 3339, UTC).
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
}

impl Item for Status {
    const LIST: &'static str = "commands";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "thing",
        "name",
        "state",
        "issuer",
        "input",
        "output",
        "problem",
        "priority",
        "start",
        "expires",
        "asked",
        "queued",
        "sent",
        "attempts",
        "acknowledged",
        "ended",
    ];

    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let moment = |at: usize| -> Result<Option<Timestamp>, tokio_postgres::Error> {
            let moment: Option<OffsetDateTime> = row.try_get(at)?;
            Ok(moment.map(Timestamp::from_offset))
        };
        Ok(Self {
            id: row.try_get(0)?,
            thing: row.try_get(1)?,
            name: row.try_get(2)?,
            state: row.try_get(3)?,
            issuer: row.try_get(4)?,
            input: row.try_get(5)?,
            output: row.try_get(6)?,
            problem: row.try_get(7)?,
            priority: row.try_get(8)?,
            start: moment(9)?,
            expires: moment(10)?,
            asked: moment(11)?,
            queued: moment(12)?,
            sent: moment(13)?,
            attempts: row.try_get(14)?,
            acknowledged: moment(15)?,
            ended: moment(16)?,
        })
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.thing.clone(),
            self.name.clone(),
            self.state.clone(),
            cell(self.issuer.as_ref()),
            cell(self.input.as_ref()),
            cell(self.output.as_ref()),
            cell(self.problem.as_ref()),
            self.priority.to_string(),
            cell(self.start.as_ref()),
            cell(self.expires.as_ref()),
            cell(self.asked.as_ref()),
            cell(self.queued.as_ref()),
            cell(self.sent.as_ref()),
            self.attempts.to_string(),
            cell(self.acknowledged.as_ref()),
            cell(self.ended.as_ref()),
        ]
    }
}

impl From<Pending> for Status {
    /// Of one that SQL does not know yet.
    fn from(pending: Pending) -> Self {
        let end = pending.end.map(|end| *end);
        let state = end.as_ref().map_or(pending.state, |end| end.data.state);
        Self {
            id: pending.command.id,
            thing: pending.thing,
            name: pending.command.data.name,
            state: state.word().to_owned(),
            issuer: pending.command.publisher,
            input: Some(pending.command.data.input).filter(|input| !input.is_null()),
            output: end
                .as_ref()
                .map(|end| end.data.output.clone())
                .filter(|output| !output.is_null()),
            problem: end.as_ref().and_then(|end| end.data.problem.clone()),
            priority: pending.priority.into(),
            start: pending.start,
            expires: Some(pending.expires),
            asked: Some(pending.command.time),
            queued: None,
            sent: pending.sent.as_ref().map(|sent| sent.at),
            attempts: pending.sent.as_ref().map_or(0, |sent| sent.attempt.into()),
            acknowledged: None,
            ended: end.map(|end| end.time),
        }
    }
}

/// Commands of a thing.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it is written piece by piece; this is what the whole looks like"
)]
pub(super) struct Commands {
    /// The newest first.
    commands: Vec<Status>,
}

/// What the query string says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    state: Option<Step>,
    limit: Option<u16>,
    format: Option<String>,
}

/// The commands of a thing, the newest first.
#[utoipa::path(
    get,
    path = "/things/{id}/commands",
    operation_id = "listCommands",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("state" = Option<String>, Query, description = "Only those in that state."),
        ("limit" = Option<u16>, Query, description = "At most so many; 1 to 1000, 100 if not said."),
        ("format" = Option<String>, Query, description = "json, ndjson or csv; wins over `Accept`."),
    ),
    responses(
        (status = 200, description = "Its commands.", content(
            (Commands = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 400, description = "A parameter is wrong."),
        (status = 406, description = "No such format."),
        (status = 503, description = "Too many questions at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    caller.may(Scope::DataRead)?;
    let thing = thing(&id)?;
    let limit = which.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "`limit` is {limit}; say 1 to {LIMIT_MAX}"
        )));
    }
    let format = media::choose(&FORMATS, which.format.as_deref(), &headers)?;
    let params: Vec<Param> = vec![
        Box::new(thing.plain().to_owned()),
        Box::new(which.state.map(|state| state.word().to_owned())),
        Box::new(i64::from(limit)),
    ];
    let visit = Visit::begin(app.sql()).await?;
    visit.page::<Status>(SOME, params, format, None, &uri).await
}

/// How far a command is.
#[utoipa::path(
    get,
    path = "/things/{id}/commands/{command}",
    operation_id = "readCommand",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("command" = String, Path, description = "The command's id, as it was answered."),
    ),
    responses(
        (status = 200, description = "How far it is.", body = Status),
        (status = 400, description = "What stands there cannot be a name."),
        (status = 404, description = "Nothing is known of such a command, or not yet."),
        (status = 503, description = "Too many questions at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
pub(super) async fn read(
    caller: Caller,
    State(app): State<App>,
    Path((id, command)): Path<(String, String)>,
) -> Result<Json<Status>, Problem> {
    caller.may(Scope::DataRead)?;
    let thing = thing(&id)?;
    let params: [Param; 2] = [
        Box::new(thing.plain().to_owned()),
        Box::new(command.replace('\0', "")),
    ];
    let visit = Visit::begin(app.sql()).await?;
    let (visit, row) = visit.first(ONE, &params).await?;
    visit.end().await;
    if let Some(row) = row {
        return Ok(Json(Status::of(&row).map_err(unreadable)?));
    }
    match waiting(&app, &thing, &command).await? {
        Some(pending) => Ok(Json(pending.into())),
        None => Err(Problem::not_found(format!(
            "nothing is known of a command `{}` of thing `{thing}`; what was asked for just now is known in a moment",
            shown(&command)
        ))),
    }
}

/// One that waits, of which SQL may not know yet.
async fn waiting(app: &App, thing: &Name, command: &str) -> Result<Option<Pending>, Problem> {
    let away = |error: anyhow::Error| {
        tracing::warn!("the commands that wait cannot be read: {error:#}");
        Problem::away("the broker does not answer")
    };
    let context = client::context(app.nats().clone());
    let bucket = context.get_key_value(pending::BUCKET).await;
    let bucket = bucket.map_err(|error| away(error.into()))?;
    let entry = bucket.entry(pending::key(thing, command)).await;
    let entry = entry.map_err(|error| away(error.into()))?;
    let entry = entry.filter(|entry| entry.operation == Operation::Put);
    Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
}

/// What actuate answers.
#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
    problem: Option<String>,
}

/// A command that was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// Its id.
    id: String,
    /// `cancelled`: it is never delivered.
    #[schema(example = "cancelled")]
    state: &'static str,
}

/// Takes a command back that was not sent yet.
#[utoipa::path(
    delete,
    path = "/things/{id}/commands/{command}",
    operation_id = "cancelCommand",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("command" = String, Path, description = "The command's id, as it was answered."),
    ),
    responses(
        (status = 200, description = "It is cancelled, and never delivered.", body = Cancelled),
        (status = 400, description = "What stands there cannot be a name."),
        (status = 403, description = "The token lacks the scope `command`."),
        (status = 404, description = "No such command waits: it has ended, or there was none."),
        (status = 409, description = "It was sent to its device already, or ends otherwise."),
        (status = 503, description = "The broker, or actuate, does not answer now; it may be cancelled all the same."),
    )
)]
pub(super) async fn cancel(
    caller: Caller,
    State(app): State<App>,
    Path((id, command)): Path<(String, String)>,
) -> Result<Json<Cancelled>, Problem> {
    caller.may(Scope::Command)?;
    let thing = thing(&id)?;
    let question = json!({ "thing": thing.plain(), "command": command, "by": caller.name() });
    let subject = subject::api(app.site(), "actuate", "cancel");
    let asked = app.nats().request(subject, question.to_string().into());
    let answer = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!("a command could not be taken back: {error:#}");
            return Err(Problem::away(
                "actuate does not answer; see how far the command is",
            ));
        }
        Err(_) => {
            return Err(Problem::away(
                "actuate does not answer in time; see how far the command is",
            ));
        }
    };
    let answer: Answer = serde_json::from_slice(&answer.payload).map_err(|error| {
        Problem::internal(&anyhow::Error::new(error).context("read the answer of actuate"))
    })?;
    match answer.status {
        200 => Ok(Json(Cancelled {
            id: command,
            state: "cancelled",
        })),
        status => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            Err(Problem::new(status, answer.problem.unwrap_or_default()))
        }
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    cut.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_schemas::{Command, Envelope, pending::Told};

    #[test]
    fn one_that_sql_does_not_know_yet_is_told_as_it_waits() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
        let mut command = Envelope::new("l:1", "/s/gateway", "l", at(1), Command::new("on", true));
        command.publisher = Some("alice".to_owned());
        let queued = Pending::queued(command, "s", 1, at(60), false);
        let status = Status::from(queued.clone());
        assert_eq!((status.state.as_str(), status.attempts), ("queued", 0));
        assert_eq!(status.issuer.as_deref(), Some("alice"));
        let sent = queued.to_sent("b", at(2));
        let end = sent.ending("bridge", Told::of(Step::Failed).because("no power"), at(3));
        let status = Status::from(sent.to_ended(end));
        assert_eq!((status.state.as_str(), status.attempts), ("failed", 1));
        assert_eq!(status.problem.as_deref(), Some("no power"));
    }
}
