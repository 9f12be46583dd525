//! For any stream: what comes in any order is given in its own, once, and the same however often the clock is looked at.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use telltale_process::{
    Heard,
    order::{Order, Turn},
};
use telltale_runtime::Delivery;
use telltale_schemas::{Envelope, Observation, Timestamp};

const LATENESS: i64 = 2_000_000;
/// How long after its last reading somebody waits for a silent thing.
const PATIENCE: i64 = 3_000_000;
const EPOCH: i64 = 1_768_003_200_000_000;

/// One message: its thing, when it was measured before it was stored, and how long after the one before it was stored;
/// all in milliseconds.
type Step = (u8, i64, i64);

fn stream() -> impl Strategy<Value = Vec<Step>> {
    let ages = prop_oneof![3 => 0..1_000_i64, 2 => 0..6_000_i64];
    prop::collection::vec((0..3_u8, ages, 0..700_i64), 1..60)
}

fn heard(steps: &[Step]) -> Vec<Heard> {
    let mut stored = EPOCH;
    let steps = steps.iter().enumerate();
    steps
        .map(|(n, (thing, age, after))| {
            stored += after * 1_000;
            // To the second, so that some have the same.
            let time = Timestamp::from_micros((stored - age * 1_000) / 1_000_000 * 1_000_000).unwrap();
            let envelope: Envelope<Observation> = serde_json::from_value(serde_json::json!({
                "specversion": "1.0", "id": format!("{thing}:{:02}", n * 37 % 60), "subject": thing.to_string(),
                "type": "telltale.observation.v1", "source": "/site/annotate", "time": time,
                "data": {"records": [], "annotation": {}}
            }))
            .unwrap();
            Heard {
                cause: Arc::new(Delivery::of(envelope).cause),
                stored: Timestamp::from_micros(stored).unwrap(),
                records: Vec::new(),
                annotation: serde_json::Map::default(),
                rule: None,
            }
        })
        .collect()
}

fn turns(order: &mut Order, now: Timestamp, all: &mut Vec<Turn>) {
    while let Some(turn) = order.next(now) {
        if let Turn::InOrder(heard) = &turn {
            let moment = heard.cause.time.plus_micros(PATIENCE);
            order.wait(heard.thing(), Some(moment), LATENESS);
        }
        all.push(turn);
    }
}

/// All turns of a stream. The clock is looked at before every message, and in between where `looks` says so; what the
/// order remembers is kept and taken up again where `restarts` does.
fn run(stream: &[Heard], looks: &[bool], restarts: &[bool]) -> Vec<Turn> {
    let (mut order, mut all) = (Order::default(), Vec::new());
    for (n, heard) in stream.iter().enumerate() {
        if looks.get(n).copied().unwrap_or_default() {
            turns(&mut order, heard.stored.plus_micros(-1), &mut all);
        }
        turns(&mut order, heard.stored, &mut all);
        all.extend(order.take(heard.clone(), LATENESS));
        if restarts.get(n).copied().unwrap_or_default() {
            order = rmp_serde::from_slice(&rmp_serde::to_vec_named(&order).unwrap()).unwrap();
        }
    }
    let last = stream.last().unwrap().stored;
    turns(&mut order, last.plus_micros(60_000_000), &mut all);
    assert!(!order.waits());
    all
}

proptest! {
    #[test]
    fn each_reading_is_given_once_and_in_order_or_late_for_a_reason(steps in stream()) {
        let stream = heard(&steps);
        let mut given: BTreeMap<String, u32> = BTreeMap::new();
        let mut last: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
        for turn in run(&stream, &[], &[]) {
            match turn {
                Turn::InOrder(heard) => {
                    *given.entry(heard.cause.id.clone()).or_default() += 1;
                    let key = (heard.cause.time, heard.cause.id.clone());
                    let before = last.insert(heard.thing().to_owned(), key.clone());
                    prop_assert!(before.is_none_or(|before| before < key));
                }
                Turn::Late(heard) => {
                    *given.entry(heard.cause.id.clone()).or_default() += 1;
                    let key = (heard.cause.time, &heard.cause.id);
                    let is_late = stream.iter().any(|other| {
                        other.thing() == heard.thing()
                            && (other.cause.time, &other.cause.id) > key
                            && other.stored.plus_micros(LATENESS) <= heard.stored
                    });
                    prop_assert!(is_late, "{heard:?}");
                }
                Turn::Silence(thing, until) => {
                    prop_assert!(last[&thing].0.plus_micros(PATIENCE) == until);
                }
            }
        }
        prop_assert_eq!(given.len(), stream.len());
        prop_assert!(given.values().all(|count| *count == 1));
    }

    #[test]
    fn neither_looks_at_the_clock_nor_restarts_change_anything(
        steps in stream(),
        looks in prop::collection::vec(any::<bool>(), 60),
        restarts in prop::collection::vec(any::<bool>(), 60),
    ) {
        let stream = heard(&steps);
        prop_assert_eq!(run(&stream, &[], &[]), run(&stream, &looks, &restarts));
    }
}
