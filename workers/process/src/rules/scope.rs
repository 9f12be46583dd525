//! What the names of an expression stand for, at one instant of one reading.
use super::{
    expression::Scope,
    history::{History, Plain, Window},
    values,
};
use crate::heard::Heard;
use cel::Value as Cel;
use std::sync::Arc;
use telltale_schemas::{Record, Timestamp, rule::Use};

/// One instant of a reading, as one rule sees it.
#[derive(Debug)]
pub(super) struct Instant<'a> {
    pub(super) heard: &'a Heard,
    /// When these records were measured.
    pub(super) at: Timestamp,
    /// The records of that time.
    pub(super) records: &'a [&'a Record],
    pub(super) history: &'a History,
    pub(super) take: Use,
}

impl Instant<'_> {
    fn taken(&self) -> impl Iterator<Item = &Record> {
        let taken = self.records.iter().copied();
        taken.filter(|record| self.take.takes(record.q))
    }

    fn record(&self, name: &str) -> Option<Cel> {
        // The last one: it is the newest.
        let records: Vec<&Record> = self.taken().filter(|record| record.n == name).collect();
        records
            .last()
            .and_then(|record| Plain::of(record))
            .map(|plain| plain.cel())
    }
}

impl Scope for Instant<'_> {
    fn get(&self, name: &str) -> Option<Cel> {
        let text = |text: &str| Some(Cel::String(Arc::new(text.to_owned())));
        match name {
            "thing" => text(self.heard.thing()),
            "site" => text(self.heard.cause.site.plain()),
            "time" => Some(Cel::Float(self.at.as_seconds())),
            "annotation" => {
                let members = self.heard.annotation.iter();
                let members = members.filter_map(|(key, value)| Some((key, values::cel(value)?)));
                Some(values::map(members.map(|(key, value)| (key.as_str(), value))))
            }
            "previous" => {
                let known = self.history.previous(self.take);
                Some(values::map(known.map(|(name, value)| (name, value.cel()))))
            }
            "r" => {
                let records = self.taken();
                let records =
                    records.filter_map(|record| Some((record.n.as_str(), Plain::of(record)?.cel())));
                Some(values::map(records))
            }
            "q" => {
                let flags = self.taken();
                let flags = flags.filter_map(|record| {
                    let flag = u8::from(record.q?);
                    Some((record.n.as_str(), Cel::Int(i64::from(flag))))
                });
                Some(values::map(flags))
            }
            "unit" => {
                let units = self.taken();
                let units = units.filter_map(|record| {
                    let unit = record.u.clone()?;
                    Some((record.n.as_str(), Cel::String(Arc::new(unit))))
                });
                Some(values::map(units))
            }
            name => self.record(name),
        }
    }

    fn window(&self, window: &Window) -> Option<f64> {
        self.history.compute(window, self.at, self.records, self.take)
    }
}
