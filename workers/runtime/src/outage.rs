//! Holding while something that the worker needs is away.
use crate::{backoff, health::Check};
use prometheus::IntGauge;
use std::time::Duration;
use tokio::time::Instant;

/// Whether work may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// As much as there is room for.
    All,
    /// One piece, to see whether the outage is over.
    One,
    /// None.
    None,
}

/// One for a worker: whatever is away, the whole worker holds.
#[derive(Debug)]
pub(crate) struct Outage {
    check: Check,
    gauge: IntGauge,
    first: Duration,
    /// Attempts that failed, and when the next one may begin.
    failed: u32,
    until: Option<Instant>,
}

impl Outage {
    pub(crate) fn new(check: Check, gauge: IntGauge, first: Duration) -> Self {
        check.set_ready();
        Self {
            check,
            gauge,
            first,
            failed: 0,
            until: None,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// When to try again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Something turned out to be away. What began before the outage and fails in it does not lengthen it.
    pub(crate) fn begin(&mut self, why: &str) {
        if self.until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.failed += 1;
        let pause = backoff::jittered(self.first, self.failed);
        self.until = Some(Instant::now() + pause);
        self.gauge.set(1);
        self.check.set_unready(why);
        if self.failed == 1 {
            tracing::warn!("holding: {why}");
        } else {
            tracing::info!(failed = self.failed, "still holding: {why}");
        }
    }

    /// Something succeeded. It counts only if it was begun to find out.
    pub(crate) fn succeeded(&mut self) {
        if self.until.is_none_or(|until| Instant::now() < until) {
            return;
        }
        tracing::info!(failed = self.failed, "no longer holding");
        self.until = None;
        self.failed = 0;
        self.gauge.set(0);
        self.check.set_ready();
    }

    /// What may begin, where nothing is on its way (`idle`) or something is.
    pub(crate) fn permit(&self, idle: bool) -> Permit {
        match self.until {
            None => Permit::All,
            Some(until) if idle && Instant::now() >= until => Permit::One,
            Some(_) => Permit::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;

    #[tokio::test(start_paused = true)]
    async fn an_outage_lets_one_attempt_through_after_each_pause_and_ends_with_its_success() {
        let health = Health::default();
        let gauge = IntGauge::new("holding", "x").unwrap();
        let mut outage = Outage::new(health.check("work"), gauge.clone(), Duration::from_millis(200));
        assert_eq!(outage.permit(false), Permit::All);
        outage.begin("database is away");
        outage.begin("database is away");
        outage.succeeded();
        assert!(outage.is_on(), "what began before does not end it");
        assert_eq!((gauge.get(), health.is_ready()), (1, false));
        assert_eq!(outage.permit(true), Permit::None);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(outage.permit(false), Permit::None, "one at a time");
        assert_eq!(outage.permit(true), Permit::One);
        outage.begin("database is away");
        assert_eq!((outage.failed, outage.permit(true)), (2, Permit::None));
        tokio::time::advance(Duration::from_millis(400)).await;
        outage.succeeded();
        assert_eq!(
            (outage.permit(false), gauge.get(), health.is_ready()),
            (Permit::All, 0, true)
        );
    }
}
