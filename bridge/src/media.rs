//! What a media type says before anything is decoded.

/// Longest media type that is carried along.
const MAX: usize = 128;

/// The body may be anything that `validate` can tell by its first byte: no type, or the one `curl -d` sends.
fn is_silent(content_type: Option<&str>) -> bool {
    content_type.map(essence).is_none_or(|media_type| {
        media_type.is_empty() || media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether readings of that type are decoded.
pub(crate) fn is_decoded(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|text| {
        text.len() <= MAX
            && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
            && telltale_schemas::decode::is_known(text)
    })
}

/// Whether an event may come as that type.
pub(crate) fn is_event(content_type: Option<&str>) -> bool {
    is_silent(content_type)
        || content_type.is_some_and(|text| {
            let is_json = ["application/json", "text/json"]
                .iter()
                .any(|json| essence(text).eq_ignore_ascii_case(json));
            is_json && is_decoded(content_type)
        })
}

/// Whether the body may be a CloudEvent, whose `id` is then the key. Cheap: it looks for one word.
pub(crate) fn may_be_cloudevent(content_type: Option<&str>, payload: &[u8]) -> bool {
    const WORD: &[u8] = b"\"specversion\"";
    let is_named =
        content_type.is_some_and(|text| essence(text).eq_ignore_ascii_case("application/cloudevents+json"));
    let is_object = || payload.trim_ascii_start().starts_with(b"{");
    is_named
        || (is_silent(content_type)
            && is_object()
            && payload.windows(WORD.len()).any(|window| window == WORD))
}
