//! All that is remembered, and what follows from readings by it: a function of the stream of readings, in the worker
//! and in `telltale rule test` alike.
use crate::{
    derive::Derive,
    heard::{Follows, Heard},
    order::{Order, Turn},
    quality::Quality,
    roll::Roll,
    rules::Engine,
};
use serde::{Deserialize, Serialize};
use telltale_schemas::{Timestamp, thing::Policy};

/// How long what takes, in microseconds of the clock.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    /// How long after it was stored a reading waits for those of its thing that were measured before it.
    pub lateness: i64,
    /// How long after its last reading a thing is forgotten.
    pub remember: i64,
}

impl Default for Spans {
    /// As the worker has them unless it is told otherwise.
    fn default() -> Self {
        Self {
            lateness: 2_000_000,
            remember: 30 * 86_400 * 1_000_000,
        }
    }
}

/// What is remembered: all of it, and nothing else.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    order: Order,
    /// Taken from `order` and not heard yet.
    turn: Option<Turn>,
    quality: Quality,
    /// The rules that act on readings.
    pub rules: Engine,
    /// The rules that derive readings.
    pub derive: Derive,
    #[serde(default)]
    roll: Roll,
}

impl State {
    /// The thing whose turn has come by that time, if one has. The turn stays due until [`State::turn`] takes it, so
    /// that an outage in between loses nothing.
    pub fn due(&mut self, now: Timestamp, spans: Spans) -> Option<String> {
        loop {
            if self.turn.is_some() {
                break;
            }
            // What was to be said before a thing is forgotten is said before.
            let look = self.roll.next().filter(|at| *at <= now);
            self.turn = self.order.next(look.unwrap_or(now));
            match look {
                Some(at) if self.turn.is_none() => self.look(at, spans),
                _ => break,
            }
        }
        Some(self.turn.as_ref()?.thing().to_owned())
    }

    /// Takes the turn that is due; `policy` is what is expected of its thing.
    pub fn turn(&mut self, policy: Option<&Policy>, spans: Spans, out: &mut Vec<Follows>) {
        let Some(turn) = self.turn.take() else { return };
        let thing = turn.thing().to_owned();
        match turn {
            Turn::InOrder(mut heard) => {
                if heard.rule.is_none() {
                    self.quality.hear(&mut heard, policy, out);
                }
                self.rules.hear(&heard, out);
                self.derive.hear(&heard, out);
            }
            Turn::Late(heard) => self.derive.late(&heard, out),
            Turn::Silence(thing, moment) => {
                self.rules.passed(&thing, moment, out);
                self.derive.passed(&thing, moment, out);
            }
        }
        let moments = [self.rules.waits(&thing), self.derive.waits(&thing)];
        let moment = moments.into_iter().flatten().min();
        self.order.wait(&thing, moment, spans.lateness);
    }

    /// A reading as it comes. Every turn that was due when it was stored has been taken.
    pub fn take(&mut self, heard: Heard, spans: Spans, out: &mut Vec<Follows>) {
        self.roll.heard(heard.thing(), heard.stored, spans.remember);
        self.rules.at_once(&heard, out);
        if let Some(Turn::Late(late)) = self.order.take(heard, spans.lateness) {
            self.derive.late(&late, out);
        }
    }

    /// Whether the clock alone may bring something.
    pub fn waits(&self) -> bool {
        self.order.waits()
    }

    /// When the clock alone may bring something next.
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.order.waits_until()
    }

    /// How many things something is remembered of.
    pub fn things(&self) -> usize {
        self.order.things()
    }

    /// Forgets the thing whose time has come, unless something of it is still to be said.
    fn look(&mut self, at: Timestamp, spans: Spans) {
        let Some(thing) = self.roll.silent(spans.remember) else {
            return;
        };
        let owes = self.order.owes(&thing) || self.rules.owes(&thing) || self.derive.waits(&thing).is_some();
        if owes {
            self.roll.heard(&thing, at, spans.remember);
            return;
        }
        self.order.forget(&thing);
        self.quality.forget(&thing);
        self.rules.forget(&thing);
        self.derive.forget(&thing);
    }
}

#[cfg(test)]
mod tests;
