//! The list of descriptions, page by page, in the order of their ids (W3C WoT Discovery §7.3.1.5).
use super::serve;
use crate::{
    app::App,
    auth::{Caller, Scope},
    openapi::Description,
    registry::Error,
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use telltale_nats::Name;
use telltale_runtime::web::{Problem, Query};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Descriptions on a page where nobody says how many, and most on any.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;
/// A page ends when its descriptions have so many bytes, however many were asked for.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Entries asked for at once.
const AT_ONCE: usize = 32;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What a page is of.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// How many descriptions to leave out before the page.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    #[serde(default)]
    offset: u32,
    /// How many descriptions to give; never more than 1000.
    #[param(minimum = 1, maximum = 4_294_967_295_u32)]
    limit: Option<u32>,
    /// As a plain array, or as a collection with its total and its next page.
    #[param(inline)]
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Array,
    Collection,
}

/// What a page is answered with, for the document alone.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it says what the answer is, which is written otherwise")]
enum ThingList {
    Array(Vec<Description>),
    Collection(ThingCollection),
}

/// A page as a collection (W3C WoT Discovery §7.3.1.5).
#[derive(ToSchema)]
#[expect(dead_code, reason = "it says what the answer is, which is written otherwise")]
struct ThingCollection {
    #[schema(rename = "@context")]
    context: String,
    #[schema(rename = "@type")]
    kind: String,
    #[schema(rename = "@id")]
    id: String,
    /// How many descriptions there are in all.
    total: u64,
    members: Vec<Description>,
    /// The path of the next page, if there is one.
    #[schema(required = false)]
    next: String,
}

/// A page of the descriptions, in the order of their ids.
#[utoipa::path(
    get,
    path = "/things",
    tag = "directory",
    operation_id = "things",
    params(Asked),
    responses(
        (status = 200, description = "The page. `Link` has the next one, and the whole list with the tag of its state.",
            body = ThingList, content_type = "application/ld+json", headers(("Link" = String))),
        (status = 400, description = "No such page."),
    )
)]
async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsRead)?;
    if asked.limit == Some(0) {
        return Err(Problem::bad_request("`limit` is 0: say how many, 1 or more"));
    }
    let limit = asked.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let page = app.registry().page(asked.offset as usize, limit as usize)?;
    let (members, taken) = members(&app, &page.names, PAGE_BYTES).await?;
    let end = asked.offset as usize + taken;
    let next = (end < page.total).then(|| asked.at(end));
    let links = links(next.as_deref(), &page.etag);
    let body = match asked.format {
        Format::Array => Value::Array(members),
        Format::Collection => collection(&asked, &members, page.total, next),
    };
    let kind = HeaderValue::from_static("application/ld+json");
    let mut response = ([(header::CONTENT_TYPE, kind)], body.to_string()).into_response();
    for link in links {
        let value = HeaderValue::from_str(&link).map_err(|error| Problem::internal(&error.into()))?;
        response.headers_mut().append(header::LINK, value);
    }
    Ok(response)
}

impl Asked {
    /// The address of the page that begins there, asked for in the same way.
    fn at(&self, offset: usize) -> String {
        let limit = self.limit.unwrap_or(LIMIT);
        let format = match self.format {
            Format::Array => "",
            Format::Collection => "&format=collection",
        };
        format!("/things?offset={offset}&limit={limit}{format}")
    }
}

/// The descriptions of these things, until they have so many bytes, and how many names that took: what is gone since the
/// names were listed is left out.
pub(crate) async fn members(
    app: &App,
    names: &[Name],
    bytes_max: usize,
) -> Result<(Vec<Value>, usize), Error> {
    // Owned names: a borrowed one in here is more than the compiler can follow.
    let mut found = stream::iter(names.to_vec())
        .map(|name| async move { app.registry().get(&name).await })
        .buffered(AT_ONCE);
    let (mut members, mut taken, mut bytes) = (Vec::new(), 0, 0);
    while let Some(found) = found.try_next().await? {
        taken += 1;
        let Some(found) = found.filter(|found| found.entry.td.is_some()) else {
            continue;
        };
        let served = serve(app.bases(), app.site(), &found);
        bytes += served.to_string().len();
        members.push(served);
        if bytes > bytes_max {
            break;
        }
    }
    Ok((members, taken))
}

fn links(next: Option<&str>, etag: &str) -> Vec<String> {
    let next = next.map(|next| format!("<{next}>; rel=\"next\""));
    let whole = format!("</things>; rel=\"canonical\"; etag=\"{etag}\"");
    next.into_iter().chain([whole]).collect()
}

fn collection(asked: &Asked, members: &[Value], total: usize, next: Option<String>) -> Value {
    let mut collection = json!({
        "@context": "https://www.w3.org/2022/wot/discovery",
        "@type": "ThingCollection",
        "@id": asked.at(asked.offset as usize),
        "total": total,
        "members": members,
    });
    if let Some(next) = next {
        collection["next"] = next.into();
    }
    collection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        let asked = |limit, format| Asked {
            offset: 10,
            limit,
            format,
        };
        assert_eq!(asked(Some(7), Format::Array).at(17), "/things?offset=17&limit=7");
        assert_eq!(
            asked(None, Format::Collection).at(110),
            "/things?offset=110&limit=100&format=collection"
        );
        assert_eq!(
            links(Some("/things?offset=1&limit=1"), "2-ab"),
            [
                "</things?offset=1&limit=1>; rel=\"next\"",
                "</things>; rel=\"canonical\"; etag=\"2-ab\""
            ]
        );
    }
}
