//! The formats of answers, and which one is meant.
use axum::http::{HeaderMap, StatusCode, header};
use telltale_runtime::web::Problem;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Ndjson,
    Csv,
    Senml,
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Senml];

    /// What `Content-Type` says.
    pub(crate) const fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Senml => "application/senml+json",
        }
    }

    /// What the parameter `format` says.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Senml => "senml",
        }
    }

    fn is_meant_by(self, range: &str) -> bool {
        let names: &[&str] = match self {
            Self::Json => &["application/json"],
            Self::Ndjson => &["application/x-ndjson", "application/ndjson"],
            Self::Csv => &["text/csv"],
            Self::Senml => &["application/senml+json"],
        };
        names.iter().any(|name| {
            range.eq_ignore_ascii_case(name)
                || range == "*/*"
                || range.strip_suffix("/*").is_some_and(|kind| {
                    name.split('/')
                        .next()
                        .is_some_and(|is| is.eq_ignore_ascii_case(kind))
                })
        })
    }
}

/// The format that is meant, of those that there are; the first is the default. `asked` (the parameter `format`)
/// wins over `Accept`.
pub(crate) fn choose(
    offered: &[Format],
    asked: Option<&str>,
    headers: &HeaderMap,
) -> Result<Format, Problem> {
    let words = || {
        offered
            .iter()
            .map(|format| format.word())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(word) = asked {
        let found = Format::ALL.into_iter().find(|format| format.word() == word);
        return found.filter(|format| offered.contains(format)).ok_or_else(|| {
            Problem::bad_request(format!(
                "there is no format `{}` here; say one of {}",
                short(word),
                words()
            ))
        });
    }
    let mut ranges: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range)
        .filter(|(range, weight)| !range.is_empty() && *weight > 0.0)
        .collect();
    if ranges.is_empty() && !headers.contains_key(header::ACCEPT) {
        return offered
            .first()
            .copied()
            .ok_or_else(|| Problem::bad_request("there is no format here"));
    }
    // Stable: of two that are wanted as much, the one named first.
    ranges.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let meant = ranges
        .iter()
        .find_map(|(range, _)| offered.iter().find(|format| format.is_meant_by(range)));
    meant.copied().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            format!("there is no such media type here; say format= one of {}", words()),
        )
    })
}

/// Refuses what is not sent as JSON.
pub(crate) fn demand_json(headers: &HeaderMap, what: &'static str) -> Result<(), Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what))
    }
}

/// One range of `Accept`, and its weight.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (range, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn chosen(asked: Option<&str>, accept: Option<&str>) -> Result<Format, u16> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        }
        let offered = [Format::Json, Format::Ndjson, Format::Csv];
        choose(&offered, asked, &headers).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        for (asked, accept, expected) in [
            (None, None, Ok(Format::Json)),
            (None, Some("*/*"), Ok(Format::Json)),
            (None, Some("text/csv"), Ok(Format::Csv)),
            (None, Some("text/*"), Ok(Format::Csv)),
            (
                None,
                Some("text/html, application/x-ndjson;q=0.9, */*;q=0.1"),
                Ok(Format::Ndjson),
            ),
            (
                None,
                Some("application/json;q=0, text/csv;q=0.5"),
                Ok(Format::Csv),
            ),
            (None, Some("application/senml+json"), Err(406)),
            (None, Some("text/html"), Err(406)),
            (Some("csv"), Some("application/json"), Ok(Format::Csv)),
            (Some("senml"), None, Err(400)),
            (Some("xml"), None, Err(400)),
        ] {
            assert_eq!(chosen(asked, accept), expected, "{asked:?} {accept:?}");
        }
    }
}
