//! Sets one value in a JSON text, and leaves every other byte as it is.
use super::pointed;
use serde_json::Value;

/// Why it cannot be set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpliceError {
    #[error("`{0}` is no JSON Pointer and value: write `/pointer=value`")]
    Unreadable(String),
    #[error("nothing is at `{0}`, and nothing that could have it is above it")]
    NoPlace(String),
}

/// `/pointer=value`; what is no JSON is a string.
pub(super) fn set(text: &str, change: &str) -> Result<String, SpliceError> {
    let unreadable = || SpliceError::Unreadable(change.to_owned());
    let (pointer, value) = change.split_once('=').ok_or_else(unreadable)?;
    if !pointer.starts_with('/') {
        return Err(unreadable());
    }
    let value = match serde_json::from_str::<Value>(value) {
        // As it was written: 1e400 and 1.0 stay what they are.
        Ok(_) => value.trim().to_owned(),
        Err(_) => Value::from(value).to_string(),
    };
    let no_place = || SpliceError::NoPlace(pointer.to_owned());
    if let Some(place) = pointed::find(text, pointer) {
        let (before, rest) = text.split_at_checked(place.start).ok_or_else(no_place)?;
        let (_, after) = rest.split_at_checked(place.len()).ok_or_else(no_place)?;
        return Ok(format!("{before}{value}{after}"));
    }
    // A new member of an object that is there.
    let (parent, name) = pointer.rsplit_once('/').ok_or_else(no_place)?;
    let place = if parent.is_empty() {
        let start = text.len() - text.trim_start().len();
        start..text.trim_end().len()
    } else {
        pointed::find(text, parent).ok_or_else(no_place)?
    };
    let object = text.get(place.clone()).ok_or_else(no_place)?;
    let members: serde_json::Map<String, Value> = serde_json::from_str(object).map_err(|_| no_place())?;
    let name = name.replace("~1", "/").replace("~0", "~");
    let comma = if members.is_empty() { "" } else { "," };
    let (before, after) = text.split_at_checked(place.end - 1).ok_or_else(no_place)?;
    Ok(format!("{before}{comma}{}:{value}{after}", Value::from(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_set_and_every_other_byte_stays() {
        let text = "{ \"a\": {\"b\":[1, \"cold\"]},\n  \"t\" : 1.50 }\n";
        for (change, expected) in [
            ("/a/b/1=-0.85", "{ \"a\": {\"b\":[1, -0.85]},\n  \"t\" : 1.50 }\n"),
            (
                "/t=warm=hot",
                "{ \"a\": {\"b\":[1, \"cold\"]},\n  \"t\" : \"warm=hot\" }\n",
            ),
            (
                "/a/c~1d=null",
                "{ \"a\": {\"b\":[1, \"cold\"],\"c/d\":null},\n  \"t\" : 1.50 }\n",
            ),
            (
                "/n=[]",
                "{ \"a\": {\"b\":[1, \"cold\"]},\n  \"t\" : 1.50 ,\"n\":[]}\n",
            ),
        ] {
            assert_eq!(set(text, change).as_deref(), Ok(expected), "{change}");
        }
        assert_eq!(set("{}", "/a=1").as_deref(), Ok("{\"a\":1}"));
    }

    #[test]
    fn what_has_no_place_is_not_set() {
        for (text, change) in [
            ("{}", "a=1"),
            ("{}", "/a"),
            ("{}", "/a/b=1"),
            ("[1]", "/7=1"),
            ("{\"a\":", "/b=1"),
            ("", "/a=1"),
        ] {
            assert!(set(text, change).is_err(), "{text} {change}");
        }
    }
}
