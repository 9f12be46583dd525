//! JSON values as parameters of a statement: sent as text, so that PostgreSQL reads them as whatever type it expects.
use bytes::BytesMut;
use serde_json::Value;
use std::error::Error;
use telltale_schemas::kinds::Fault;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type};

/// A value in PostgreSQL's text form.
#[derive(Debug)]
pub(super) struct Text(Option<String>);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match &self.0 {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The values for parameters of these types.
pub(super) fn texts(values: &[Value], types: &[Type]) -> Result<Vec<Text>, Fault> {
    if values.len() != types.len() {
        let message = format!("{} values for {} parameters", values.len(), types.len());
        return Err(Fault::at("/params", message));
    }
    let all = values.iter().zip(types).enumerate();
    all.map(|(at, (value, kind))| {
        text(value, kind)
            .map(Text)
            .map_err(|message| Fault::at(format!("/params/{at}"), message))
    })
    .collect()
}

fn text(value: &Value, kind: &Type) -> Result<Option<String>, String> {
    let is_json = [Type::JSON, Type::JSONB].contains(kind);
    Ok(Some(match (value, kind.kind()) {
        (Value::Null, _) => return Ok(None),
        (value, _) if is_json => value.to_string(),
        (Value::String(text), _) => text.clone(),
        (Value::Array(items), Kind::Array(of)) => array(items, of)?,
        (Value::Array(_) | Value::Object(_), _) => return Err(format!("a value for `{kind}` is expected")),
        (other, _) => other.to_string(),
    }))
}

/// `{"a",NULL}`.
fn array(items: &[Value], of: &Type) -> Result<String, String> {
    let mut literal = String::from("{");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            literal.push(',');
        }
        match text(item, of)? {
            None => literal.push_str("NULL"),
            Some(text) => {
                literal.push('"');
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        literal.push('\\');
                    }
                    literal.push(c);
                }
                literal.push('"');
            }
        }
    }
    literal.push('}');
    Ok(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_written_as_postgresql_reads_it() {
        for (value, kind, expected) in [
            (json!(null), Type::TEXT, None),
            (json!("a"), Type::TEXT, Some("a")),
            (
                json!("2026-01-15T07:41:09Z"),
                Type::TIMESTAMPTZ,
                Some("2026-01-15T07:41:09Z"),
            ),
            (json!(1.5), Type::FLOAT8, Some("1.5")),
            (json!(true), Type::BOOL, Some("true")),
            (json!({"a": [1]}), Type::JSONB, Some("{\"a\":[1]}")),
            (json!("a"), Type::JSONB, Some("\"a\"")),
            (
                json!(["a", "b\"\\", null]),
                Type::TEXT_ARRAY,
                Some("{\"a\",\"b\\\"\\\\\",NULL}"),
            ),
        ] {
            assert_eq!(text(&value, &kind).unwrap().as_deref(), expected, "{value}");
        }
        assert!(text(&json!([1]), &Type::INT4).is_err());
        assert!(text(&json!({}), &Type::TEXT).is_err());
    }

    #[test]
    fn a_value_too_many_or_too_few_is_told() {
        assert_eq!(texts(&[json!(1)], &[]).unwrap_err().pointer, "/params");
        assert_eq!(
            texts(&[json!([1])], &[Type::INT4]).unwrap_err().pointer,
            "/params/0"
        );
    }
}
