//! What actuate counts.
use crate::judge::Refused;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use telltale_schemas::kinds::State;

/// Its metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    queued: IntCounter,
    refused: IntCounterVec,
    duplicates: IntCounter,
    ended: IntCounterVec,
    waiting: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            queued: IntCounter::new("telltale_actuate_queued_total", "Commands that were queued.")?,
            refused: IntCounterVec::new(
                Opts::new(
                    "telltale_actuate_refused_total",
                    "Commands that were refused, by reason.",
                ),
                &["reason"],
            )?,
            duplicates: IntCounter::new(
                "telltale_actuate_duplicates_total",
                "Commands whose id had been used; nothing was done.",
            )?,
            ended: IntCounterVec::new(
                Opts::new(
                    "telltale_actuate_ended_total",
                    "Commands that actuate ended after they were queued, by state.",
                ),
                &["state"],
            )?,
            waiting: IntGauge::new("telltale_actuate_waiting", "Commands that have not ended.")?,
        };
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.duplicates.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        Ok(metrics)
    }

    /// A new command was judged.
    pub(crate) fn took(&self, refused: Option<&Refused>) {
        match refused {
            None => self.queued.inc(),
            Some(why) => self.refused.with_label_values(&[why.word()]).inc(),
        }
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.inc();
    }

    /// One was ended here.
    pub(crate) fn ended(&self, state: State) {
        self.ended.with_label_values(&[state.word()]).inc();
    }

    pub(crate) fn show_waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
