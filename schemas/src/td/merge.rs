//! JSON Merge Patch (RFC 7396): applying one, and finding the one that leads from a document to another.
use serde_json::{Map, Value};

/// The document that a patch makes of another: members of objects one by one, `null` takes away, anything else
/// replaces.
#[must_use]
pub fn patch(mut target: Value, patch: &Value) -> Value {
    apply(&mut target, patch);
    target
}

fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            apply(members.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// The patch that makes `old` into `new`; an empty object where nothing changed.
///
/// A merge patch cannot say that a member is `null` (RFC 7396 §1): one that is in `new` alone is left out.
pub fn diff(old: &Value, new: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return new.clone();
    };
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let mut changes: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
    for (name, now) in after {
        let change = match before.get(name) {
            Some(was) if was == now => continue,
            Some(was) if was.is_object() && now.is_object() => diff(was, now),
            // A whole that comes new is patched into nothing, so what is `null` in it is lost as well.
            _ => now.clone(),
        };
        if !change.is_null() {
            changes.insert(name.clone(), change);
        }
    }
    Value::Object(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The test cases of RFC 7396, appendix A: original, patch, result.
    fn cases() -> Vec<[Value; 3]> {
        let table = json!([
            [{"a": "b"}, {"a": "c"}, {"a": "c"}],
            [{"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}],
            [{"a": "b"}, {"a": null}, {}],
            [{"a": "b", "b": "c"}, {"a": null}, {"b": "c"}],
            [{"a": ["b"]}, {"a": "c"}, {"a": "c"}],
            [{"a": "c"}, {"a": ["b"]}, {"a": ["b"]}],
            [{"a": {"b": "c"}}, {"a": {"b": "d", "c": null}}, {"a": {"b": "d"}}],
            [{"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}],
            [["a", "b"], ["c", "d"], ["c", "d"]],
            [{"a": "b"}, ["c"], ["c"]],
            [{"a": "foo"}, null, null],
            [{"a": "foo"}, "bar", "bar"],
            [{"e": null}, {"a": 1}, {"e": null, "a": 1}],
            [[1, 2], {"a": "b", "c": null}, {"a": "b"}],
            [{}, {"a": {"bb": {"ccc": null}}}, {"a": {"bb": {}}}],
        ]);
        serde_json::from_value(table).unwrap()
    }

    #[test]
    fn the_cases_of_the_rfc_come_out_as_it_says() {
        for [original, change, wanted] in cases() {
            assert_eq!(
                patch(original.clone(), &change),
                wanted,
                "{original} patched with {change}"
            );
        }
    }

    #[test]
    fn the_difference_of_two_documents_makes_one_into_the_other() {
        let documents: Vec<Value> = cases()
            .into_iter()
            .flatten()
            .filter(|document| {
                // What a patch cannot say.
                !document.to_string().contains("null")
            })
            .collect();
        for old in &documents {
            for new in &documents {
                assert_eq!(&patch(old.clone(), &diff(old, new)), new, "from {old}");
            }
        }
    }

    #[test]
    fn a_difference_has_what_changed_and_no_more() {
        let old = json!({"title": "a", "properties": {"t": {"maximum": 60, "unit": "Cel"}, "u": {}}});
        let new = json!({"title": "a", "properties": {"t": {"maximum": 50, "unit": "Cel"}}, "base": "/"});
        assert_eq!(
            diff(&old, &new),
            json!({"properties": {"t": {"maximum": 50}, "u": null}, "base": "/"})
        );
        assert_eq!(diff(&old, &old), json!({}));
    }
}
