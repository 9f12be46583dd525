//! History: readings as they were stored, or what they were in intervals of time.
use super::{
    cursor::Cursor,
    page::{Item, Visit},
    range::{Allowed, Range},
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
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;
use telltale_runtime::web::{Path, Problem, Query};
use telltale_schemas::{Record, Timestamp, senml};
use time::OffsetDateTime;
use tokio_postgres::Row;
use utoipa::ToSchema;

/// The columns of a [`Reading`], in the order in which it reads them.
macro_rules! columns {
    () => {
        "time, thing, name, value, value_text, value_bool, value_data, sum, unit, quality, failed, kind, message_id, ordinal"
    };
}
pub(super) use columns;

macro_rules! those {
    () => {
        " from readings where ($1::text[] is null or thing = any($1)) and ($2::text[] is null or name = any($2)) \
         and time >= $3 and time < $4"
    };
}

macro_rules! from_cursor {
    () => {
        concat!(
            those!(),
            " and (time, message_id, ordinal) >= ($3, $5::text, $6::smallint)"
        )
    };
}

/// The first row that is no more on the page.
const BOUNDARY: &str = concat!(
    "select time, message_id, ordinal",
    from_cursor!(),
    " order by time, message_id, ordinal offset $7 limit 1"
);
/// A page that is the last one.
const LAST: &str = concat!(
    "select ",
    columns!(),
    from_cursor!(),
    " order by time, message_id, ordinal"
);
/// A page that has another one behind it.
const PAGE: &str = concat!(
    "select ",
    columns!(),
    from_cursor!(),
    " and (time, message_id, ordinal) < ($7, $8::text, $9::smallint) order by time, message_id, ordinal"
);
/// An array is compared element by element, so the least one is that of the first moment, without all values of an
/// interval being kept.
const BUCKETS: &str = concat!(
    "select date_bin($5::bigint * interval '1 microsecond', time, timestamptz '1970-01-01 00:00:00Z') as bucket, \
     thing, name, unit, count(*), min(value), max(value), avg(value), \
     (min(array[extract(epoch from time)::float8, ordinal, value]))[3], \
     (max(array[extract(epoch from time)::float8, ordinal, value]))[3]",
    those!(),
    " and quality in (1, 2) and value is not null group by 1, 2, 3, 4 order by 1, 2, 3, 4"
);
const FORMATS: [Format; 4] = [Format::Json, Format::Ndjson, Format::Csv, Format::Senml];
/// Intervals have no form in SenML.
const BUCKET_FORMATS: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

/// One value of one property, as in the view `readings`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Reading {
    /// When it was measured (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub(super) time: Timestamp,
    /// The thing.
    pub(super) thing: String,
    /// The property.
    pub(super) name: String,
    /// The number, in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
    /// The text; where quality is 9, what came in place of a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_text: Option<String>,
    /// The boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_bool: Option<bool>,
    /// The bytes, base64url without padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_data: Option<String>,
    /// The integral over time, in `unit` times seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sum: Option<f64>,
    /// A primary unit of SenML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<String>,
    /// QARTOD flag: 1 passed, 2 not evaluated, 3 suspect, 4 failed, 9 no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<i16>,
    /// The quality tests that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<String>,
    /// observation or derivation.
    pub(super) kind: String,
    /// Id of its message.
    pub(super) message_id: String,
    /// Its position in the message.
    pub(super) ordinal: i16,
}

/// A moment of a row.
pub(super) fn moment(row: &Row, at: usize) -> Result<Timestamp, tokio_postgres::Error> {
    row.try_get::<_, OffsetDateTime>(at).map(Timestamp::from_offset)
}

/// A cell for what may not be there.
pub(super) fn cell(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

impl Item for Reading {
    const LIST: &'static str = "readings";
    const COLUMNS: &'static [&'static str] = &[
        "time",
        "thing",
        "name",
        "value",
        "value_text",
        "value_bool",
        "value_data",
        "sum",
        "unit",
        "quality",
        "failed",
        "kind",
        "message_id",
        "ordinal",
    ];

    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let data: Option<&[u8]> = row.try_get(6)?;
        Ok(Self {
            time: moment(row, 0)?,
            thing: row.try_get(1)?,
            name: row.try_get(2)?,
            value: row.try_get(3)?,
            value_text: row.try_get(4)?,
            value_bool: row.try_get(5)?,
            value_data: data.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
            sum: row.try_get(7)?,
            unit: row.try_get(8)?,
            quality: row.try_get(9)?,
            failed: row.try_get(10)?,
            kind: row.try_get(11)?,
            message_id: row.try_get(12)?,
            ordinal: row.try_get(13)?,
        })
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.time.to_string(),
            self.thing.clone(),
            self.name.clone(),
            cell(self.value.as_ref()),
            cell(self.value_text.as_ref()),
            cell(self.value_bool.as_ref()),
            cell(self.value_data.as_ref()),
            cell(self.sum.as_ref()),
            cell(self.unit.as_ref()),
            cell(self.quality.as_ref()),
            self.failed.join(" "),
            self.kind.clone(),
            self.message_id.clone(),
            self.ordinal.to_string(),
        ]
    }

    fn senml(&self) -> Vec<Value> {
        // Where there is no value, the text is what came in place of one, and SenML has no word for that.
        let is_missing = self.quality == Some(9);
        let record = Record {
            v: self.value,
            vs: self.value_text.clone().filter(|_| !is_missing),
            vb: self.value_bool,
            vd: self.value_data.clone(),
            s: self.sum,
            u: self.unit.clone(),
            ..Record::named(self.name.as_str())
        };
        match senml::to_senml(&self.thing, self.time, &[record]) {
            Value::Array(records) => records,
            _ => Vec::new(),
        }
    }
}

/// The good numbers of one property within an interval: those of quality 1 (passed) and 2 (not evaluated).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Bucket {
    /// Where the interval begins (RFC 3339, UTC): a multiple of its length since 1970.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// The thing.
    thing: String,
    /// The property.
    name: String,
    /// Of all numbers but `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// How many there are.
    count: i64,
    min: f64,
    max: f64,
    mean: f64,
    /// The earliest; of several at one moment the first of its message, then the least.
    first: f64,
    /// The latest; of several at one moment the last of its message, then the greatest.
    last: f64,
}

impl Item for Bucket {
    const LIST: &'static str = "buckets";
    const COLUMNS: &'static [&'static str] = &[
        "time", "thing", "name", "unit", "count", "min", "max", "mean", "first", "last",
    ];

    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            time: moment(row, 0)?,
            thing: row.try_get(1)?,
            name: row.try_get(2)?,
            unit: row.try_get(3)?,
            count: row.try_get(4)?,
            min: row.try_get(5)?,
            max: row.try_get(6)?,
            mean: row.try_get(7)?,
            first: row.try_get(8)?,
            last: row.try_get(9)?,
        })
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.time.to_string(),
            self.thing.clone(),
            self.name.clone(),
            cell(self.unit.as_ref()),
            self.count.to_string(),
        ];
        let numbers = [self.min, self.max, self.mean, self.first, self.last];
        cells.extend(numbers.map(|number| number.to_string()));
        cells
    }
}

/// A page of readings, or of intervals.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it is written piece by piece; this is what the whole looks like"
)]
pub(super) struct Listed {
    /// In the order of time, message and position.
    readings: Vec<Reading>,
    /// With `bucket`, instead of `readings`.
    buckets: Option<Vec<Bucket>>,
    /// `cursor` of the next page, if there is one; `Link` has it too, in every format.
    next: Option<String>,
}

/// The readings of a thing.
///
/// Without `from` the last day. With `bucket` the numbers of quality 1 and 2 in intervals: count, min, max, mean,
/// first, last. A page that could not be finished breaks off.
#[utoipa::path(
    get,
    path = "/things/{id}/readings",
    operation_id = "listReadings",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("name" = Option<Vec<String>>, Query, description = "Properties; all if not said."),
        ("from" = Option<String>, Query, description = "First moment (RFC 3339)."),
        ("to" = Option<String>, Query, description = "First moment after it (RFC 3339)."),
        ("bucket" = Option<String>, Query, description = "Length of an interval, 1s to 366d."),
        ("limit" = Option<u32>, Query, description = "Rows of a page, or intervals of time; 1 to 10000."),
        ("cursor" = Option<String>, Query, description = "Where the page begins: `next` of the one before."),
        ("format" = Option<String>, Query, description = "json, ndjson, csv or senml; wins over `Accept`."),
    ),
    responses(
        (status = 200, description = "A page.", content(
            (Listed = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (Vec<Value> = "application/senml+json"),
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
        bucket: true,
    };
    let mut range = Range::read(pairs, &allowed, Timestamp::now())?;
    range.things = Some(vec![thing(&id)?.plain().to_owned()]);
    answer(&app, range, &headers, &uri).await
}

/// The readings of several things, or of all.
///
/// As of one thing; `thing` may be said up to 100 times.
#[utoipa::path(
    get,
    path = "/readings",
    operation_id = "listReadingsOfThings",
    tag = "data",
    params(
        ("thing" = Option<Vec<String>>, Query, description = "Things; all if not said."),
        ("name" = Option<Vec<String>>, Query, description = "Properties; all if not said."),
        ("from" = Option<String>, Query, description = "First moment (RFC 3339)."),
        ("to" = Option<String>, Query, description = "First moment after it (RFC 3339)."),
        ("bucket" = Option<String>, Query, description = "Length of an interval, 1s to 366d."),
        ("limit" = Option<u32>, Query, description = "Rows of a page, or intervals of time; 1 to 10000."),
        ("cursor" = Option<String>, Query, description = "Where the page begins: `next` of the one before."),
        ("format" = Option<String>, Query, description = "json, ndjson, csv or senml; wins over `Accept`."),
    ),
    responses(
        (status = 200, description = "A page.", content(
            (Listed = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (Vec<Value> = "application/senml+json"),
        )),
        (status = 400, description = "A parameter is wrong."),
        (status = 406, description = "No such format."),
        (status = 422, description = "A row is larger than 1 MiB."),
        (status = 503, description = "Too many questions at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
pub(super) async fn of_things(
    caller: Caller,
    State(app): State<App>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    caller.may(Scope::DataRead)?;
    let allowed = Allowed {
        things: true,
        bucket: true,
    };
    let mut range = Range::read(pairs, &allowed, Timestamp::now())?;
    if let Some(things) = &mut range.things {
        for named in things {
            thing(named)?.plain().clone_into(named);
        }
    }
    answer(&app, range, &headers, &uri).await
}

async fn answer(app: &App, range: Range, headers: &HeaderMap, uri: &Uri) -> Result<Response, Problem> {
    let asked = range.format.as_deref();
    if let Some(bucket) = range.bucket {
        let format = media::choose(&BUCKET_FORMATS, asked, headers)?;
        let (end, next) = range.window(bucket);
        let mut params = those(&range, range.begin(), end);
        params.push(Box::new(bucket));
        let visit = Visit::begin(app.sql()).await?;
        return visit
            .page::<Bucket>(BUCKETS, params, format, next.as_ref(), uri)
            .await;
    }
    let format = media::choose(&FORMATS, asked, headers)?;
    let visit = Visit::begin(app.sql()).await?;
    let mut params = from_cursor(&range);
    params.push(Box::new(i64::from(range.limit)));
    let (visit, boundary) = visit.first(BOUNDARY, &params).await?;
    params.pop();
    let next = boundary.as_ref().map(cursor).transpose().map_err(unreadable)?;
    let sql = match &next {
        Some(next) => {
            params.push(Box::new(next.time.to_offset()));
            params.push(Box::new(next.message_id.clone()));
            params.push(Box::new(next.ordinal));
            PAGE
        }
        None => LAST,
    };
    visit
        .page::<Reading>(sql, params, format, next.as_ref(), uri)
        .await
}

fn those(range: &Range, from: Timestamp, to: Timestamp) -> Vec<Param> {
    vec![
        Box::new(range.things.clone()),
        Box::new(range.names.clone()),
        Box::new(from.to_offset()),
        Box::new(to.to_offset()),
    ]
}

fn from_cursor(range: &Range) -> Vec<Param> {
    let begin = range.begin();
    // A page that begins before its cursor's moment cannot be: then the cursor is of another question.
    let cursor = range.cursor.clone().filter(|cursor| cursor.time == begin);
    let cursor = cursor.unwrap_or_else(|| Cursor {
        ordinal: i16::MIN,
        ..Cursor::at(begin)
    });
    let mut params = those(range, begin, range.to);
    params.push(Box::new(cursor.message_id));
    params.push(Box::new(cursor.ordinal));
    params
}

fn cursor(row: &Row) -> Result<Cursor, tokio_postgres::Error> {
    Ok(Cursor {
        time: moment(row, 0)?,
        message_id: row.try_get(1)?,
        ordinal: row.try_get(2)?,
    })
}

/// A row of ours that is not what we asked for.
pub(super) fn unreadable(error: tokio_postgres::Error) -> Problem {
    Problem::internal(&anyhow::Error::new(error).context("read a row"))
}
