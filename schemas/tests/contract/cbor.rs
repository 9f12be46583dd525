//! SenML CBOR: the same packs give the same records, and nothing is believed before it has come.
use minicbor::Encoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use telltale_schemas::{Record, Timestamp, senml};

/// JSON labels in the order of CBOR's, which begin at -6 (RFC 8428, table 4).
const LABELS: [&str; 15] = [
    "bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd",
];

/// A JSON pack as SenML CBOR.
pub(super) fn encode(pack: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let entries = pack.as_array().unwrap();
    encoder.array(entries.len() as u64).unwrap();
    for entry in entries {
        let fields = entry.as_object().unwrap();
        encoder.map(fields.len() as u64).unwrap();
        for (label, value) in fields {
            match LABELS.iter().position(|known| known == label) {
                Some(index) => encoder.i64(i64::try_from(index).unwrap() - 6).unwrap(),
                None => encoder.str(label).unwrap(),
            };
            match value {
                Value::Bool(flag) => encoder.bool(*flag).unwrap(),
                Value::String(text) => encoder.str(text).unwrap(),
                Value::Number(number) => match number.as_i64() {
                    Some(whole) => encoder.i64(whole).unwrap(),
                    None => encoder.f64(number.as_f64().unwrap()).unwrap(),
                },
                other => panic!("{other} has no place here"),
            };
        }
    }
    encoder.into_writer()
}

fn resolve(bytes: &[u8]) -> Result<Vec<Record>, &'static str> {
    let now = Timestamp::from_seconds(1_498_780_179.0).unwrap();
    senml::resolve_cbor(bytes, now).map_err(|refusal| refusal.reason)
}

#[test]
fn cbor_and_json_of_one_pack_give_the_same_records() {
    let pack = json!([
        { "bn": "urn:dev:1/", "bt": 1_600_000_000, "bu": "Cel", "bver": 10, "n": "a", "v": 21.5, "other": "x" },
        { "n": "b", "vs": "text", "t": 1.5 },
        { "n": "c", "vb": true, "ut": 60 },
        { "n": "d", "v": 9_007_199_254_740_992_i64, "s": -2.25 },
    ]);
    let now = Timestamp::from_seconds(1_498_780_179.0).unwrap();
    assert_eq!(resolve(&encode(&pack)), Ok(senml::resolve(&pack, now).unwrap()));
}

#[test]
fn every_way_to_write_a_number_or_a_text_is_read() {
    // [{0: "a", 2: <value>}] with each value in hex.
    let value = |value: &[u8]| {
        let mut bytes = vec![0x81, 0xa2, 0x00, 0x61, b'a', 0x02];
        bytes.extend(value);
        resolve(&bytes).map(|records| records[0].v.unwrap())
    };
    assert_eq!(value(&[0xf9, 0x3c, 0x00]), Ok(1.0));
    assert_eq!(value(&[0xfa, 0x3f, 0xc0, 0, 0]), Ok(1.5));
    assert_eq!(value(&[0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), Ok(1.5));
    assert_eq!(value(&[0x38, 0x63]), Ok(-100.0));
    assert_eq!(value(&[0xc4, 0x82, 0x20, 0x18, 0xe7]), Ok(23.1));
    assert_eq!(
        value(&[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Ok(-18_446_744_073_709_551_616.0)
    );
    assert_eq!(value(&[0x1b, 0x00, 0x20, 0, 0, 0, 0, 0, 1]), Err("number"));
    assert_eq!(value(&[0xf9, 0x7c, 0x00]), Err("number"));
    assert_eq!(value(&[0xf9, 0x7e, 0x00]), Err("number"));
    assert_eq!(
        value(&[
            0xc4, 0x82, 0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
        ]),
        Err("number")
    );
    assert_eq!(value(&[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err("cbor"));
    // Indefinite array, map and text: [_ {_ 0: (_ "a", "b"), 8: h'deadbeef'}].
    let bytes = [
        0x9f, 0xbf, 0x00, 0x7f, 0x61, b'a', 0x61, b'b', 0xff, 0x08, 0x44, 0xde, 0xad, 0xbe, 0xef, 0xff, 0xff,
    ];
    let records = resolve(&bytes).unwrap();
    assert_eq!(
        (records[0].n.as_str(), records[0].vd.as_deref()),
        ("ab", Some("3q2-7w"))
    );
}

#[test]
fn bombs_are_refused_by_what_came_not_by_what_they_claim() {
    let deep = |byte: u8| {
        let mut bytes = vec![byte; 100_000];
        bytes.insert(0, 0x81);
        bytes
    };
    for (bytes, reason) in [
        (vec![0x9a, 0xff, 0xff, 0xff, 0xff], "cbor"),
        (vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "cbor"),
        (
            vec![0x81, 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "cbor",
        ),
        (
            vec![0x81, 0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "cbor",
        ),
        (deep(0x9f), "depth"),
        (deep(0x81), "depth"),
        (deep(0xc4), "cbor"),
        (vec![0xff], "cbor"),
        (vec![0x81, 0xff], "cbor"),
        (vec![0x9f], "cbor"),
        (vec![], "cbor"),
        (vec![0x80, 0x00], "cbor"),
        (vec![0x80], "records"),
        // {0: "a", 0: "b"}, then the same label as number and as text.
        (
            vec![0x81, 0xa2, 0x00, 0x61, b'a', 0x00, 0x61, b'b'],
            "duplicate_key",
        ),
        (
            vec![0x81, 0xa2, 0x00, 0x61, b'a', 0x61, b'n', 0x61, b'b'],
            "duplicate_key",
        ),
        (vec![0x81, 0xa1, 0x00, 0x61, 0xff], "cbor"),
        (vec![0x81, 0xa1, 0x00, 0x61, 0x00], "cbor"),
        (vec![0x81, 0xa1, 0x40, 0x00], "cbor"),
        (vec![0x81, 0xa2, 0x00, 0x61, b'a', 0x02, 0xf7], "cbor"),
        (vec![0x81, 0xa1, 0x20, 0x0b], "version"),
        (vec![0; 256 * 1024 + 1], "size"),
    ] {
        assert_eq!(
            resolve(&bytes),
            Err(reason),
            "{:02x?}",
            &bytes[..bytes.len().min(12)]
        );
    }
    let mut many = vec![0x99, 0x40, 0x01];
    many.extend(std::iter::repeat_n([0xa2, 0x00, 0x61, b'a', 0x02, 0x01], 0x4001).flatten());
    assert_eq!(resolve(&many), Err("records"));
}

#[test]
fn a_pack_cut_anywhere_is_refused() {
    let bytes = encode(&json!([{ "bn": "a", "v": 1.5, "u": "Cel", "t": 3 }, { "n": "b", "vs": "x" }]));
    for end in 0..bytes.len() {
        assert_eq!(resolve(&bytes[..end]), Err("cbor"), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = resolve(&bytes);
    }

    #[test]
    fn a_pack_with_one_byte_changed_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&json!([{ "bn": "a", "v": 1.5, "u": "Cel", "t": 3 }, { "n": "b", "vs": "x" }]));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _either = resolve(&bytes);
    }
}
