//! The packs of RFC 8428 and what the working group resolved them to.
use crate::others;
use serde_json::Value;
use telltale_schemas::{Record, Timestamp, senml};

/// What the working group's files call now.
const NOW_SECONDS: f64 = 1_498_780_179.0;

fn read(folder: &std::path::Path, name: &str) -> Value {
    let text = std::fs::read(folder.join(name)).expect(name);
    serde_json::from_slice(&text).expect(name)
}

fn assert_near(got: Option<f64>, wanted: Option<&Value>, what: &str) {
    let wanted = wanted.and_then(Value::as_f64);
    match (got, wanted) {
        (None, None) => {}
        (Some(got), Some(wanted)) => {
            let error = (got - wanted).abs() / wanted.abs().max(1.0);
            assert!(error <= 1e-12, "{what}: {got} is not {wanted}");
        }
        _ => panic!("{what}: {got:?} is not {wanted:?}"),
    }
}

fn assert_same(records: &[Record], wanted: &Value, what: &str) {
    let wanted = wanted.as_array().expect("a resolved pack is an array");
    assert_eq!(records.len(), wanted.len(), "{what}");
    for (index, (record, wanted)) in records.iter().zip(wanted).enumerate() {
        let what = format!("{what}, record {index}");
        assert_eq!(Some(record.n.as_str()), wanted["n"].as_str(), "{what}");
        assert_eq!(record.u.as_deref(), wanted["u"].as_str(), "{what}");
        assert_eq!(record.vs.as_deref(), wanted["vs"].as_str(), "{what}");
        assert_eq!(record.vb, wanted["vb"].as_bool(), "{what}");
        assert_near(record.v, wanted.get("v"), &what);
        assert_near(record.t, wanted.get("t"), &what);
    }
}

#[test]
fn the_packs_of_the_rfc_resolve_to_the_expected_records() {
    let Some(folder) = others::set("senml") else {
        return;
    };
    let now = Timestamp::from_seconds(NOW_SECONDS).unwrap();
    for name in ["ex1", "ex2", "ex4", "ex5", "ex9", "ex12"] {
        let pack = read(&folder, &format!("{name}.json"));
        let wanted = read(&folder, &format!("{name}.gen.resolved.json"));
        let records = senml::resolve(&pack, now).expect(name);
        assert_same(&records, &wanted, name);
        let cbor = crate::cbor::encode(&pack);
        assert_eq!(
            senml::resolve_cbor(&cbor, now).expect(name),
            records,
            "{name} in CBOR"
        );
    }
}
