//! Media types of bodies.
use axum::http::{HeaderMap, StatusCode, header};
use telltale_runtime::web::Problem;

/// What descriptions come as.
pub(super) const DESCRIPTION: &[&str] = &["application/td+json", "application/ld+json", "application/json"];
/// What patches come as: that alone (W3C WoT Discovery §7.3.1.3.2).
pub(super) const PATCH: &[&str] = &["application/merge-patch+json"];

/// Refuses (415) a body that is said to be anything else, in another character set, or nothing.
pub(super) fn judge(headers: &HeaderMap, taken: &[&str]) -> Result<(), Problem> {
    let mut said = headers.get_all(header::CONTENT_TYPE).iter();
    let text = match (said.next(), said.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let is_taken = taken.iter().any(|taken| taken.eq_ignore_ascii_case(essence));
    let mut charsets = parts.filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    });
    let is_utf8 = charsets.all(|value| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"));
    if is_taken && is_utf8 {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("send it with `Content-Type: {}`, in UTF-8", taken.join("` or `")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_body_is_said_to_be_a_description_or_is_refused() {
        let judge = |said: &[&str]| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_str(said).unwrap());
            }
            super::judge(&headers, DESCRIPTION).is_ok()
        };
        for said in [
            "application/td+json",
            "application/json",
            "Application/LD+JSON; charset=UTF-8",
            "application/td+json;charset=\"utf-8\"",
            "application/td+json; profile=x",
        ] {
            assert!(judge(&[said]), "{said}");
        }
        for said in [
            "",
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/td+json; charset=utf-7",
            "application/td+jsonx",
        ] {
            assert!(!judge(&[said]), "{said}");
        }
        assert!(!judge(&[]) && !judge(&["application/json", "application/json"]));
    }
}
