//! Both ways: what Rust writes the schemas accept, and what the schemas accept Rust reads.
use crate::strict::any_json;
use proptest::prelude::*;
use serde_json::{Map, Value};
use telltale_schemas::{
    Command, Derivation, Document, Envelope, Event, Flag, Kind, Observation, Outcome, Quarantine, RawSeq,
    Reading, Record, Registration, Timestamp, check,
    kinds::{Change, Fault, State},
    thing::{Entry, Policy, Property, Registered, ValueType},
    units,
};

fn any_time() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_000_000_i64..=253_402_300_799_999_999)
        .prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

fn any_rawseq() -> impl Strategy<Value = RawSeq> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, seq)| RawSeq { epoch, seq })
}

fn any_number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("JSON has no others", |v| v.is_finite())
}

fn any_record() -> impl Strategy<Value = Record> {
    let value = prop_oneof![
        any_number().prop_map(|v| Record {
            v: Some(v),
            ..Record::default()
        }),
        ".{0,20}".prop_map(|vs| Record {
            vs: Some(vs),
            ..Record::default()
        }),
        any::<bool>().prop_map(|vb| Record {
            vb: Some(vb),
            ..Record::default()
        }),
        "[A-Za-z0-9_-]{0,20}".prop_map(|vd| Record {
            vd: Some(vd),
            ..Record::default()
        }),
        any_number().prop_map(|s| Record {
            s: Some(s),
            ..Record::default()
        }),
        prop::option::of(".{0,9}").prop_map(|sentinel| {
            let mut record = Record::default();
            record.missing(sentinel);
            record
        }),
    ];
    let flag = prop::option::of(prop::sample::select(vec![
        Flag::Pass,
        Flag::NotEvaluated,
        Flag::Suspect,
        Flag::Fail,
    ]));
    let rest = (
        "[A-Za-z0-9:./_-]{1,128}",
        prop::option::of(prop::sample::select(units::PRIMARY)),
        prop::option::of(any_number()),
        prop::option::of(any_number()),
        flag,
    );
    (value, rest).prop_map(|(value, (n, u, t, ut, flag))| Record {
        n,
        u: u.map(str::to_owned),
        t,
        ut,
        q: value.q.or(flag),
        ..value
    })
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(any_record(), 1..6)
}

fn any_members() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-z]{4,9}x", any_json(), 0..3)
        .prop_map(|members| members.into_iter().collect())
}

fn any_name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,30}"
}

fn any_command() -> impl Strategy<Value = Command> {
    let (priority, start) = (prop::option::of(0..10u8), prop::option::of(any_time()));
    (any_name(), any_json(), priority, start).prop_map(|(name, input, priority, start)| Command {
        name,
        input,
        priority,
        start,
    })
}

fn any_property() -> impl Strategy<Value = Property> {
    let kinds = vec![
        ValueType::Number,
        ValueType::Integer,
        ValueType::String,
        ValueType::Boolean,
    ];
    (
        prop::option::of(prop::sample::select(kinds)),
        prop::option::of(prop::sample::select(vec!["Cel", "°C", "%", "km/h", "µg/m³"])),
        prop::option::of(-1e9..0.0),
        prop::option::of(0.0..1e9),
        prop::collection::vec(any::<i32>().prop_map(Value::from), 0..3),
        prop::collection::vec("[a-z]{1,9}".prop_map(Value::from), 0..3),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(kind, unit, minimum, maximum, missing, values, (read_only, write_only))| Property {
                kind,
                unit: unit.map(str::to_owned),
                minimum,
                maximum,
                exclusive_minimum: minimum,
                exclusive_maximum: maximum,
                values,
                read_only,
                write_only,
                missing,
                quality: None,
            },
        )
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let duration = || prop::option::of("[1-9][0-9]{0,3}(ms|s|m|h|d)");
    let properties = prop::collection::btree_map("[A-Za-z0-9:./_-]{1,20}", any_property(), 0..4);
    let policy = (
        duration(),
        duration(),
        prop::option::of(0.001..1e6),
        any::<(bool, bool)>(),
        properties,
    )
        .prop_map(
            |(late, ahead, interval, (sequenced, declared), properties)| Policy {
                late,
                ahead,
                interval,
                sequenced,
                declared,
                properties,
            },
        );
    let registration =
        (any_time(), any_time(), prop::option::of(0.0..1e9)).prop_map(|(created, modified, ttl)| {
            Registered {
                created,
                modified,
                expires: ttl.map(|_| modified),
                ttl,
            }
        });
    (
        any_name(),
        policy,
        any_members(),
        prop::option::of(any_members().prop_map(Value::from)),
        prop::option::of(registration),
    )
        .prop_map(|(thing, policy, annotation, td, registration)| Entry {
            thing,
            policy,
            annotation,
            td,
            registration,
        })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    use State::{Acknowledged, Cancelled, Expired, Failed, Queued, Sent, Succeeded, Unknown};
    let states = vec![
        Queued,
        Sent,
        Acknowledged,
        Succeeded,
        Failed,
        Expired,
        Cancelled,
        Unknown,
    ];
    (
        ".{1,40}",
        any_name(),
        prop::sample::select(states),
        any_json(),
        prop::option::of(".{0,40}"),
        prop::option::of(any_command()),
    )
        .prop_map(|(command, name, state, output, problem, request)| Outcome {
            command,
            name,
            state,
            output,
            problem,
            request,
        })
}

fn any_registration() -> impl Strategy<Value = Registration> {
    (
        any::<u64>(),
        any_entry(),
        prop::sample::select(Change::ALL.to_vec()),
        prop::option::of(any_name()),
        any_members(),
    )
        .prop_map(|(revision, entry, change, by, detail)| Registration {
            change,
            revision,
            entry: (!change.ends() && !change.is_presence()).then(|| Box::new(entry)),
            by,
            detail,
        })
}

fn any_quarantine() -> impl Strategy<Value = Quarantine> {
    let fault = ("(/[^/]{0,5}){0,3}", ".{0,20}").prop_map(|(pointer, message)| Fault::at(pointer, message));
    (
        (
            any_name(),
            "[a-z0-9_]{1,20}",
            prop::collection::vec(fault, 0..3),
            any::<u32>(),
        ),
        (
            ".{0,40}",
            prop::collection::vec((".{0,9}", ".{0,9}"), 0..3),
            "[A-Za-z0-9+/]{0,40}",
            "[0-9a-f]{64}",
        ),
        prop::option::of(any_time()),
    )
        .prop_map(
            |((stage, reason, errors, attempts), (original, headers, payload, sha256), received)| {
                Quarantine {
                    stage,
                    reason,
                    errors,
                    attempts,
                    generation: attempts % 3,
                    original,
                    headers,
                    payload,
                    sha256,
                    received,
                }
            },
        )
}

fn any_envelope<D: Document + std::fmt::Debug>(
    data: impl Strategy<Value = D>,
) -> impl Strategy<Value = Envelope<D>> {
    let text = || prop::option::of("[!-~]{1,40}");
    let times = (
        any_time(),
        prop::option::of(any_time()),
        prop::option::of(any_time()),
    );
    let texts = (
        text(),
        text(),
        text(),
        text(),
        prop::option::of("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
    );
    let names = ("[^\\x00-\\x1f\\x7f]{1,100}", any_name(), "[A-Za-z0-9-]{1,20}");
    (data, names, times, prop::option::of(any_rawseq()), texts).prop_map(
        |(data, (id, thing, site), (time, recordedtime, expirytime), rawseq, texts)| Envelope {
            recordedtime,
            relativetime: rawseq.is_some() && recordedtime.is_some(),
            rawseq,
            protocol: texts.0,
            publisher: texts.1,
            causationid: texts.2,
            correlationid: texts.3,
            traceparent: texts.4,
            expirytime,
            ..Envelope::new(id, format!("/{site}/stage"), thing, time, data)
        },
    )
}

/// Rust to schema and back; then the same document with something changed: what the schema accepts, Rust reads.
fn assert_agreement<D: Document + PartialEq + std::fmt::Debug>(
    message: &Envelope<D>,
    change: &Mutation,
) -> Result<(), TestCaseError> {
    let mut document = serde_json::to_value(message).unwrap();
    prop_assert_eq!(check::envelope(D::KIND, &document), vec![]);
    prop_assert_eq!(check::message(&document), vec![]);
    let back: Envelope<D> = serde_json::from_str(&document.to_string()).unwrap();
    prop_assert_eq!(&back, message);
    change.apply(&mut document);
    if check::envelope(D::KIND, &document).is_empty() {
        let read = serde_json::from_value::<Envelope<D>>(document.clone());
        prop_assert!(read.is_ok(), "{:?} in {}", read, document);
    }
    Ok(())
}

/// A change to some member of a document.
#[derive(Debug, Clone)]
struct Mutation {
    at: prop::sample::Index,
    to: Option<Value>,
}

fn any_change() -> impl Strategy<Value = Mutation> {
    // No `1.0`, which JSON Schema counts as an integer and serde does not.
    let value = any_json().prop_filter("whole numbers without a point", |value| {
        !value
            .as_f64()
            .is_some_and(|number| value.is_f64() && number.fract() == 0.0)
    });
    (any::<prop::sample::Index>(), prop::option::of(value)).prop_map(|(at, to)| Mutation { at, to })
}

impl Mutation {
    fn apply(&self, document: &mut Value) {
        let mut pointers = Vec::new();
        collect(document, &mut String::new(), &mut pointers);
        let pointer = &pointers[self.at.index(pointers.len())];
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let member = member.replace("~1", "/").replace("~0", "~");
        match (document.pointer_mut(parent).unwrap(), self.to.clone()) {
            (Value::Object(members), Some(value)) => {
                members.insert(member, value);
            }
            (Value::Object(members), None) => {
                members.remove(&member);
            }
            (Value::Array(items), Some(value)) => items[member.parse::<usize>().unwrap()] = value,
            (Value::Array(items), None) => {
                items.remove(member.parse::<usize>().unwrap());
            }
            (other, _) => panic!("{other} has no members"),
        }
    }
}

fn collect(value: &Value, at: &mut String, pointers: &mut Vec<String>) {
    let mut visit = |segment: String, child: &Value| {
        let length = at.len();
        at.push('/');
        at.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        pointers.push(at.clone());
        collect(child, at, pointers);
        at.truncate(length);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, child)| visit(key.clone(), child)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, child)| visit(i.to_string(), child)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn readings_agree(message in any_envelope(any_records().prop_map(|records| Reading { records })), change in any_change()) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn observations_agree(
        message in any_envelope((any_records(), any_members()).prop_map(|(records, annotation)| Observation { records, annotation })),
        change in any_change()
    ) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn derivations_agree(
        message in any_envelope((any_records(), prop::option::of(".{1,20}")).prop_map(|(records, rule)| Derivation { records, rule })),
        change in any_change()
    ) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn events_agree(
        message in any_envelope((any_name(), any_members()).prop_map(|(name, detail)| Event { name, detail })),
        change in any_change()
    ) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn commands_agree(message in any_envelope(any_command()), change in any_change()) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn outcomes_agree(message in any_envelope(any_outcome()), change in any_change()) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn registrations_agree(message in any_envelope(any_registration()), change in any_change()) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn quarantines_agree(message in any_envelope(any_quarantine()), change in any_change()) {
        assert_agreement(&message, &change)?;
    }

    #[test]
    fn entries_agree(entry in any_entry(), change in any_change()) {
        let mut document = serde_json::to_value(&entry).unwrap();
        prop_assert_eq!(check::thing_entry(&document), vec![]);
        prop_assert_eq!(&serde_json::from_value::<Entry>(document.clone()).unwrap(), &entry);
        change.apply(&mut document);
        if check::thing_entry(&document).is_empty() {
            prop_assert!(serde_json::from_value::<Entry>(document).is_ok());
        }
    }

    #[test]
    fn a_time_is_read_as_it_was_written(time in any_time()) {
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        prop_assert_eq!(Timestamp::from_offset(time.to_offset()), time);
        let text = serde_json::to_string(&time).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
    }

    #[test]
    fn a_time_of_this_age_survives_senmls_seconds(micros in 0_i64..7_258_118_400_000_000) {
        let time = Timestamp::from_micros(micros).unwrap();
        prop_assert_eq!(Timestamp::from_seconds(time.as_seconds()), Some(time));
    }

    #[test]
    fn a_rawseq_is_read_as_it_was_written(rawseq in any_rawseq()) {
        prop_assert_eq!(rawseq.to_string().parse(), Ok(rawseq));
    }

    #[test]
    fn any_text_is_a_rawseq_in_one_spelling_or_none(text in "[0-9+ -]{0,12}") {
        if let Ok(rawseq) = text.parse::<RawSeq>() {
            prop_assert_eq!(rawseq.to_string(), text);
        }
    }
}

#[test]
fn every_kind_has_a_property() {
    // The eight above; a ninth kind must not be forgotten there.
    assert_eq!(Kind::ALL.len(), 8);
}
