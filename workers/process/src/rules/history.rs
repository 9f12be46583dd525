//! What is remembered of a thing's records: windows, and what was before.
use cel::Value as Cel;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};
use telltale_schemas::{
    Record, Timestamp,
    rule::{Function, Use},
};

/// Most values of one series; of more the newest are in the window.
pub const VALUES_MAX: usize = 4_096;
/// Longest text that is remembered, in bytes.
const TEXT_MAX: usize = 256;

/// What a window computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// One of those that derived readings have, too.
    Of(Function),
    /// Change in a second, between the first and the last value.
    Rate,
    /// Seconds since the last value.
    Age,
}

/// One look back over the values of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    compute: Compute,
    of: String,
    /// As it was written.
    span: String,
    micros: i64,
}

impl Window {
    /// Over the last `micros`, written as `span`.
    pub fn new(compute: Compute, of: &str, span: &str, micros: i64) -> Self {
        Self {
            compute,
            of: of.to_owned(),
            span: span.to_owned(),
            micros,
        }
    }

    /// How old the last value is.
    pub fn age(of: &str) -> Self {
        Self::new(Compute::Age, of, "", 0)
    }

    /// What a function of that name computes.
    pub fn function(name: &str) -> Option<Compute> {
        use Function::{Avg, Count, First, Last, Max, Min, Stddev, Sum};
        if name == "rate" {
            return Some(Compute::Rate);
        }
        let all = [Avg, Min, Max, Count, Sum, Stddev, First, Last];
        all.into_iter()
            .find(|function| function.word() == name)
            .map(Compute::Of)
    }

    /// The record that it is about.
    pub fn of(&self) -> &str {
        &self.of
    }

    /// How far it looks back, in microseconds.
    pub fn micros(&self) -> i64 {
        self.micros
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.compute {
            Compute::Age => write!(f, "age(\"{}\")", self.of),
            Compute::Rate => write!(f, "rate(\"{}\", \"{}\")", self.of, self.span),
            Compute::Of(function) => write!(f, "{}(\"{}\", \"{}\")", function.word(), self.of, self.span),
        }
    }
}

/// A value that is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plain {
    /// A number.
    Number(f64),
    /// A text of at most 256 bytes.
    Text(String),
    /// A boolean.
    Truth(bool),
}

impl Plain {
    /// Of a record that has a value.
    pub fn of(record: &Record) -> Option<Self> {
        let text = record.vs.as_ref().or(record.vd.as_ref());
        record
            .v
            .map(Self::Number)
            .or(record.vb.map(Self::Truth))
            .or_else(|| text.map(|text| Self::Text(text.clone())))
    }

    /// As CEL has it.
    pub fn cel(&self) -> Cel {
        match self {
            Self::Number(number) => Cel::Float(*number),
            Self::Text(text) => Cel::String(Arc::new(text.clone())),
            Self::Truth(truth) => Cel::Bool(*truth),
        }
    }

    fn is_short(&self) -> bool {
        !matches!(self, Self::Text(text) if text.len() > TEXT_MAX)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sample {
    at: i64,
    value: f64,
    good: bool,
}

/// The values of one record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    samples: VecDeque<Sample>,
    /// The last value, among the good ones and among all.
    good: Option<(i64, Plain)>,
    all: Option<(i64, Plain)>,
}

impl Series {
    fn last(&self, take: Use) -> Option<&(i64, Plain)> {
        match take {
            Use::Good => self.good.as_ref(),
            Use::All => self.all.as_ref(),
        }
    }
}

/// What is remembered of one thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    series: BTreeMap<String, Series>,
}

/// What is asked of the history, by record: how far it is looked back, in microseconds.
pub type Needs = BTreeMap<String, i64>;

impl History {
    /// Takes up the records of one instant, before the rules look at them.
    pub fn enter(&mut self, at: Timestamp, records: &[&Record], needs: &Needs) {
        for record in records {
            let Some(span) = needs.get(&record.n) else {
                continue;
            };
            let series = self.series.entry(record.n.clone()).or_default();
            if let Some(value) = record.v {
                let sample = Sample {
                    at: at.as_micros(),
                    value,
                    good: Use::Good.takes(record.q),
                };
                let place = series.samples.partition_point(|known| known.at <= sample.at);
                series.samples.insert(place, sample);
            }
            let newest = series.samples.back().map_or(i64::MIN, |sample| sample.at);
            let oldest = newest.saturating_sub(*span);
            while series.samples.len() > VALUES_MAX
                || series.samples.front().is_some_and(|sample| sample.at <= oldest)
            {
                series.samples.pop_front();
            }
        }
    }

    /// From now on these are what was before.
    pub fn leave(&mut self, at: Timestamp, records: &[&Record], needs: &Needs) {
        for record in records {
            if !needs.contains_key(&record.n) {
                continue;
            }
            let Some(value) = Plain::of(record).filter(Plain::is_short) else {
                continue;
            };
            let series = self.series.entry(record.n.clone()).or_default();
            let at = at.as_micros();
            if Use::Good.takes(record.q) {
                series.good = Some((at, value.clone()));
            }
            series.all = Some((at, value));
        }
    }

    /// Only what is asked for stays.
    pub fn forget(&mut self, needs: &Needs) {
        self.series.retain(|name, _| needs.contains_key(name));
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The values before this instant, by record.
    pub fn previous(&self, take: Use) -> impl Iterator<Item = (&str, &Plain)> {
        let all = self.series.iter();
        all.filter_map(move |(name, series)| Some((name.as_str(), &series.last(take)?.1)))
    }

    /// A window that ends at that moment, whose value is in it; the one that begins it is not.
    pub fn compute(&self, window: &Window, at: Timestamp, now: &[&Record], take: Use) -> Option<f64> {
        let at = at.as_micros();
        if window.compute == Compute::Age {
            let here = now
                .iter()
                .any(|record| record.n == window.of && take.takes(record.q) && record.has_value());
            let since = if here {
                at
            } else {
                self.series.get(&window.of)?.last(take)?.0
            };
            return Some((at - since) as f64 / 1e6);
        }
        let from = at.saturating_sub(window.micros);
        let samples = self.series.get(&window.of).map(|series| &series.samples);
        let values: Vec<(i64, f64)> = samples
            .into_iter()
            .flat_map(|samples| samples.iter().rev())
            .skip_while(|sample| sample.at > at)
            .take_while(|sample| sample.at > from)
            .filter(|sample| sample.good || take == Use::All)
            .map(|sample| (sample.at, sample.value))
            .collect();
        computed(window.compute, &values)
    }
}

/// `values` from the newest to the oldest.
fn computed(compute: Compute, values: &[(i64, f64)]) -> Option<f64> {
    let count = values.len() as f64;
    let numbers = || values.iter().rev().map(|(_, value)| *value);
    if compute == Compute::Of(Function::Count) {
        return Some(count);
    }
    let (newest, oldest) = (values.first()?, values.last()?);
    Some(match compute {
        Compute::Of(Function::Avg) => numbers().sum::<f64>() / count,
        Compute::Of(Function::Sum) => numbers().sum(),
        Compute::Of(Function::Min) => numbers().fold(f64::INFINITY, f64::min),
        Compute::Of(Function::Max) => numbers().fold(f64::NEG_INFINITY, f64::max),
        Compute::Of(Function::First) => oldest.1,
        Compute::Of(Function::Last) => newest.1,
        Compute::Of(Function::Stddev) => {
            let mean = numbers().sum::<f64>() / count;
            (numbers().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
        Compute::Rate if newest.0 > oldest.0 => (newest.1 - oldest.1) / ((newest.0 - oldest.0) as f64 / 1e6),
        Compute::Of(Function::Count) | Compute::Rate | Compute::Age => return None,
    })
}
