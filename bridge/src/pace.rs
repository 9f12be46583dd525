//! How fast one thing may send: what it sends beyond is refused for now, so that the others do not wait behind it.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// So many seconds' worth may come at once.
const BURST_S: f64 = 2.0;
/// From so many things on, those that have been quiet are forgotten; they begin anew with all they are due.
const KNOWN_MAX: usize = 20_000;

/// What each thing may still send, by its name.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Messages a second; 0 for any number.
    rate: u32,
    known: Mutex<HashMap<String, Due>>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    messages: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            known: Mutex::default(),
        }
    }

    /// Whether that thing may send one more.
    pub(crate) fn lets(&self, thing: &str, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        let rate = f64::from(self.rate);
        let most = rate * BURST_S;
        let grown = |due: &Due| {
            let passed = now.saturating_duration_since(due.at).as_secs_f64();
            passed.mul_add(rate, due.messages).min(most)
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, due| grown(due) < most);
        }
        let messages = known.get(thing).map_or(most, grown);
        let lets = messages >= 1.0;
        let messages = if lets { messages - 1.0 } else { messages };
        let due = Due { messages, at: now };
        match known.get_mut(thing) {
            Some(place) => *place = due,
            None => {
                known.insert(thing.to_owned(), due);
            }
        }
        lets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_thing_that_floods_is_held_to_its_rate_and_no_other_is() {
        let (pace, begun) = (Pace::new(100), Instant::now());
        let sends = |thing: &str, count: usize, at: Duration| {
            (0..count).filter(|_| pace.lets(thing, begun + at)).count()
        };
        assert_eq!(sends("noisy", 1_000, Duration::ZERO), 200, "a burst");
        assert_eq!(sends("quiet", 10, Duration::ZERO), 10);
        assert_eq!(sends("noisy", 1_000, Duration::from_millis(500)), 50);
        assert_eq!(
            sends("noisy", 1_000, Duration::from_hours(1)),
            200,
            "no more is saved up"
        );
        assert!((0..1_000).all(|_| Pace::new(0).lets("noisy", begun)));
    }

    #[test]
    fn things_without_end_do_not_fill_the_memory() {
        let (pace, begun) = (Pace::new(1), Instant::now());
        for n in 0..3 * KNOWN_MAX {
            let at = begun + Duration::from_millis(u64::try_from(n).unwrap());
            assert!(pace.lets(&format!("t{n}"), at));
        }
        assert!(pace.known.lock().unwrap().len() <= KNOWN_MAX);
    }
}
