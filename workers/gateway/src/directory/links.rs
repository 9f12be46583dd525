//! CoRE links (RFC 6690): `/.well-known/core`, and the look-up of a resource directory (RFC 9176 §6).
//!
//! What may be seen by anybody are our own entry points; things are looked up with a token.
use super::serve::segment;
use crate::{
    app::App,
    auth::{Caller, Scope},
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::TryStreamExt as _;
use serde_json::Value;
use std::fmt::Write as _;
use telltale_runtime::web::{Problem, Query};
use telltale_schemas::td::forms;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The media type of links.
const MEDIA_TYPE: &str = "application/link-format";
/// CoAP's number of a Thing Description's media type, and of links'.
const TD: &str = "432";
const LINKS: &str = "40";
/// Links of a page where nobody says how many, and most on any.
const COUNT: usize = 1_000;
const COUNT_MAX: usize = 10_000;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(core))
        .routes(routes!(resources))
        .routes(routes!(endpoints))
}

/// A link, with attributes that hold text. `rt` may have several values, with spaces between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    target: String,
    attributes: Vec<(&'static str, String)>,
}

impl Link {
    fn new<const N: usize>(target: impl Into<String>, attributes: [(&'static str, String); N]) -> Self {
        Self {
            target: target.into(),
            attributes: attributes.into(),
        }
    }

    /// As RFC 6690 writes it: no space anywhere, values in quotes but for `ct`.
    fn write(&self, out: &mut String) {
        let mut put =
            |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes what is written");
        put(format_args!("<{}>", self.target));
        for (name, value) in &self.attributes {
            match *name {
                "ct" => put(format_args!(";ct={value}")),
                name => put(format_args!(";{name}=\"{}\"", quoted(value))),
            }
        }
    }

    /// Whether it has what a query asks for: `name=value`, or `name=begin*`.
    fn has(&self, (name, wanted): &(String, String)) -> bool {
        let is_it = |value: &str| match wanted.strip_suffix('*') {
            Some(begin) => value.starts_with(begin),
            None => value == wanted,
        };
        if name == "href" {
            return is_it(&self.target);
        }
        let mut values = self.attributes.iter().filter(|(known, _)| known == name);
        values.any(|(_, value)| is_it(value) || value.split(' ').any(is_it))
    }
}

/// The inside of a quoted string, in which no control character moves anything.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The parameters of a query, in their order.
type Pairs = Vec<(String, String)>;

/// What is asked for: filters that all must hold, and a page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    filters: Vec<(String, String)>,
    page: usize,
    count: Option<usize>,
}

impl Asked {
    fn read(pairs: Pairs) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in pairs {
            let number = || {
                let number: Result<u32, _> = value.parse();
                number.map(|number| number as usize).map_err(|_| {
                    let shown = value.escape_debug();
                    Problem::bad_request(format!("`{name}` is no number of at least 0: `{shown}`"))
                })
            };
            match name.as_str() {
                "page" => asked.page = number()?,
                "count" => asked.count = Some(number()?),
                _ => asked.filters.push((name, value)),
            }
        }
        Ok(asked)
    }

    fn wants(&self, link: &Link) -> bool {
        self.filters.iter().all(|filter| link.has(filter))
    }

    /// How many links come before the page, and how many are on it.
    fn window(&self) -> (usize, usize) {
        let count = self.count.unwrap_or(COUNT).min(COUNT_MAX);
        (self.page.saturating_mul(count), count)
    }
}

fn answer<'a>(links: impl IntoIterator<Item = &'a Link>) -> Response {
    let mut body = String::new();
    for link in links {
        if !body.is_empty() {
            body.push(',');
        }
        link.write(&mut body);
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))];
    (kind, body).into_response()
}

/// Our own entry points as links; `?rt=…`, `?ct=…` and `?href=…` choose among them.
#[utoipa::path(
    get,
    path = "/.well-known/core",
    tag = "discovery",
    security(()),
    params(
        ("rt" = Option<String>, Query, description = "Resource type; `*` at the end for any that begins so."),
        ("href" = Option<String>, Query, description = "Target; `*` at the end for any that begins so."),
    ),
    responses(
        (status = 200, description = "The links.", body = String, content_type = "application/link-format"),
        (status = 400, description = "Not a query."),
    )
)]
async fn core(Query(query): Query<Pairs>) -> Result<Response, Problem> {
    let asked = Asked::read(query)?;
    let rt = |rt: &str| ("rt", rt.to_owned());
    let ct = |ct: &str| ("ct", ct.to_owned());
    let all = [
        Link::new("/.well-known/wot", [rt("wot.directory"), ct(TD)]),
        Link::new("/rd-lookup/ep", [rt("core.rd-lookup-ep"), ct(LINKS)]),
        Link::new("/rd-lookup/res", [rt("core.rd-lookup-res"), ct(LINKS)]),
    ];
    Ok(answer(all.iter().filter(|link| asked.wants(link))))
}

/// The links of all described things: each thing, its properties, actions and events.
#[utoipa::path(
    get,
    path = "/rd-lookup/res",
    tag = "discovery",
    params(
        ("rt" = Option<String>, Query, description = "Resource type; `*` at the end for any that begins so."),
        ("ep" = Option<String>, Query, description = "The `id` of the thing's description."),
        ("href" = Option<String>, Query, description = "Target; `*` at the end for any that begins so."),
        ("page" = Option<u32>, Query, description = "Which page, from 0.", maximum = 4_294_967_295_u32),
        ("count" = Option<u32>, Query, description = "Links on a page; at most 10000.", maximum = 4_294_967_295_u32),
    ),
    responses(
        (status = 200, description = "The links.", body = String, content_type = "application/link-format"),
        (status = 400, description = "Not a query."),
    )
)]
async fn resources(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<Pairs>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsRead)?;
    look_up(&app, query, links_of).await
}

/// The described things as endpoints.
#[utoipa::path(
    get,
    path = "/rd-lookup/ep",
    tag = "discovery",
    params(
        ("ep" = Option<String>, Query, description = "The `id` of the thing's description; `*` at the end for any that begins so."),
        ("et" = Option<String>, Query, description = "One of its `@type`s."),
        ("page" = Option<u32>, Query, description = "Which page, from 0.", maximum = 4_294_967_295_u32),
        ("count" = Option<u32>, Query, description = "Links on a page; at most 10000.", maximum = 4_294_967_295_u32),
    ),
    responses(
        (status = 200, description = "The links.", body = String, content_type = "application/link-format"),
        (status = 400, description = "Not a query."),
    )
)]
async fn endpoints(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<Pairs>,
) -> Result<Response, Problem> {
    caller.may(Scope::ThingsRead)?;
    look_up(&app, query, |base, thing, td| vec![endpoint(base, thing, td)]).await
}

async fn look_up(
    app: &App,
    query: Pairs,
    links: impl Fn(&str, &str, &Value) -> Vec<Link>,
) -> Result<Response, Problem> {
    let asked = Asked::read(query)?;
    let (mut skip, count) = asked.window();
    let mut found = Vec::new();
    let all = app.registry().all().await?;
    let mut all = std::pin::pin!(all);
    while found.len() < count
        && let Some(one) = all.try_next().await?
    {
        let Some(td) = &one.entry.td else { continue };
        for link in links(&app.bases().http, &one.entry.thing, td) {
            if asked.wants(&link) {
                if skip > 0 {
                    skip -= 1;
                } else if found.len() < count {
                    found.push(link);
                }
            }
        }
    }
    Ok(answer(&found))
}

fn endpoint(base: &str, thing: &str, td: &Value) -> Link {
    let mut link = Link::new(
        forms::path(thing),
        [("ep", text(td, "id")), ("base", base.to_owned())],
    );
    if let Some(types) = types(td) {
        link.attributes.push(("et", types));
    }
    link.attributes.push(("rt", "core.rd-ep".to_owned()));
    link
}

fn links_of(base: &str, thing: &str, td: &Value) -> Vec<Link> {
    let (id, path) = (text(td, "id"), forms::path(thing));
    let whole = format!("{base}{path}");
    let mut all = vec![Link::new(
        whole.as_str(),
        [
            ("rt", "wot.thing".to_owned()),
            ("ct", TD.to_owned()),
            ("ep", id.clone()),
            ("title", text(td, "title")),
        ],
    )];
    for (member, kind) in [
        ("properties", "telltale.property"),
        ("actions", "telltale.action"),
        ("events", "telltale.event"),
    ] {
        let affordances = td.get(member).and_then(Value::as_object);
        for (name, affordance) in affordances.into_iter().flatten() {
            let target = format!("{whole}/{member}/{}", segment(name));
            let rt = match types(affordance) {
                Some(types) => format!("{kind} {types}"),
                None => kind.to_owned(),
            };
            all.push(Link::new(
                target,
                [("rt", rt), ("ep", id.clone()), ("anchor", whole.clone())],
            ));
        }
    }
    all
}

fn text(value: &Value, member: &str) -> String {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The values of `@type` that can be values of a link's type.
fn types(value: &Value) -> Option<String> {
    let types = value.get("@type")?;
    let several = types
        .as_array()
        .map_or(std::slice::from_ref(types), Vec::as_slice);
    let words = several.iter().filter_map(Value::as_str);
    let words: Vec<&str> = words.filter(|word| !word.contains(char::is_whitespace)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_thing_and_what_it_has_are_links() {
        let td = json!({"id": "urn:t:1", "title": "A \"lamp\"\n", "@type": ["Lamp", "x:Y"],
            "properties": {"on/off": {"@type": "x:Switch"}}, "actions": {"blink": {}}});
        let mut told = String::new();
        for link in links_of("http://gw", "urn:t:1", &td) {
            link.write(&mut told);
            told.push('\n');
        }
        assert_eq!(
            told,
            "<http://gw/things/urn:t:1>;rt=\"wot.thing\";ct=432;ep=\"urn:t:1\";title=\"A \\\"lamp\\\" \"\n\
             <http://gw/things/urn:t:1/properties/on%2Foff>;rt=\"telltale.property x:Switch\";ep=\"urn:t:1\";anchor=\"http://gw/things/urn:t:1\"\n\
             <http://gw/things/urn:t:1/actions/blink>;rt=\"telltale.action\";ep=\"urn:t:1\";anchor=\"http://gw/things/urn:t:1\"\n"
        );
        let mut told = String::new();
        endpoint("http://gw", "urn:t:1", &td).write(&mut told);
        assert_eq!(
            told,
            "</things/urn:t:1>;ep=\"urn:t:1\";base=\"http://gw\";et=\"Lamp x:Y\";rt=\"core.rd-ep\""
        );
    }

    #[test]
    fn a_query_chooses_by_whole_values_or_by_how_they_begin() {
        let link = Link::new(
            "/a",
            [("rt", "wot.thing x.y".to_owned()), ("ct", "432".to_owned())],
        );
        let read = |query: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            Asked::read(pairs.map(|(name, value)| (name.into(), value.into())).collect())
        };
        let wants = |query: &str| read(query).unwrap().wants(&link);
        for query in [
            "",
            "rt=wot.thing",
            "rt=x.y",
            "rt=wot.*",
            "rt=*",
            "href=/a",
            "rt=x*&ct=432",
            "page=3&rt=x.y",
        ] {
            assert!(wants(query), "{query}");
        }
        for query in ["rt=wot", "rt=wot.thing.more", "href=/", "if=x", "rt=x.y&ct=40"] {
            assert!(!wants(query), "{query}");
        }
        assert_eq!(read("page=2&count=7").unwrap().window(), (14, 7));
        assert!(read("page=-1").is_err() && read("count=x").is_err());
        assert!(read("page=4294967296").is_err());
    }
}
