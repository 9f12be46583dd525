//! What a gateway sent for several things, taken apart.
use super::{EVENT, Place, SENML, at, event, number, received};
use serde_json::json;
use telltale_schemas::{Flag, Record, decode};

/// What a gateway's pack is split into.
type Split = Vec<(String, Vec<Record>)>;

pub(super) fn split(content_type: Option<&str>, payload: &str) -> Result<Split, Place> {
    decode::split(content_type, payload.as_bytes(), received())
        .map_err(|refusal| (refusal.reason, refusal.faults[0].pointer.clone()))
}

#[test]
fn a_gateways_pack_is_split_at_the_last_slash_or_colon() {
    let text = r#"[
        {"bn":"urn:dev:","bt":1768462860,"n":"1:a","v":1},
        {"n":"2/b","v":2},
        {"n":"1:c","v":3,"t":9},
        {"bn":"t3","v":4}
    ]"#;
    let at = |t: f64, record: Record| Record { t: Some(t), ..record };
    let wanted = vec![
        (
            "urn:dev:1".to_owned(),
            vec![
                at(1.768_462_86e9, number("a", 1.0)),
                at(1_768_462_869.0, number("c", 3.0)),
            ],
        ),
        ("urn:dev:2".to_owned(), vec![at(1.768_462_86e9, number("b", 2.0))]),
        ("t3".to_owned(), vec![at(1.768_462_86e9, number("value", 4.0))]),
    ];
    assert_eq!(split(SENML, text), Ok(wanted));
    let plain = split(None, r#"{"t1/a":1,"t2:b":null,"time":1768462860}"#).unwrap();
    assert_eq!(plain.len(), 2);
    assert_eq!(plain[1].1[0].q, Some(Flag::Missing));
    assert_eq!(plain[1].1[0].t, Some(1.768_462_86e9));
    let event = event(&json!({ "subject": "t9", "data": { "a": 1 } }));
    assert_eq!(
        split(EVENT, &event).unwrap(),
        [("t9".into(), vec![at(0.0, number("a", 1.0))])]
    );
    // What counts from the receipt still does: who decodes it again has to know.
    let told = r#"[{"n":"t1/a","v":1,"t":-5},{"n":"t2/b","v":2},{"n":"t1/c","v":3,"bt":1768462860}]"#;
    let times: Vec<_> = split(SENML, told)
        .unwrap()
        .into_iter()
        .flat_map(|(_, records)| records)
        .map(|record| record.t.unwrap())
        .collect();
    assert_eq!(times, [1_768_462_860.0, -5.0, 0.0]);
}

#[test]
fn one_bad_record_refuses_a_gateways_whole_pack() {
    for (text, reason, pointer) in [
        (r#"[{"n":"t1/a","v":1},{"n":"t1/b"}]"#, "senml", "/1"),
        (r#"[{"n":"t1/a","v":1},{"n":"t1/","v":1}]"#, "name", "/1/n"),
        (r#"{"t1/a":1,"b":2}"#, "name", "/b"),
        (r#"{"/a":1}"#, "name", "/~1a"),
        (r#"[{"n":"t1/a","v":1e400}]"#, "number", "/0/v"),
        (&event(&json!({ "data": { "b": 2 } })), "name", "/data/b"),
        (r#"{"t1/a":1,"time":5}"#, "time", "/t1~1a"),
    ] {
        assert_eq!(split(None, text), Err(at(reason, pointer)), "{text}");
    }
}
