//! How unlikely a value is: the windowed Gaussian detector of the Numenta Anomaly Benchmark.
//!
//! The score of a value is 1 - Q(|value - mean| / deviation), with mean and population standard deviation of the window
//! before it; 0 for the very first. The window grows with each value until it is full, then slides by `step` values at
//! once. A deviation of 0 counts as one millionth.
use super::reading::{derivation, id_of, numbers};
use crate::heard::{Follows, Heard};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telltale_schemas::{
    Record,
    rule::{Anomaly, Use},
};

/// One rule's detectors of every thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Detectors {
    rule: String,
    take: Use,
    of: String,
    name: String,
    window: usize,
    step: usize,
    things: BTreeMap<String, Gaussian>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Gaussian {
    window: Vec<f64>,
    /// What the window takes up when it slides.
    coming: Vec<f64>,
    mean: f64,
    deviation: f64,
    /// When the newest value was measured, in microseconds.
    newest: Option<i64>,
}

impl Detectors {
    /// Of that rule.
    pub(super) fn new(rule: &str, take: Use, of: &Anomaly) -> Self {
        Self {
            rule: rule.to_owned(),
            take,
            of: of.of.clone(),
            name: format!("{}_anomaly", of.of),
            window: of.window,
            step: of.step,
            things: BTreeMap::new(),
        }
    }

    /// The next reading of its thing.
    pub(super) fn hear(&mut self, heard: &Heard, out: &mut Vec<Follows>) {
        let values = numbers(heard, &self.of, self.take);
        if values.is_empty() {
            return;
        }
        let thing = self.things.entry(heard.thing().to_owned()).or_default();
        let mut records = Vec::new();
        for (at, value, record) in values {
            if thing.newest.is_some_and(|newest| at.as_micros() < newest) {
                continue;
            }
            thing.newest = Some(at.as_micros());
            let score = thing.score(value);
            thing.take_up(value, self.window, self.step);
            // Values near the largest ones have no deviation that can be told.
            if score.is_finite() {
                let said = Record {
                    u: Some("/".to_owned()),
                    v: Some(score),
                    q: record.q,
                    ..Record::named(self.name.clone())
                };
                records.push((at, said));
            }
        }
        out.extend(derivation(
            &heard.cause,
            &self.rule,
            id_of(heard, &self.rule),
            records,
        ));
    }

    /// The thing is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.things.remove(name);
    }
}

impl Gaussian {
    fn score(&self, value: f64) -> f64 {
        if self.window.is_empty() {
            return 0.0;
        }
        let z = (value - self.mean).abs() / self.deviation;
        1.0 - 0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
    }

    fn take_up(&mut self, value: f64, window: usize, step: usize) {
        if self.window.len() < window {
            self.window.push(value);
        } else {
            self.coming.push(value);
            if self.coming.len() < step {
                return;
            }
            self.window.drain(..step.min(window));
            self.window.append(&mut self.coming);
        }
        // In two passes: the difference of large squares would cost digits.
        let count = self.window.len() as f64;
        self.mean = self.window.iter().sum::<f64>() / count;
        let squares = self.window.iter().map(|value| (value - self.mean).powi(2));
        self.deviation = (squares.sum::<f64>() / count).sqrt();
        if self.deviation == 0.0 {
            self.deviation = 1e-6;
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers come out exactly")]
mod tests {
    use super::*;
    use crate::derive::testing::{heard, told};

    fn scores(window: usize, step: usize, values: &[f64]) -> Vec<f64> {
        let of = Anomaly {
            of: "x".into(),
            window,
            step,
        };
        let (mut detectors, mut out) = (Detectors::new("r", Use::Good, &of), Vec::new());
        for (at, value) in (0..).zip(values) {
            detectors.hear(&heard("a", f64::from(at), &[("x", *value)]), &mut out);
        }
        told(&out).iter().map(|told| told.value).collect()
    }

    #[test]
    fn a_full_window_slides_by_steps_and_not_before() {
        // Window {1, 3}: mean 2, deviation 1. It slides after two more values, to {9, 11}: mean 10, deviation 1.
        let scores = scores(2, 2, &[1.0, 3.0, 9.0, 11.0, 10.0, 11.0]);
        assert_eq!(scores[0], 0.0, "nothing is known before the first");
        assert_eq!(scores[1], 1.0, "one value has no deviation");
        assert!(scores[3] > scores[2], "still of 1 and 3");
        assert_eq!(scores[4], 0.5, "the mean itself");
        // 1 - Q(1), from tables.
        assert!((scores[5] - 0.841_344_746_068_543).abs() < 1e-15, "{}", scores[5]);
    }
}
