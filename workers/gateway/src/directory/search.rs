//! Search by JSONPath (RFC 9535) over the array of all descriptions (W3C WoT Discovery §7.3.3).
//!
//! There may be a hundred thousand of them, so that array is never there. A query that looks at each description by
//! itself, `$[?…]…` or `$[*]…`, is asked of one after the other and answered as it goes; any other is asked of the
//! whole array, where that is small enough.
use super::serve;
use crate::{
    app::App,
    auth::{Caller, Scope},
    registry::{Error, Found},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;
use std::{sync::Arc, time::Duration};
use telltale_runtime::web::{Problem, Query};
use telltale_schemas::kinds::Fault;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest query, in bytes.
const QUERY_MAX: usize = 1024;
/// Most things that a query may see at once.
const WHOLE_MAX: usize = 1_000;
/// A search ends then, whether it is through or not.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Descriptions looked at in one go.
const LOT: usize = 128;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(jsonpath))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// A JSONPath over the array of all descriptions: `$[?@.title == 'Lamp']`, `$[*].properties.*.unit`.
    #[param(max_length = 1024, example = "$[?@.title == 'Lamp']")]
    query: String,
}

/// What a JSONPath finds in the descriptions: whole ones, or parts.
#[utoipa::path(
    get,
    path = "/search/jsonpath",
    tag = "directory",
    operation_id = "searchJSONPath",
    params(Asked),
    responses(
        (status = 200, description = "What was found.", body = Vec<serde_json::Value>, content_type = "application/json"),
        (status = 400, description = "Not a JSONPath, or one that looks at all descriptions at once where there are many."),
    )
)]
async fn jsonpath(
    caller: Caller,
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsRead)?;
    let (path, is_each) = read(&asked.query)?;
    let path = Arc::new(path);
    let total = app.registry().page(0, 0)?.total;
    if !is_each && total > WHOLE_MAX {
        return Err(Problem::bad_request(format!(
            "there are {total} things, and a query may look at no more than {WHOLE_MAX} at once: begin it with `$[?…]` \
             or `$[*]`, so that it looks at each by itself"
        )));
    }
    let all = app.registry().all().await?;
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let body = if is_each {
        Body::from_stream(streamed(app.clone(), path, all))
    } else {
        let all: Vec<Value> = all
            .map_ok(|found| serve(app.bases(), app.site(), &found))
            .try_collect()
            .await?;
        let found = ask(path, vec![Value::Array(sorted(all))]).await;
        Body::from(format!("[{}]", found.map_err(|error| Problem::internal(&error))?))
    };
    Ok((kind, body).into_response())
}

/// The query, and whether it looks at each description by itself.
fn read(query: &str) -> Result<(JsonPath, bool), Problem> {
    if query.len() > QUERY_MAX {
        return Err(Problem::bad_request(format!(
            "the query has {} bytes, more than {QUERY_MAX}",
            query.len()
        )));
    }
    let path = JsonPath::parse(query).map_err(|error| {
        let fault = Fault::at("", error.to_string());
        Problem::bad_request("`query` is no JSONPath (RFC 9535)").with_errors(vec![fault])
    })?;
    Ok((path, looks_at_each(query)))
}

/// Whether the first segment is `[?…]` or `[*]` and nothing else, and no other part goes back to the root. The query
/// has been parsed before: quotes and brackets match.
fn looks_at_each(query: &str) -> bool {
    let rest = query.strip_prefix('$').unwrap_or_default().trim_start();
    let Some(selector) = rest.strip_prefix('[').map(str::trim_start) else {
        return false;
    };
    if !selector.starts_with(['?', '*']) {
        return false;
    }
    let (mut depth, mut quote, mut is_first) = (1_usize, None, true);
    let mut rest = selector.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(rest.next()),
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '$') => return false,
            (None, ',') if is_first && depth == 1 => return false,
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => {
                depth = depth.saturating_sub(1);
                is_first &= depth > 0;
            }
            _ => {}
        }
    }
    true
}

/// In the order of their ids.
fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    all
}

/// What the query finds in each of those arrays, as JSON texts with commas between them. On a thread for work: a
/// query over large descriptions takes its time.
async fn ask(path: Arc<JsonPath>, arrays: Vec<Value>) -> Result<String, anyhow::Error> {
    let asked = tokio::task::spawn_blocking(move || {
        let found = arrays.iter().flat_map(|array| path.query(array).all());
        let texts: Vec<String> = found.map(Value::to_string).collect();
        texts.join(",")
    });
    Ok(asked.await?)
}

/// The answer, lot by lot. What fails on the way breaks the answer off: its end is missing.
fn streamed(
    app: App,
    path: Arc<JsonPath>,
    all: impl Stream<Item = Result<Found, Error>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, anyhow::Error>> + Send + 'static {
    let end = Instant::now() + TIME_MAX;
    let lots = all.chunks(LOT).then(move |lot| {
        let (app, path) = (app.clone(), path.clone());
        async move {
            anyhow::ensure!(Instant::now() < end, "the search took more than {TIME_MAX:?}");
            let lot: Result<Vec<Found>, Error> = lot.into_iter().collect();
            // An array of its own for each: to the query, it is the only one.
            let arrays = lot?
                .iter()
                .map(|found| Value::Array(vec![serve(app.bases(), app.site(), found)]))
                .collect();
            ask(path, arrays).await
        }
    });
    let mut is_first = true;
    let texts = lots.try_filter(|text| std::future::ready(!text.is_empty()));
    let pieces = texts.map_ok(move |text| {
        let comma = if std::mem::take(&mut is_first) { "" } else { "," };
        Bytes::from(format!("{comma}{text}"))
    });
    let mark =
        |mark: &'static str| futures::stream::once(async move { Ok(Bytes::from_static(mark.as_bytes())) });
    mark("[").chain(pieces).chain(mark("]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_looks_at_each_by_itself_is_told_from_one_that_does_not() {
        for query in [
            "$[?@.title == 'Lamp']",
            "$[?(@.title=='a,b]$')].id",
            "$[*]",
            "$ [ * ].properties.*.unit",
            "$[?@.a[?@.b, 0]]",
            "$[?search(@.title, 'x')]['a', 'b']",
            r"$[?@.title == 'it\'s $']",
            "$[*][0, 1]",
        ] {
            assert!(read(query).unwrap().1, "{query}");
        }
        for query in [
            "$",
            "$[0]",
            "$[0:5]",
            "$..title",
            "$[?@.a, 0]",
            "$[*, 0]",
            "$[?@.title == $[0].title]",
            "$.*",
        ] {
            assert!(!read(query).unwrap().1, "{query}");
        }
    }

    #[test]
    fn what_is_no_jsonpath_is_refused() {
        for query in [
            "",
            "$[",
            "title",
            "$[?@.a ==]",
            &format!("${}", "[*]".repeat(400)),
        ] {
            assert_eq!(read(query).unwrap_err().status().as_u16(), 400, "{query}");
        }
    }

    #[tokio::test]
    async fn one_by_one_a_query_finds_what_it_finds_in_all() {
        let all = vec![
            serde_json::json!({"id": "a", "n": 1}),
            serde_json::json!({"id": "b", "n": 2}),
        ];
        let path = Arc::new(JsonPath::parse("$[?@.n > 0].id").unwrap());
        let whole = ask(path.clone(), vec![all.clone().into()]).await.unwrap();
        let each = all.into_iter().map(|one| vec![one].into()).collect();
        assert_eq!(ask(path, each).await.unwrap(), whole);
        assert_eq!(whole, "\"a\",\"b\"");
    }
}
