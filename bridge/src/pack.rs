//! What a gateway sent for several things, written anew for each of them.
use crate::uplink::Refusal;
use serde_json::{Map, Value, json};
use telltale_schemas::{Flag, Record, kinds::Fault};

const SENML_JSON: &str = "application/senml+json";
const PLAIN_JSON: &str = "application/json";
/// The member of plain JSON that is no property.
const TIME: &str = "time";

/// A payload, with its media type, that `validate` decodes to exactly those records under that thing.
///
/// SenML, but where a value is missing: only plain JSON can say so, and it only comes from there, with one time
/// for all and without units.
pub(crate) fn write(thing: &str, mut records: Vec<Record>) -> Result<(&'static str, Vec<u8>), Refusal> {
    let document = if records.iter().any(|record| record.q == Some(Flag::Missing)) {
        (PLAIN_JSON, plain(thing, &records)?)
    } else {
        // `validate` takes the thing off again. A name outside of SenML's alphabet cannot stand there, and need
        // not: no property begins with it.
        if thing
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte))
        {
            for record in &mut records {
                record.n = format!("{thing}/{}", record.n);
            }
        }
        (SENML_JSON, json!(records))
    };
    let (media_type, value) = document;
    Ok((
        media_type,
        serde_json::to_vec(&value).expect("a JSON value is written without fail"),
    ))
}

fn plain(thing: &str, records: &[Record]) -> Result<Value, Refusal> {
    let mut members = Map::new();
    // Without one it is that of the receipt.
    if let Some(time) = records.first().and_then(|record| record.t).filter(|t| *t != 0.0) {
        members.insert(TIME.to_owned(), json!(time));
    }
    for record in records {
        if record.n == TIME {
            return Err(wrong(
                "name",
                format!("`{thing}/time`: `time` is the time of a plain JSON object"),
            ));
        }
        let value = match record {
            Record { v: Some(v), .. } => json!(v),
            Record { vb: Some(vb), .. } => json!(vb),
            Record { vs: Some(vs), .. } => json!(vs),
            _ => Value::Null,
        };
        members.insert(record.n.clone(), value);
    }
    Ok(Value::Object(members))
}

fn wrong(reason: &'static str, message: String) -> Refusal {
    Refusal::Invalid {
        reason,
        faults: vec![Fault::at("", message)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_schemas::{Timestamp, decode};

    #[test]
    fn what_is_written_for_a_thing_is_decoded_to_the_same_records() {
        let received = Timestamp::parse("2026-01-15T07:41:09.25Z").unwrap();
        for (pack, things) in [
            (
                r#"[{"bt":1768462869.5,"n":"a/t","u":"Cel","v":-0.5},{"n":"b/a","vs":"x"},{"n":"a/b","vb":true}]"#,
                2,
            ),
            (
                r#"[{"n":"urn:dev:1:t","u":"Cel","v":1,"s":2,"ut":3},{"n":"urn:dev:1:t","t":-5,"vd":"AA"}]"#,
                1,
            ),
            (r#"[{"n":"a","v":1},{"n":"a/a.b","v":2},{"n":"a/a","v":3}]"#, 1),
            (r#"{"a/t":1,"a/h":null,"b/t":"x","b/a":false}"#, 2),
            (r#"{"a/t":1,"b/t":2,"time":1768462869.123456}"#, 2),
            (
                r#"{"specversion":"1.0","id":"7","type":"x","source":"/x","subject":"Brücke","data":{"t":1}}"#,
                1,
            ),
            (
                r#"{"specversion":"1.0","id":"7","type":"x","source":"/x","subject":"Brücke","data":{"t":1,"h":null}}"#,
                1,
            ),
        ] {
            let parts = decode::split(None, pack.as_bytes(), received).unwrap();
            assert_eq!(parts.len(), things, "{pack}");
            for (thing, records) in parts {
                let (media_type, payload) = write(&thing, records.clone()).unwrap();
                let decoded = decode::decode(Some(media_type), &payload, Some(&thing), received).unwrap();
                assert_eq!(
                    decoded.is_relative,
                    media_type == SENML_JSON && records.iter().any(|record| record.t < Some(1e9)),
                    "{pack} {thing}"
                );
                let time = decoded.time.unwrap_or(received).as_seconds();
                let mut found = decoded.records;
                for record in &mut found {
                    record.t = record.t.or(Some(time));
                }
                let mut wanted = records;
                for record in &mut wanted {
                    record.t = record
                        .t
                        .map(|t| if t < 1e8 { received.as_seconds() + t } else { t });
                }
                assert_eq!(sorted(found), sorted(wanted), "{pack} {thing}");
            }
        }
    }

    fn sorted(mut records: Vec<Record>) -> Vec<Record> {
        records.sort_by(|a, b| a.n.cmp(&b.n).then(a.t.unwrap().total_cmp(&b.t.unwrap())));
        records
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut missing = Record {
            t: Some(1e9),
            ..Record::named("time")
        };
        missing.missing(None);
        assert!(write("a", vec![missing]).is_err());
    }
}
