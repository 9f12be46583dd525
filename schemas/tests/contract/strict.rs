//! JSON from strangers: what is refused, for which reason and where.
use proptest::prelude::*;
use serde_json::{Value, json};
use telltale_schemas::{
    Refusal,
    strict::{self, DEVICE, Limits},
};

fn refused(text: impl AsRef<[u8]>) -> (&'static str, String) {
    let text = text.as_ref();
    match strict::parse(text, &DEVICE) {
        Ok(value) => panic!("{} is accepted as {value}", String::from_utf8_lossy(text)),
        Err(Refusal { reason, faults }) => (reason, faults[0].pointer.clone()),
    }
}

fn assert_refused(table: &[(&str, &str, &str)]) {
    for (text, reason, pointer) in table {
        assert_eq!(refused(text), (*reason, (*pointer).to_owned()), "{text}");
    }
}

#[test]
fn a_key_that_comes_twice_is_refused_wherever_and_however_it_is_spelt() {
    assert_refused(&[
        (r#"{"a":1,"a":1}"#, "duplicate_key", "/a"),
        (r#"{"data":{"n":1,"b":2,"\u006e":3}}"#, "duplicate_key", "/data/n"),
        (r#"[{"x":{"a/b":1,"a\/b":2}}]"#, "duplicate_key", "/0/x/a~1b"),
        (r#"{"":1,"":2}"#, "duplicate_key", "/"),
    ]);
}

#[test]
fn a_number_that_a_double_would_change_is_refused() {
    for number in [
        "1e400",
        "-1e400",
        "9007199254740993",
        "-9007199254740993",
        "9007199254740993.0",
        "18446744073709551615",
        "1e-400",
    ] {
        assert_eq!(
            refused(format!("[{number}]")),
            ("number", "/0".to_owned()),
            "{number}"
        );
    }
    assert_eq!(refused(format!(r#"{{"v":{}}}"#, "9".repeat(400))).0, "number");
    for number in [
        "NaN", "Infinity", "+1", "01", ".5", "1.", "1e", "0x10", "--1", "1_0",
    ] {
        assert_eq!(refused(format!(r#"{{"v":{number}}}"#)).0, "json", "{number}");
    }
}

#[test]
fn a_number_that_a_double_holds_is_kept() {
    for (text, value) in [
        ("9007199254740992", json!(9_007_199_254_740_992_u64)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
        ("-0", json!(-0.0)),
        ("0", json!(0)),
        ("-7", json!(-7)),
        ("0.1", json!(0.1)),
        ("1E+2", json!(100.0)),
        ("5e-324", json!(5e-324)),
        ("0e-999", json!(0.0)),
    ] {
        assert_eq!(strict::parse(text.as_bytes(), &DEVICE).expect(text), value);
    }
}

#[test]
fn depth_is_counted_in_containers() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(strict::parse(nested(32).as_bytes(), &DEVICE).is_ok());
    for levels in [33, 127, 128, 129, 100_000] {
        let (reason, pointer) = refused(nested(levels));
        assert_eq!((reason, pointer), ("depth", "/0".repeat(32)));
    }
    let (reason, pointer) = refused(r#"{"a":"#.repeat(100));
    assert_eq!((reason, pointer), ("depth", "/a".repeat(32)));
}

#[test]
fn bytes_are_counted_before_they_are_read() {
    let limits = Limits { bytes: 8, depth: 2 };
    assert!(strict::parse(b"[1,2,34]", &limits).is_ok());
    let refusal = strict::parse(b"[1,2,345]", &limits).unwrap_err();
    assert_eq!(refusal.reason, "size");
    let endless = format!("[{}0]", "0,".repeat(100_000));
    assert_eq!(refused(endless), ("records", "/16383".to_owned()));
}

#[test]
fn what_is_not_unicode_or_cannot_be_stored_is_refused() {
    assert_eq!(
        refused(b"{\"a\":{\"b\":\"\xc0\xa0\"}}"),
        ("utf8", "/a/b".to_owned())
    );
    assert_eq!(refused(b"\xff\xfe{\0}\0"), ("utf8", String::new()));
    assert_refused(&[
        ("\u{feff}{}", "json", ""),
        (r#"{"a":"\u0000"}"#, "json", "/a"),
        (r#"{"a\u0000b":1}"#, "json", ""),
        ("{\"a\":\"\0\"}", "json", "/a"),
        (r#"{"a":"\ud800"}"#, "json", "/a"),
        (r#"{"a":"\udc00"}"#, "json", "/a"),
        (r#"{"a":"\ud800\u0041"}"#, "json", "/a"),
        (r#"{"a":"\ud800\n"}"#, "json", "/a"),
    ]);
}

#[test]
fn what_is_not_json_is_refused_in_its_place() {
    assert_refused(&[
        ("", "json", ""),
        ("  ", "json", ""),
        ("{", "json", ""),
        (r#"{"a":1} {}"#, "json", ""),
        (r#"{"a":1,}"#, "json", ""),
        ("[1,2,]", "json", "/2"),
        (r#"{"a":tru}"#, "json", "/a"),
        (r#"{"a":1 /* one */}"#, "json", ""),
        ("{'a':1}", "json", ""),
        ("{\"a\":\"line\nbreak\"}", "json", "/a"),
        (r#"{"a":"\x41"}"#, "json", "/a"),
        (r#"{"a" 1}"#, "json", "/a"),
    ]);
}

#[test]
fn a_document_cut_anywhere_is_refused() {
    let text = r#"{"a":[1.5e3,true,null,"é\n\ud83d\ude00"],"b":{"c":false}}"#;
    assert!(strict::parse(text.as_bytes(), &DEVICE).is_ok());
    for end in 0..text.len() {
        let reason = refused(&text.as_bytes()[..end]).0;
        assert!(reason == "json" || reason == "utf8", "cut at {end}: {reason}");
    }
}

#[test]
fn an_endless_key_is_not_repeated_in_the_refusal() {
    let key = "k".repeat(200_000);
    let text = format!(r#"{{"{key}":1,"{key}":2}}"#);
    let refusal = strict::parse(
        text.as_bytes(),
        &Limits {
            bytes: 1 << 20,
            depth: 4,
        },
    )
    .unwrap_err();
    assert_eq!(refusal.reason, "duplicate_key");
    assert!(refusal.to_string().len() < 400);
}

/// Any JSON document of a moderate size, with numbers of all kinds.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (0..=1_u64 << 53).prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |v| v.is_finite())
            .prop_map(Value::from),
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,8}", inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_alike(value in any_json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(strict::parse(text.as_bytes(), &DEVICE).unwrap(), value.clone());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees(&bytes)?;
    }

    #[test]
    fn almost_json_is_read_as_serde_json_reads_it_or_refused_for_a_stated_reason(
        text in r#"[\[\]{},:"\\u0-9eE.+\-tfn rualse]{0,40}"#
    ) {
        agrees(text.as_bytes())?;
    }

    #[test]
    fn json_with_one_byte_changed_is_read_as_serde_json_reads_it_or_refused_for_a_stated_reason(
        value in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        agrees(&bytes)?;
    }
}

fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (
        strict::parse(bytes, &DEVICE),
        serde_json::from_slice::<Value>(bytes),
    ) {
        (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
        (Ok(ours), Err(error)) => prop_assert!(false, "{} is accepted, but {}", ours, error),
        (Err(refusal), Ok(_)) => {
            // Broader than serde_json on purpose.
            let is_ours = matches!(refusal.reason, "duplicate_key" | "number")
                || refusal.faults[0].message.contains("U+0000");
            prop_assert!(is_ours, "{} is refused", refusal);
        }
        (Err(refusal), Err(_)) => prop_assert!(!refusal.faults.is_empty()),
    }
    Ok(())
}
