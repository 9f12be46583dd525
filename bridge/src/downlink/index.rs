//! What waits for devices, as the bucket `pending` tells: which command of a thing is next, and when.
//!
//! A command goes out by priority, then by age. The next one goes out once the device has confirmed the one before, or that one has
//! ended: so a lamp is not switched on and off in the wrong order. What was sent and never answered is sent again only
//! where its description calls it idempotent.
use std::{collections::BTreeMap, sync::Arc};
use telltale_schemas::{
    Timestamp,
    kinds::State,
    pending::{Pending, Turn},
};

/// One entry of the bucket, as far as it is of use.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Of the bucket.
    pub(super) revision: u64,
    /// Where it is in its life.
    pub(super) state: State,
    /// When it was sent last.
    pub(super) sent: Option<Timestamp>,
    /// Whether this process sent it.
    pub(super) is_ours: bool,
    /// Whether its end is decided, and since when we know.
    pub(super) ended: Option<Timestamp>,
    /// After this it is not delivered.
    pub(super) expires: Timestamp,
    turn: Turn,
    start: Option<Timestamp>,
    is_idempotent: bool,
    /// The whole, where somebody here may be about to deliver it.
    pub(super) body: Option<Arc<Pending>>,
}

/// What is on its way to the device, by this hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) key: String,
    /// When it may be sent again, if it is idempotent.
    pub(super) again: Timestamp,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Deliver the one under this key.
    Deliver(String),
    /// Nothing before that time, unless something changes.
    Wait(Option<Timestamp>),
}

/// The commands of one thing by their keys.
pub(super) type Lines = BTreeMap<String, Line>;

impl Line {
    pub(super) fn of(
        pending: &Arc<Pending>,
        revision: u64,
        instance: &str,
        now: Timestamp,
        keep: bool,
    ) -> Self {
        Self {
            revision,
            state: pending.state,
            sent: pending.sent.as_ref().map(|sent| sent.at),
            is_ours: pending.sent.as_ref().is_some_and(|sent| sent.bridge == instance),
            ended: pending.end.as_ref().map(|_| now),
            expires: pending.expires,
            turn: pending.turn(),
            start: pending.start,
            is_idempotent: pending.idempotent,
            body: keep.then(|| pending.clone()),
        }
    }

    /// Whether it may still go to the device.
    fn is_alive(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires
    }

    /// Whether it was sent, not answered in time, and nobody has said so yet.
    pub(super) fn is_unanswered(&self, now: Timestamp) -> bool {
        self.ended.is_none() && self.state != State::Queued && now >= self.expires
    }
}

/// What is to be done for a thing. `gap`, in microseconds, is how long an idempotent command that somebody else sent is left alone.
pub(super) fn next(lines: &Lines, in_flight: Option<&InFlight>, gap: i64, now: Timestamp) -> Next {
    if let Some(flight) = in_flight
        && let Some(line) = lines.get(&flight.key)
        && line.state == State::Sent
        && line.is_alive(now)
    {
        return match line.is_idempotent {
            true if now >= flight.again => Next::Deliver(flight.key.clone()),
            true => Next::Wait(Some(flight.again.min(line.expires))),
            false => Next::Wait(Some(line.expires)),
        };
    }
    let mut wake: Option<Timestamp> = None;
    let mut first: Option<(&String, &Line)> = None;
    for (key, line) in lines.iter().filter(|(_, line)| line.is_alive(now)) {
        match line.state {
            State::Queued if line.start.is_some_and(|start| start > now) => {
                wake = wake.into_iter().chain(line.start).min();
            }
            State::Sent if !line.is_idempotent => {}
            State::Queued | State::Sent if first.is_none_or(|(_, best)| line.turn < best.turn) => {
                first = Some((key, line));
            }
            _ => {}
        }
    }
    let Some((key, line)) = first else {
        return Next::Wait(wake);
    };
    match line.sent.map(|at| at.plus_micros(gap)) {
        Some(due) if line.state == State::Sent && due > now => {
            Next::Wait(wake.into_iter().chain([due.min(line.expires)]).min())
        }
        _ => Next::Deliver(key.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn turn(priority: u8, sequence: u64) -> Turn {
        (std::cmp::Reverse(priority), sequence, at(0), String::new())
    }

    fn line(sequence: u64) -> Line {
        Line {
            revision: sequence,
            state: State::Queued,
            sent: None,
            is_ours: false,
            ended: None,
            expires: at(100),
            turn: turn(5, sequence),
            start: None,
            is_idempotent: false,
            body: None,
        }
    }

    fn lines(all: impl IntoIterator<Item = (&'static str, Line)>) -> Lines {
        all.into_iter()
            .map(|(key, line)| (key.to_owned(), line))
            .collect()
    }

    fn deliver(key: &str) -> Next {
        Next::Deliver(key.to_owned())
    }

    fn sent(sequence: u64, idempotent: bool) -> Line {
        Line {
            state: State::Sent,
            sent: Some(at(10)),
            is_idempotent: idempotent,
            ..line(sequence)
        }
    }

    fn flight(key: &str, again: i64) -> InFlight {
        InFlight {
            key: key.to_owned(),
            again: at(again),
        }
    }

    #[test]
    fn the_more_urgent_goes_first_and_then_the_older() {
        let urgent = Line {
            turn: turn(9, 3),
            ..line(3)
        };
        let mut all = lines([("b", line(2)), ("a", line(7)), ("c", urgent)]);
        for key in ["c", "b", "a"] {
            assert_eq!(next(&all, None, 0, at(1)), deliver(key));
            all.remove(key);
        }
        assert_eq!(next(&all, None, 0, at(1)), Next::Wait(None));
    }

    #[test]
    fn nothing_goes_out_before_its_start_or_after_its_end() {
        let later = Line {
            start: Some(at(50)),
            ..line(1)
        };
        let all = lines([("later", later), ("now", line(2))]);
        assert_eq!(
            next(&all, None, 0, at(1)),
            deliver("now"),
            "what waits for its time is in nobody's way"
        );
        assert_eq!(next(&all, None, 0, at(50)), deliver("later"));
        assert_eq!(next(&all, None, 0, at(100)), Next::Wait(None), "both are over");
        let later = Line {
            start: Some(at(50)),
            ..line(1)
        };
        assert_eq!(
            next(&lines([("later", later)]), None, 0, at(1)),
            Next::Wait(Some(at(50)))
        );
        let ended = Line {
            ended: Some(at(1)),
            ..line(1)
        };
        assert_eq!(next(&lines([("ended", ended)]), None, 0, at(2)), Next::Wait(None));
    }

    #[test]
    fn the_next_waits_until_the_one_before_is_confirmed_or_over() {
        let all = lines([
            ("a", sent(1, false)),
            (
                "b",
                Line {
                    turn: turn(9, 2),
                    ..line(2)
                },
            ),
        ]);
        let one = flight("a", 15);
        assert_eq!(next(&all, Some(&one), 0, at(20)), Next::Wait(Some(at(100))));
        assert_eq!(
            next(&all, None, 0, at(20)),
            deliver("b"),
            "another session sent it: nobody waits for that"
        );
        let mut confirmed = all.clone();
        confirmed.get_mut("a").unwrap().state = State::Acknowledged;
        assert_eq!(next(&confirmed, Some(&one), 0, at(20)), deliver("b"));
        let mut over = all;
        over.get_mut("a").unwrap().ended = Some(at(20));
        assert_eq!(next(&over, Some(&one), 0, at(20)), deliver("b"));
    }

    #[test]
    fn only_the_idempotent_is_sent_again() {
        let all = lines([("a", sent(1, true)), ("b", line(2))]);
        let one = flight("a", 15);
        assert_eq!(next(&all, Some(&one), 0, at(12)), Next::Wait(Some(at(15))));
        assert_eq!(next(&all, Some(&one), 0, at(15)), deliver("a"));
        assert_eq!(
            next(&all, None, 0, at(11)),
            deliver("a"),
            "in a new session at once, and in its order"
        );
        assert_eq!(
            next(&all, None, 5_000_000, at(11)),
            Next::Wait(Some(at(15))),
            "who asks all the time gets it now and then"
        );
        let once = lines([("a", sent(1, false))]);
        assert_eq!(next(&once, None, 0, at(50)), Next::Wait(None));
    }

    #[test]
    fn what_was_sent_and_not_answered_is_found_when_its_time_is_up() {
        assert!(!sent(1, true).is_unanswered(at(99)) && sent(1, true).is_unanswered(at(100)));
        assert!(
            !line(1).is_unanswered(at(100)),
            "what was never sent has expired instead"
        );
    }
}
