//! Each thing's readings in the order in which they were measured.
//!
//! A reading waits for those that were measured before it and are still on their way: `lateness` after the broker stored
//! it, it is due, and with it everything of its thing that was measured before. What comes after that is late. The
//! clock is the broker's storing time, so that the same stream is always put into the same order.
use crate::heard::Heard;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry};
use telltale_schemas::Timestamp;

/// By time, then by id.
type Key = (Timestamp, String);

/// What the clock brings.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Turn {
    /// The next reading of its thing.
    InOrder(Heard),
    /// It is older than what its thing was given already.
    Late(Heard),
    /// Nothing older than this moment comes of that thing any more, though it says nothing.
    Silence(String, Timestamp),
}

impl Turn {
    /// The thing whose turn it is.
    pub fn thing(&self) -> &str {
        match self {
            Self::InOrder(heard) | Self::Late(heard) => heard.thing(),
            Self::Silence(thing, _) => thing,
        }
    }
}

/// All things.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    things: BTreeMap<String, Thing>,
    /// When each reading that waits is due; in the order of the stream, so the first is due first.
    due: VecDeque<(Timestamp, String, Key)>,
    /// When a silent thing's next moment has come, by the clock.
    moments: BTreeSet<(Timestamp, String)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Thing {
    waiting: BTreeMap<String, Heard>,
    /// The last one that was given.
    given: Option<Key>,
    /// When that one was stored.
    stored: Option<Timestamp>,
    /// The moment that somebody waits for, and when it has come by the clock.
    moment: Option<(Timestamp, Timestamp)>,
}

/// Sorts as the key does: microseconds with their sign first, of one width.
fn sorted(key: &Key) -> String {
    format!("{:020}{}", i128::from(key.0.as_micros()) + (1_i128 << 63), key.1)
}

fn key_of(heard: &Heard) -> Key {
    (heard.cause.time, heard.cause.id.clone())
}

impl Order {
    /// Takes one up; the same one, published twice, is taken once. A late one is a turn of its own, at once.
    pub fn take(&mut self, heard: Heard, lateness: i64) -> Option<Turn> {
        let key = key_of(&heard);
        let name = heard.thing().to_owned();
        let thing = self.things.entry(name.clone()).or_default();
        match &thing.given {
            Some(given) if *given == key => return None,
            Some(given) if *given > key => return Some(Turn::Late(heard)),
            _ => {}
        }
        if let Entry::Vacant(place) = thing.waiting.entry(sorted(&key)) {
            let due = heard.stored.plus_micros(lateness);
            place.insert(heard);
            self.due.push_back((due, name, key));
        }
        None
    }

    /// What is next by that time, if anything is. Whoever takes a turn says at once what it waits for
    /// ([`Order::wait`]), then asks again.
    pub fn next(&mut self, now: Timestamp) -> Option<Turn> {
        loop {
            let due = self.due.front().map(|(at, ..)| *at).filter(|at| *at <= now);
            let moment = self.moments.first().map(|(at, _)| *at).filter(|at| *at <= now);
            match (due, moment) {
                (None, None) => return None,
                (Some(due), Some(moment)) if moment < due => return self.silence(),
                (None, Some(_)) => return self.silence(),
                (Some(_), _) => {
                    if let Some(heard) = self.release() {
                        return Some(Turn::InOrder(heard));
                    }
                }
            }
        }
    }

    /// One reading of the thing whose turn it is; the turn ends with the one that was due.
    fn release(&mut self) -> Option<Heard> {
        let (_, name, key) = self.due.front()?;
        let thing = self.things.get_mut(name)?;
        let until = sorted(key);
        let first = thing.waiting.first_entry().filter(|first| *first.key() <= until);
        let Some(first) = first else {
            // It was given before its time, with one that was measured later.
            self.due.pop_front();
            return None;
        };
        let heard = first.remove();
        thing.given = Some(key_of(&heard));
        thing.stored = Some(heard.stored);
        Some(heard)
    }

    fn silence(&mut self) -> Option<Turn> {
        let (_, name) = self.moments.pop_first()?;
        let thing = self.things.get_mut(&name)?;
        let (moment, _) = thing.moment.take()?;
        Some(Turn::Silence(name, moment))
    }

    /// Somebody waits for that moment in that thing's time; `None` for nobody. Its time goes on with the clock while
    /// it says nothing: what was measured `t` after the last reading would be stored `t` after it.
    pub fn wait(&mut self, name: &str, moment: Option<Timestamp>, lateness: i64) {
        let Some(thing) = self.things.get_mut(name) else {
            return;
        };
        if let Some((_, at)) = thing.moment.take() {
            self.moments.remove(&(at, name.to_owned()));
        }
        let (Some(moment), Some((time, _)), Some(stored)) = (moment, &thing.given, thing.stored) else {
            return;
        };
        let ahead = moment.as_micros().saturating_sub(time.as_micros()).max(0);
        let at = stored.plus_micros(ahead.saturating_add(lateness));
        thing.moment = Some((moment, at));
        self.moments.insert((at, name.to_owned()));
    }

    /// Whether the clock alone may bring something.
    pub fn waits(&self) -> bool {
        !self.due.is_empty() || !self.moments.is_empty()
    }

    /// When the clock alone may bring something next.
    pub fn waits_until(&self) -> Option<Timestamp> {
        let due = self.due.front().map(|(at, ..)| *at);
        let moment = self.moments.first().map(|(at, _)| *at);
        [due, moment].into_iter().flatten().min()
    }

    /// Whether a turn of that thing is still to come.
    pub fn owes(&self, name: &str) -> bool {
        let thing = self.things.get(name);
        thing.is_some_and(|thing| !thing.waiting.is_empty() || thing.moment.is_some())
    }

    /// The thing is as one that was never heard of. Nothing of it is still to come ([`Order::owes`]).
    pub fn forget(&mut self, name: &str) {
        self.things.remove(name);
    }

    /// How many things there are.
    pub fn things(&self) -> usize {
        self.things.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use telltale_runtime::Delivery;
    use telltale_schemas::{Envelope, Observation, Record};

    const LATENESS: i64 = 2_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_seconds(1_768_000_000.0 + seconds).unwrap()
    }

    fn heard(thing: &str, time: f64, stored: f64) -> Heard {
        let envelope: Envelope<Observation> = serde_json::from_value(serde_json::json!({
            "specversion": "1.0", "id": format!("{thing}:{time}"), "type": "telltale.observation.v1",
            "source": "/site/annotate", "subject": thing, "time": at(time).to_string(),
            "data": {"records": [{"n": "x", "v": time}], "annotation": {}}
        }))
        .unwrap();
        let delivery = Delivery::of(envelope);
        Heard {
            cause: Arc::new(delivery.cause),
            stored: at(stored),
            records: vec![Record {
                v: Some(time),
                ..Record::named("x")
            }],
            annotation: serde_json::Map::default(),
            rule: None,
        }
    }

    fn times(order: &mut Order, now: f64) -> Vec<f64> {
        std::iter::from_fn(|| order.next(at(now)))
            .map(|turn| match turn {
                Turn::InOrder(heard) => heard.records[0].v.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_comes_within_the_lateness_is_put_in_order() {
        let mut order = Order::default();
        for (time, stored) in [(3.0, 10.0), (1.0, 10.5), (2.0, 11.0)] {
            assert_eq!(order.take(heard("a", time, stored), LATENESS), None);
        }
        assert_eq!(times(&mut order, 11.9), Vec::<f64>::new());
        assert_eq!(times(&mut order, 12.0), [1.0, 2.0, 3.0]);
        assert!(order.waits(), "their own turns are still to come");
        assert_eq!(times(&mut order, 20.0), Vec::<f64>::new());
        assert!(!order.waits());
    }

    #[test]
    fn what_comes_later_is_late_and_what_comes_again_is_nothing() {
        let mut order = Order::default();
        order.take(heard("a", 3.0, 10.0), LATENESS);
        assert_eq!(order.take(heard("a", 3.0, 10.1), LATENESS), None);
        assert_eq!(times(&mut order, 12.5), [3.0]);
        assert_eq!(
            order.take(heard("a", 3.0, 13.0), LATENESS),
            None,
            "the same again"
        );
        assert!(order.take(heard("a", 2.0, 13.0), LATENESS).is_some(), "late");
        assert!(
            order.take(heard("b", 2.0, 13.0), LATENESS).is_none(),
            "another thing"
        );
    }

    #[test]
    fn a_silent_thing_s_time_goes_on_with_the_clock() {
        let mut order = Order::default();
        order.take(heard("a", 3.0, 10.0), LATENESS);
        assert_eq!(times(&mut order, 12.0), [3.0]);
        order.wait("a", Some(at(33.0)), LATENESS);
        assert_eq!(order.next(at(41.9)), None);
        assert_eq!(order.next(at(42.0)), Some(Turn::Silence("a".into(), at(33.0))));
        assert_eq!(order.next(at(99.0)), None, "once");
        order.wait("a", Some(at(34.0)), LATENESS);
        order.wait("a", None, LATENESS);
        assert!(!order.waits());
    }

    #[test]
    fn the_order_is_the_same_whenever_the_clock_is_looked_at() {
        let stream: Vec<_> = (0..400)
            .map(|n: u32| {
                let mixed = f64::from(n.wrapping_mul(7_919) % 97) / 10.0;
                let stored = f64::from(n) / 10.0;
                heard(["a", "b", "c"][n as usize % 3], stored - mixed, stored)
            })
            .collect();
        let run = |looks: u32| {
            let (mut order, mut said) = (Order::default(), Vec::new());
            for (n, heard) in stream.iter().enumerate() {
                for look in (1..=looks).rev() {
                    let now = heard.stored.plus_micros(-i64::from(look) * 10_000);
                    said.extend(std::iter::from_fn(|| order.next(now)).map(|turn| format!("{turn:?}")));
                }
                said.extend(std::iter::from_fn(|| order.next(heard.stored)).map(|turn| format!("{turn:?}")));
                if let Some(late) = order.take(heard.clone(), LATENESS) {
                    said.push(format!("late {late:?}"));
                }
                if n == 200 {
                    let kept = rmp_serde::to_vec_named(&order).unwrap();
                    order = rmp_serde::from_slice(&kept).unwrap();
                }
            }
            said.extend(std::iter::from_fn(|| order.next(at(99.0))).map(|turn| format!("{turn:?}")));
            said
        };
        assert_eq!(run(0), run(9));
        assert!(
            run(0).iter().any(|line| line.starts_with("late")),
            "some are late"
        );
    }
}
