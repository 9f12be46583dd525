//! How old the oldest message in hand is, and when the last one was done with: told as it is when somebody asks.
use prometheus::{
    Gauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};
use telltale_schemas::Timestamp;

/// What a worker notes of its times. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Arc<Noted>);

/// In microseconds since 1970; 0 where there is none.
#[derive(Debug, Default)]
struct Noted {
    oldest: AtomicI64,
    success: AtomicI64,
}

impl Times {
    /// Shown on `registry`.
    pub(super) fn on(registry: &Registry, stage: &str) -> prometheus::Result<Self> {
        let times = Self::default();
        let gauge = |name, help| Gauge::with_opts(Opts::new(name, help).const_label("stage", stage));
        registry.register(Box::new(Shown {
            times: times.clone(),
            oldest: gauge(
                "telltale_oldest_pending_seconds",
                "Age of the oldest message in hand, since the broker stored it; 0 with none.",
            )?,
            success: gauge(
                "telltale_last_success_timestamp_seconds",
                "When a message was last done with and what follows from it stored; 0 before the first.",
            )?,
        }))?;
        Ok(times)
    }

    /// When the broker stored the oldest message in hand.
    pub(crate) fn oldest(&self, stored: Option<Timestamp>) {
        self.0
            .oldest
            .store(stored.map_or(0, Timestamp::as_micros), Relaxed);
    }

    /// A message is done with, and what follows from it is stored.
    pub(crate) fn succeeded(&self) {
        self.0.success.store(Timestamp::now().as_micros(), Relaxed);
    }
}

struct Shown {
    times: Times,
    oldest: Gauge,
    success: Gauge,
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        [self.oldest.desc(), self.success.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let noted = &self.times.0;
        let (oldest, success) = (noted.oldest.load(Relaxed), noted.success.load(Relaxed));
        // The broker's clock may be ahead of ours.
        let age = match oldest {
            0 => 0,
            stored => (Timestamp::now().as_micros() - stored).max(0),
        };
        self.oldest.set(age as f64 / 1e6);
        self.success.set(success as f64 / 1e6);
        [self.oldest.collect(), self.success.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(registry: &Registry, name: &str) -> f64 {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("{stage=\"store\"}"), "{line}");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_age_grows_while_a_message_is_in_hand_and_is_0_without_one() {
        let registry = Registry::new();
        let times = Times::on(&registry, "store").unwrap();
        let age = || shown(&registry, "telltale_oldest_pending_seconds");
        assert!(age().abs() < 1e-9);
        times.oldest(Some(Timestamp::now().plus_micros(-90_000_000)));
        let first = age();
        assert!((90.0..100.0).contains(&first), "{first}");
        assert!(age() > first, "nothing was noted meanwhile");
        times.oldest(Some(Timestamp::now().plus_micros(90_000_000)));
        assert!(age().abs() < 1e-9, "a clock that is ahead");
        times.oldest(None);
        assert!(age().abs() < 1e-9);
    }

    #[test]
    fn the_last_success_is_a_time_or_0() {
        let registry = Registry::new();
        let times = Times::on(&registry, "store").unwrap();
        let last = || shown(&registry, "telltale_last_success_timestamp_seconds");
        assert!(last().abs() < 1e-9);
        times.succeeded();
        assert!((Timestamp::now().as_seconds() - last()).abs() < 10.0);
    }
}
