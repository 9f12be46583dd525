//! Many values as a few numbers, which are brought together with those of others without the values.
use super::reading::worst;
use serde::{Deserialize, Serialize};
use telltale_schemas::{Flag, Record, rule::Function};

/// What is known of some values. The sum is compensated (Neumaier) and the spread is Welford's, so that a large offset
/// or many values cost no digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Aggregate {
    count: u64,
    sum: f64,
    lost: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
    first: (i64, f64),
    last: (i64, f64),
    unit: Option<String>,
    q: Option<Flag>,
}

impl Aggregate {
    /// One more value, of that moment in microseconds.
    pub(super) fn add(&mut self, at: i64, value: f64, record: &Record) {
        self.merge(&Self {
            count: 1,
            sum: value,
            lost: 0.0,
            mean: value,
            squares: 0.0,
            min: value,
            max: value,
            first: (at, value),
            last: (at, value),
            unit: record.u.clone(),
            q: record.q,
        });
    }

    /// These, and others that came after them.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        if other.count == 0 {
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let (all, apart) = (ours + theirs, other.mean - self.mean);
        self.mean += apart * theirs / all;
        self.squares += other.squares + apart * apart * ours * theirs / all;
        self.count += other.count;
        self.include(other.sum);
        self.lost += other.lost;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
            self.unit.clone_from(&other.unit);
        }
        self.q = worst(self.q, other.q);
    }

    fn include(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - sum) + value
        } else {
            (value - sum) + self.sum
        };
        self.sum = sum;
    }

    /// As a record of that name; nothing where it is no number that can be told (of values near the largest ones).
    pub(super) fn record(&self, function: Function, name: &str) -> Option<Record> {
        let count = self.count as f64;
        let sum = self.sum + self.lost;
        let value = match function {
            Function::Avg => sum / count,
            Function::Min => self.min,
            Function::Max => self.max,
            Function::Count => count,
            Function::Sum => sum,
            Function::Stddev => (self.squares / count).sqrt(),
            Function::First => self.first.1,
            Function::Last => self.last.1,
        };
        value.is_finite().then(|| Record {
            u: match function {
                Function::Count => Some("count".to_owned()),
                _ => self.unit.clone(),
            },
            v: Some(value),
            q: self.q,
            ..Record::named(name)
        })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers come out exactly")]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for (at, value) in (0..).zip(values) {
            aggregate.add(at, *value, &Record::named("x"));
        }
        aggregate
    }

    fn number(aggregate: &Aggregate, function: Function) -> f64 {
        aggregate.record(function, "x").unwrap().v.unwrap()
    }

    #[test]
    fn a_large_offset_costs_no_digits() {
        let all = of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
        assert_eq!(number(&all, Function::Avg), 1e9 + 10.0);
        assert_eq!(number(&all, Function::Stddev), 22.5_f64.sqrt());
        assert_eq!(number(&of(&[1e100, 1.0, -1e100]), Function::Sum), 1.0);
    }

    #[test]
    fn parts_brought_together_are_as_the_whole() {
        let values: Vec<f64> = (0..100).map(|n: i32| f64::from(n * 7919 % 101) / 7.0).collect();
        let (early, late) = values.split_at(37);
        let whole = of(&values);
        let mut parts = of(early);
        let mut second = Aggregate::default();
        for (at, value) in (37..).zip(late) {
            second.add(at, *value, &Record::named("x"));
        }
        parts.merge(&second);
        for function in [
            Function::Avg,
            Function::Min,
            Function::Max,
            Function::Count,
            Function::Sum,
            Function::Stddev,
            Function::First,
            Function::Last,
        ] {
            let (whole, parts) = (number(&whole, function), number(&parts, function));
            assert!((whole - parts).abs() < 1e-12, "{function:?}: {whole} {parts}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_said() {
        assert_eq!(of(&[f64::MAX, f64::MAX]).record(Function::Sum, "x"), None);
    }
}
