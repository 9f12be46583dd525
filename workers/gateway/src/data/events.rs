//! `GET /things/{id}/events`: what happened to a thing.
use super::{
    cursor::Cursor,
    page::{Item, Visit},
    range::{Allowed, Range},
    readings::{cell, moment, unreadable},
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
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;
use telltale_nats::Name;
use telltale_runtime::web::{Path, Problem, Query};
use telltale_schemas::Timestamp;
use tokio_postgres::Row;
use utoipa::ToSchema;

macro_rules! those {
    () => {
        " from events where thing = $1 and ($2::text[] is null or name = any($2)) and time >= $3 and time < $4 \
         and (time, message_id) >= ($3, $5::text)"
    };
}

const BOUNDARY: &str = concat!(
    "select time, message_id",
    those!(),
    " order by time, message_id offset $6 limit 1"
);
const LAST: &str = concat!(
    "select time, thing, name, data, site, message_id, causation_id",
    those!(),
    " order by time, message_id"
);
const PAGE: &str = concat!(
    "select time, thing, name, data, site, message_id, causation_id",
    those!(),
    " and (time, message_id) < ($6, $7::text) order by time, message_id"
);
const FORMATS: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

/// One thing that happened, as in the view `events`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Happened {
    /// When (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// To which thing.
    thing: String,
    /// What.
    name: String,
    /// The particulars.
    #[schema(value_type = Value)]
    data: Value,
    /// At which site.
    site: String,
    /// Id of the event.
    message_id: String,
    /// Id of the message that it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
}

impl Item for Happened {
    const LIST: &'static str = "events";
    const COLUMNS: &'static [&'static str] = &[
        "time",
        "thing",
        "name",
        "data",
        "site",
        "message_id",
        "causation_id",
    ];

    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            time: moment(row, 0)?,
            thing: row.try_get(1)?,
            name: row.try_get(2)?,
            data: row.try_get(3)?,
            site: row.try_get(4)?,
            message_id: row.try_get(5)?,
            causation_id: row.try_get(6)?,
        })
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.time.to_string(),
            self.thing.clone(),
            self.name.clone(),
            self.data.to_string(),
            self.site.clone(),
            self.message_id.clone(),
            cell(self.causation_id.as_ref()),
        ]
    }
}

/// A page of events.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it is written piece by piece; this is what the whole looks like"
)]
pub(super) struct Events {
    /// In the order of time and id.
    events: Vec<Happened>,
    /// `cursor` of the next page, if there is one; `Link` has it too, in every format.
    next: Option<String>,
}

/// What happened to a thing.
///
/// Without `from` the last day. A page that could not be finished breaks off.
#[utoipa::path(
    get,
    path = "/things/{id}/events",
    operation_id = "listEvents",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("name" = Option<Vec<String>>, Query, description = "Names of events; all if not said."),
        ("from" = Option<String>, Query, description = "First moment (RFC 3339)."),
        ("to" = Option<String>, Query, description = "First moment after it (RFC 3339)."),
        ("limit" = Option<u32>, Query, description = "Events of a page; 1 to 10000."),
        ("cursor" = Option<String>, Query, description = "Where the page begins: `next` of the one before."),
        ("format" = Option<String>, Query, description = "json, ndjson or csv; wins over `Accept`."),
    ),
    responses(
        (status = 200, description = "A page.", content(
            (Events = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 400, description = "A parameter is wrong."),
        (status = 406, description = "No such format."),
        (status = 422, description = "A row is larger than 1 MiB."),
        (status = 503, description = "Too many questions at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
pub(super) async fn of_thing(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    caller.may(Scope::DataRead)?;
    let allowed = Allowed {
        things: false,
        bucket: false,
    };
    let range = Range::read(pairs, &allowed, Timestamp::now())?;
    let thing = thing(&id)?;
    let format = media::choose(&FORMATS, range.format.as_deref(), &headers)?;
    let visit = Visit::begin(app.sql()).await?;
    let mut params = params(&thing, &range);
    params.push(Box::new(i64::from(range.limit)));
    let (visit, boundary) = visit.first(BOUNDARY, &params).await?;
    params.pop();
    let next = boundary.as_ref().map(cursor).transpose().map_err(unreadable)?;
    let sql = match &next {
        Some(next) => {
            params.push(Box::new(next.time.to_offset()));
            params.push(Box::new(next.message_id.clone()));
            PAGE
        }
        None => LAST,
    };
    visit
        .page::<Happened>(sql, params, format, next.as_ref(), &uri)
        .await
}

fn params(thing: &Name, range: &Range) -> Vec<Param> {
    let begin = range.begin();
    let cursor = range.cursor.clone().filter(|cursor| cursor.time == begin);
    vec![
        Box::new(thing.plain().to_owned()),
        Box::new(range.names.clone()),
        Box::new(begin.to_offset()),
        Box::new(range.to.to_offset()),
        Box::new(cursor.map(|cursor| cursor.message_id).unwrap_or_default()),
    ]
}

fn cursor(row: &Row) -> Result<Cursor, tokio_postgres::Error> {
    Ok(Cursor {
        message_id: row.try_get(1)?,
        ..Cursor::at(moment(row, 0)?)
    })
}
