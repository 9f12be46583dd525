//! The operators under one name.
use super::{
    anomaly::Detectors,
    formula::Formula,
    on_change::Changes,
    sensor::Sensor,
    window::{PANES_MAX, Windows},
};
use crate::{
    heard::{Follows, Heard},
    rules::{Wrong, expression::Trouble},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telltale_schemas::{
    Timestamp, duration,
    kinds::Fault,
    rule::{Rule, Virtual, Window},
};

/// What a rule computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Operator {
    Window(Windows),
    OnChange(Changes),
    Anomaly(Detectors),
    Virtual(Box<Sensor>),
}

/// A duration of a document that was checked.
fn micros(text: &str) -> Option<i64> {
    i64::try_from(duration::parse(text)?.as_micros())
        .ok()
        .filter(|micros| *micros > 0)
}

fn wrong(pointer: &str, message: String) -> Vec<Wrong> {
    vec![Wrong::from(Fault::at(pointer, message))]
}

/// Whether what one remembers is of use to the other.
pub(super) fn computes_the_same(one: &Rule, other: &Rule) -> bool {
    one.take == other.take
        && one.window == other.window
        && one.on_change == other.on_change
        && one.anomaly == other.anomaly
        && one.computed == other.computed
}

impl Operator {
    /// Of a rule; `None` if it is a condition.
    pub(super) fn of(rule: &Rule) -> Result<Option<Self>, Vec<Wrong>> {
        let (name, take) = (rule.name.as_str(), rule.take);
        if let Some(window) = &rule.window {
            return windows(rule, window).map(Self::Window).map(Some);
        }
        if let Some(of) = &rule.on_change {
            let at_most = of.at_most.as_deref().and_then(micros);
            return Ok(Some(Self::OnChange(Changes::new(name, take, of, at_most))));
        }
        if let Some(of) = &rule.anomaly {
            if of.step > of.window {
                let message = format!(
                    "{} values at once are more than the {} in the window",
                    of.step, of.window
                );
                return Err(wrong("/anomaly/step", message));
            }
            return Ok(Some(Self::Anomaly(Detectors::new(name, take, of))));
        }
        let Some(of) = &rule.computed else {
            return Ok(None);
        };
        sensor(rule, of).map(|sensor| Some(Self::Virtual(Box::new(sensor))))
    }

    /// The next reading. Why something could not be computed, if it could not.
    pub(super) fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) -> Option<Trouble> {
        match self {
            Self::Window(windows) => windows.hear(heard, out),
            Self::OnChange(changes) => changes.hear(heard, out),
            Self::Anomaly(detectors) => detectors.hear(heard, out),
            Self::Virtual(sensor) => return sensor.hear(heard, out),
        }
        None
    }

    /// How many of its values came too late for their window.
    pub(super) fn late(&mut self, heard: &Heard, out: &mut Vec<Follows>) -> u64 {
        match self {
            Self::Window(windows) => return windows.late(heard),
            Self::OnChange(_) | Self::Anomaly(_) | Self::Virtual(_) if heard.rule.is_some() => {
                self.hear(heard, out);
            }
            Self::OnChange(_) | Self::Anomaly(_) | Self::Virtual(_) => {}
        }
        0
    }

    pub(super) fn passed(&mut self, thing: &str, until: Timestamp, out: &mut Vec<Follows>) {
        if let Self::Window(windows) = self {
            windows.passed(thing, until, out);
        }
    }

    pub(super) fn waits(&self, thing: &str) -> Option<Timestamp> {
        match self {
            Self::Window(windows) => windows.waits(thing),
            Self::OnChange(_) | Self::Anomaly(_) | Self::Virtual(_) => None,
        }
    }

    pub(super) fn forget(&mut self, thing: &str) {
        match self {
            Self::Window(windows) => windows.forget(thing),
            Self::OnChange(changes) => changes.forget(thing),
            Self::Anomaly(detectors) => detectors.forget(thing),
            // Its inputs are named in the rule, and no more for however many things; what they said last counts for as
            // long as `max_age` says.
            Self::Virtual(_) => {}
        }
    }
}

fn windows(rule: &Rule, window: &Window) -> Result<Windows, Vec<Wrong>> {
    let every = micros(&window.every);
    let every = every.ok_or_else(|| {
        wrong(
            "/window/every",
            format!("`{}` is no duration that lasts", window.every),
        )
    })?;
    let slide = window.slide.as_deref().and_then(micros).unwrap_or(every);
    Windows::new(&rule.name, rule.take, window, every, slide).ok_or_else(|| {
        let message = format!("a window would have more than {PANES_MAX} parts; let it slide by more");
        wrong("/window/slide", message)
    })
}

fn sensor(rule: &Rule, of: &Virtual) -> Result<Sensor, Vec<Wrong>> {
    if !rule.things.is_empty() {
        let message = "the inputs name the things of a virtual sensor; take `things` away";
        return Err(wrong("/things", message.to_owned()));
    }
    let formula = Formula::compile(&of.value).map_err(|found| {
        vec![Wrong {
            pointer: "/virtual/value".to_owned(),
            place: Some((found.line, found.column)),
            message: found.message,
        }]
    })?;
    if let Some(name) = formula.unknown(&of.inputs) {
        let message = format!("there is no input `{name}`; name it in `inputs`");
        return Err(wrong("/virtual/value", message));
    }
    let mut inputs = BTreeMap::new();
    for (name, text) in &of.inputs {
        let Some((thing, record)) = text.rsplit_once('/') else {
            let message = format!("`{text}` is no `<thing>/<record>`");
            return Err(wrong(&format!("/virtual/inputs/{name}"), message));
        };
        inputs.insert(name.clone(), (thing.to_owned(), record.to_owned()));
    }
    Ok(Sensor {
        rule: rule.name.clone(),
        take: rule.take,
        thing: of.thing.clone(),
        name: of.name.clone(),
        unit: of.unit.clone(),
        inputs,
        max_age: of.max_age.as_deref().and_then(micros),
        formula,
        known: BTreeMap::new(),
    })
}
