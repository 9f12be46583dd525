//! `POST /query`: one read-only SQL statement over the public views, within limits.
//!
//! What holds a hostile statement, from the outside in:
//!
//! - [`guard`]: one statement, a query, no name that leads out of the views;
//! - it stands in parentheses within ours, where nothing but a query may stand, and goes by the extended protocol;
//! - the role `telltale_query`, in a read-only transaction, may read the views and nothing else (migration V8);
//! - a session of its own for each query, so that nothing of one reaches the next;
//! - limits of time, rows, bytes, columns, of a row ([`sql::ROW_MAX`](crate::sql::ROW_MAX)), and of queries at once.
mod guard;
mod params;
mod rows;

use crate::{
    app::App,
    auth::{Caller, Scope},
    sql::{
        Lease, Limits, Trouble,
        media::{self, Format},
        place,
        pour::{self, Ask, Param},
    },
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use rows::{Column, Rows};
use serde::Deserialize;
use serde_json::Value;
use telltale_runtime::web::{Problem, Query, body};
use telltale_schemas::{
    kinds::Fault,
    strict::{self, Limits as JsonLimits},
};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Statement;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What a request may be.
const REQUEST: JsonLimits = JsonLimits {
    bytes: 128 * 1024,
    depth: 32,
};
/// Most columns of an answer.
const COLUMNS_MAX: usize = 256;
/// What stands before the query in the statement that asks for its columns.
const BEFORE: &str = "select * from (\n";
/// The formats, the default first.
const FORMATS: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(query))
}

/// One query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// One statement that begins with `select`, `with`, `values` or `table`; parameters are `$1`, `$2`, …
    #[schema(example = "select thing, name, value from latest where thing = any($1)")]
    sql: String,
    /// A value for each parameter; a list for an array.
    #[serde(default)]
    #[schema(value_type = Vec<Value>, example = json!([["kitchen"]]))]
    params: Vec<Value>,
    /// As many rows are enough; more than the gateway's own limit are never given.
    rows: Option<u64>,
}

/// What the query string says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    format: Option<String>,
}

/// What a query found.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it is written piece by piece; this is what the whole looks like"
)]
struct Found {
    /// Name and PostgreSQL type of each column.
    columns: Vec<FoundColumn>,
    /// A list of values for each row.
    rows: Vec<Vec<Value>>,
    /// How many rows.
    count: u64,
    /// `false`, or why there are not all of them: `rows` or `bytes` (a limit), `problem`.
    #[schema(value_type = Value)]
    truncated: Value,
    /// What went wrong after the first rows were sent.
    problem: Option<Value>,
}

/// A column of what a query found.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it is written piece by piece; this is what the whole looks like"
)]
struct FoundColumn {
    name: String,
    r#type: String,
}

/// Asks the public views in SQL. One read-only statement, with parameters, within limits of time, rows and bytes.
///
/// `format` or `Accept` choose JSON (default), NDJSON or CSV. NDJSON and CSV that could not be finished, or have more
/// rows than the limit, break off; where `rows` was asked for, they end after so many.
#[utoipa::path(
    post,
    path = "/query",
    operation_id = "query",
    tag = "query",
    params(("format" = Option<String>, Query, description = "json, ndjson or csv; wins over `Accept`.")),
    request_body(content = Wanted, content_type = "application/json"),
    responses(
        (status = 200, description = "The rows.", content(
            (Found = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 400, description = "Not one query, or one that PostgreSQL refuses; `errors` names the place."),
        (status = 403, description = "The token lacks the scope `query`, or the query reads what is no public view."),
        (status = 406, description = "No such format."),
        (status = 413, description = "The request is too large."),
        (status = 415, description = "The request is no JSON."),
        (status = 422, description = "A row is larger than 1 MiB."),
        (status = 503, description = "Too many queries at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
async fn query(
    caller: Caller,
    State(app): State<App>,
    Query(how): Query<How>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    caller.may(Scope::Query)?;
    let format = media::choose(&FORMATS, how.format.as_deref(), &headers)?;
    let wanted = read(&headers, request).await?;
    let sql = guard::check(&wanted.sql).map_err(|refusal| refused(&wanted.sql, &refusal))?;
    let limits = app.sql().limits;
    let started = Instant::now();
    let until = started + limits.time;
    tracing::debug!(who = caller.name(), "a query");
    let problem = |trouble: Trouble| trouble.to_theirs(sql, BEFORE.len());
    let lease = app.sql().query.lease().await.map_err(problem)?;
    let prepared = timeout_at(until, prepare(&lease, sql, &wanted.params, format)).await;
    let (statement, columns, params) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => {
            lease.give_back().await;
            return Err(error);
        }
        Err(_) => {
            lease.cut().await;
            return Err(problem(Trouble::Late(limits.time)));
        }
    };
    let ask = ask(&limits, wanted.rows, statement, params, until);
    let rows = Rows::new(
        format,
        columns,
        wanted.rows.is_some_and(|rows| rows <= limits.rows),
        sql,
    );
    pour::pour(lease, ask, rows).await.map_err(problem)
}

fn ask(limits: &Limits, rows: Option<u64>, statement: Statement, params: Vec<Param>, until: Instant) -> Ask {
    Ask {
        statement,
        params,
        rows_max: rows.map_or(limits.rows, |rows| rows.min(limits.rows)),
        bytes_max: limits.bytes,
        until,
        time: limits.time,
    }
}

/// The statement whose columns are JSON texts, its columns' names, its parameters' values.
async fn prepare(
    lease: &Lease,
    sql: &str,
    params: &[Value],
    format: Format,
) -> Result<(Statement, Vec<Column>, Vec<Param>), Problem> {
    let client = &lease.session.client;
    let told = |error| lease.session.blame(error).to_theirs(sql, BEFORE.len());
    let plain = client
        .prepare(&format!("{BEFORE}{sql}\n) as q"))
        .await
        .map_err(told)?;
    let columns: Vec<Column> = plain
        .columns()
        .iter()
        .map(|column| Column {
            name: column.name().to_owned(),
            kind: column.type_().name().to_owned(),
        })
        .collect();
    check_columns(&columns, format)?;
    let wrapped = wrap(sql, columns.len());
    let statement = client.prepare(&wrapped).await.map_err(told)?;
    let params = params::texts(params, statement.params()).map_err(|fault| Problem::invalid(vec![fault]))?;
    let params = params.into_iter().map(|text| Box::new(text) as Param).collect();
    Ok((statement, columns, params))
}

fn check_columns(columns: &[Column], format: Format) -> Result<(), Problem> {
    let refuse = |message: String| Err(Problem::invalid(vec![Fault::at("/sql", message)]));
    match columns.len() {
        0 => return refuse("a query without columns has no answer".to_owned()),
        1..=COLUMNS_MAX => {}
        more => return refuse(format!("{more} columns are more than {COLUMNS_MAX}")),
    }
    let twice = columns.iter().enumerate().find(|(at, column)| {
        let before = columns.iter().take(*at);
        before.into_iter().any(|other| other.name == column.name)
    });
    match twice {
        Some((_, column)) if format == Format::Ndjson => refuse(format!(
            "two columns are called `{}`; give one of them another name with `as`",
            column.name
        )),
        _ => Ok(()),
    }
}

/// The same query, each of its columns as JSON text: whatever its types are, PostgreSQL writes them.
fn wrap(sql: &str, columns: usize) -> String {
    let list = |prefix: &str, suffix: &str| {
        let all = (0..columns).map(|at| format!("{prefix}c{at}{suffix}"));
        all.collect::<Vec<_>>().join(",")
    };
    format!(
        "select {} from (\n{sql}\n) as q({})",
        list("to_json(q.", ")::text"),
        list("", "")
    )
}

async fn read(headers: &HeaderMap, request: Body) -> Result<Wanted, Problem> {
    media::demand_json(
        headers,
        "a query is application/json: {\"sql\": \"select …\", \"params\": []}",
    )?;
    let bytes = body::read(request, REQUEST.bytes).await?;
    let document = strict::parse(&bytes, &REQUEST)?;
    serde_json::from_value(document).map_err(|error| Problem::invalid(vec![Fault::at("", error.to_string())]))
}

fn refused(sql: &str, refusal: &guard::Refusal) -> Problem {
    let message = format!("{}{}", refusal.message, place(sql, refusal.at));
    Problem::invalid(vec![Fault::at("/sql", message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        Column {
            name: name.to_owned(),
            kind: "int4".to_owned(),
        }
    }

    #[test]
    fn a_query_stands_in_parentheses_on_lines_of_its_own() {
        assert_eq!(
            wrap("select 1, 2 -- x", 2),
            "select to_json(q.c0)::text,to_json(q.c1)::text from (\nselect 1, 2 -- x\n) as q(c0,c1)"
        );
    }

    #[test]
    fn columns_are_limited_and_objects_need_names_that_differ() {
        let many: Vec<Column> = (0..=COLUMNS_MAX).map(|at| column(&at.to_string())).collect();
        assert!(check_columns(&many, Format::Json).is_err());
        assert!(check_columns(&many[1..], Format::Ndjson).is_ok());
        assert!(check_columns(&[], Format::Json).is_err());
        let twice = [column("a"), column("a")];
        assert!(check_columns(&twice, Format::Csv).is_ok());
        assert!(check_columns(&twice, Format::Ndjson).is_err());
    }
}
