//! The engine: told readings in the order of their things, it answers with what follows.
use super::{
    alarm::Alarms,
    document::{Condition, Ready},
    effect,
    history::{History, Needs},
    scope::Instant,
    tally::Tally,
    turn::{Turn, alarm_id, elapse, particulars},
};
use crate::heard::{Follows, Heard, Said};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};
use telltale_runtime::{Cause, Draft, Made};
use telltale_schemas::{Event, Record, Timestamp};

/// All conditions, and what they remember. Kept by its `Serialize`.
#[derive(Debug, Default)]
pub struct Engine {
    conditions: BTreeMap<String, Condition>,
    pub(super) state: State,
    pub(super) tally: Tally,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The documents in force, of every kind, as JSON.
    pub(super) documents: BTreeMap<String, String>,
    things: BTreeMap<String, Known>,
    alarms: Alarms,
    /// What is still to be said of alarms whose rule is gone.
    owed: Vec<Owed>,
}

/// What is remembered of a thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    /// How far its time has come, in microseconds.
    at: Option<i64>,
    history: History,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Owed {
    cause: Arc<Cause>,
    event: String,
    detail: Map<String, Value>,
    id: String,
    at: Timestamp,
}

/// The records of a reading by the time at which they were measured.
fn instants(heard: &Heard) -> BTreeMap<Timestamp, Vec<&Record>> {
    let mut instants: BTreeMap<Timestamp, Vec<&Record>> = BTreeMap::new();
    for record in &heard.records {
        instants.entry(heard.time_of(record)).or_default().push(record);
    }
    instants
}

impl Engine {
    /// The next reading of its thing: by time, then by id.
    pub fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        self.pay(out);
        let thing = heard.thing();
        let conditions: Vec<&Condition> = self.conditions.values().filter(|c| c.rule.hears(thing)).collect();
        if conditions.is_empty() {
            return;
        }
        let mut needs = Needs::new();
        for (name, span) in conditions.iter().flat_map(|condition| &condition.needs) {
            let most = needs.entry(name.clone()).or_default();
            *most = (*most).max(*span);
        }
        let known = self.state.things.entry(thing.to_owned()).or_default();
        for (at, records) in instants(heard) {
            let is_late = known.at.is_some_and(|reached| at.as_micros() < reached);
            known.at = known.at.max(Some(at.as_micros()));
            elapse(
                &self.conditions,
                &mut self.state.alarms,
                &mut self.tally,
                thing,
                at,
                out,
            );
            known.history.enter(at, &records, &needs);
            for condition in &conditions {
                let mut turn = Turn {
                    condition,
                    at: Instant {
                        heard,
                        at,
                        records: &records,
                        history: &known.history,
                        take: condition.rule.take,
                    },
                    alarms: &mut self.state.alarms,
                    tally: &mut self.tally,
                };
                if condition.is_plain {
                    // It has acted on it when it came.
                } else if !condition.rule.is_alarm() {
                    turn.act(out);
                } else if !is_late {
                    turn.judge(out);
                }
            }
            if !is_late {
                known.history.leave(at, &records, &needs);
            }
        }
    }

    /// A reading as it comes, in whatever order: rules that look at one reading alone act on it.
    pub fn at_once(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        self.pay(out);
        let history = History::default();
        for condition in self.conditions.values() {
            if !condition.is_plain || !condition.rule.hears(heard.thing()) {
                continue;
            }
            for (at, records) in instants(heard) {
                let mut turn = Turn {
                    condition,
                    at: Instant {
                        heard,
                        at,
                        records: &records,
                        history: &history,
                        take: condition.rule.take,
                    },
                    alarms: &mut self.state.alarms,
                    tally: &mut self.tally,
                };
                turn.act(out);
            }
        }
    }

    /// The thing's time has reached that moment, with a reading or in silence: nothing older will come.
    pub fn passed(&mut self, thing: &str, until: Timestamp, out: &mut Vec<Follows>) {
        self.pay(out);
        elapse(
            &self.conditions,
            &mut self.state.alarms,
            &mut self.tally,
            thing,
            until,
            out,
        );
    }

    /// The moment of the thing's time at which something follows even if it stays silent.
    pub fn waits(&self, thing: &str) -> Option<Timestamp> {
        self.state.alarms.waits(thing)
    }

    /// Whether something of that thing is still to be said: it may yet raise an alarm, or has raised one that is to be
    /// cleared.
    pub fn owes(&self, thing: &str) -> bool {
        self.state.alarms.owes(thing)
    }

    /// The thing is gone, and what was remembered of it.
    pub fn forget(&mut self, thing: &str) {
        self.state.things.remove(thing);
        self.state.alarms.pending.remove(thing);
    }

    /// What went wrong since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Puts a condition into force. Alarms that are raised stay so; what was on its way to be one begins anew.
    pub(super) fn put(&mut self, condition: Condition) {
        let name = condition.rule.name.clone();
        self.state.alarms.forget_pending(&name);
        if !condition.rule.is_alarm() {
            self.drop_alarms(&name);
        }
        self.conditions.insert(name, condition);
        self.tidy();
    }

    /// Takes a condition out of force; whoever heard that its alarms were raised hears that they are over.
    pub(super) fn remove(&mut self, name: &str) {
        self.state.alarms.forget_pending(name);
        self.drop_alarms(name);
        self.conditions.remove(name);
        self.tidy();
    }

    fn drop_alarms(&mut self, name: &str) {
        let raised = self.state.alarms.raised.remove(name).unwrap_or_default();
        let Some(old) = self.conditions.get(name) else {
            return;
        };
        for (key, raised) in raised {
            let known = self.state.things.get(&raised.thing).and_then(|known| known.at);
            let at = known.and_then(Timestamp::from_micros).unwrap_or(raised.since);
            for (n, action) in old.actions.iter().enumerate() {
                let Ready::Event { name: event, .. } = action else {
                    continue;
                };
                let mut detail = particulars(&old.rule, &key, "cleared", raised.since);
                detail.insert("why".to_owned(), "the rule is gone".into());
                self.state.owed.push(Owed {
                    cause: Arc::clone(&raised.cause),
                    event: event.clone(),
                    detail,
                    id: effect::id(&format!("{}.cleared", alarm_id(&old.rule, &key, raised.since)), n),
                    at,
                });
            }
        }
    }

    /// Says what is owed.
    fn pay(&mut self, out: &mut Vec<Follows>) {
        for owed in self.state.owed.drain(..) {
            let event = Event {
                name: owed.event,
                detail: owed.detail,
            };
            out.push(Made {
                cause: owed.cause,
                draft: Draft::new(Said::from(event)).keyed(owed.id).at(owed.at),
            });
        }
    }

    /// Forgets what nobody asks for any more.
    fn tidy(&mut self) {
        let conditions = &self.conditions;
        self.state.things.retain(|thing, known| {
            let heard_by = conditions
                .values()
                .filter(|condition| condition.rule.hears(thing));
            let mut heard_by = heard_by.peekable();
            if heard_by.peek().is_none() {
                return false;
            }
            let needs: Needs = heard_by.flat_map(|condition| condition.needs.clone()).collect();
            known.history.forget(&needs);
            true
        });
    }
}
