//! What is counted. Labels come from enumerations alone, never from a message.
mod times;

use crate::health::Health;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use telltale_nats::Lane;
use times::Times;

/// Reasons of quarantine that are counted by name; any other counts as `other`.
pub(crate) const REASONS: [&str; 26] = [
    "json",
    "duplicate_key",
    "depth",
    "number",
    "utf8",
    "size",
    "records",
    "shape",
    "name",
    "senml",
    "version",
    "cbor",
    "cloudevent",
    "content_type",
    "subject",
    "id",
    "type",
    "unit",
    "time",
    "schema",
    "undecodable",
    "attempts",
    "panic",
    "timeout",
    "database",
    "other",
];

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something followed from it.
    Emitted,
    /// Nothing did.
    Filtered,
    /// To the quarantine.
    Rejected,
    /// To be tried again.
    Failed,
    /// To the worker's own lane, where it is handled alone.
    Redone,
}

impl Outcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Emitted, "emitted"),
        (Self::Filtered, "filtered"),
        (Self::Rejected, "rejected"),
        (Self::Failed, "failed"),
        (Self::Redone, "redone"),
    ];
}

/// The counters of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    received: Vec<(Lane, IntCounter)>,
    processed: Vec<(Outcome, IntCounter)>,
    published: Vec<(Lane, IntCounter)>,
    quarantined: Vec<(&'static str, IntCounter)>,
    unkept: Vec<(&'static str, IntCounter)>,
    /// Deliveries that were not the first of their message.
    pub(crate) redeliveries: IntCounter,
    /// Time in the worker's own code.
    pub(crate) handle_seconds: Histogram,
    /// Messages in hand.
    pub(crate) in_flight: IntGauge,
    /// Whether the worker holds because something it needs is away.
    pub(crate) holding: IntGauge,
    /// How old the oldest message in hand is, and when one was last done with.
    pub(crate) times: Times,
}

impl Metrics {
    /// Registers all of them, at 0.
    pub(crate) fn new(
        registry: &Registry,
        stage: &str,
        reads: &[Lane],
        writes: &[Lane],
    ) -> prometheus::Result<Self> {
        let counters = |name, help, label| counters(registry, name, help, label);
        let received = counters(
            "telltale_messages_received_total",
            "Messages delivered to this stage, by lane.",
            "kind",
        )?;
        let processed = counters(
            "telltale_processed_total",
            "Messages by how they ended.",
            "outcome",
        )?;
        let published = counters(
            "telltale_published_total",
            "Messages confirmed by the broker.",
            "kind",
        )?;
        let quarantined = counters(
            "telltale_quarantined_total",
            "Messages quarantined, by reason.",
            "reason",
        )?;
        let unkept = counters(
            "telltale_unkept_total",
            "Messages refused while the quarantine of their subject was full, by reason.",
            "reason",
        )?;
        let redeliveries = IntCounterVec::new(
            Opts::new(
                "telltale_redeliveries_total",
                "Deliveries that were not the first of their message.",
            ),
            &["stage"],
        )?;
        registry.register(Box::new(redeliveries.clone()))?;
        let handle = handle_seconds(registry)?;
        let by_reason = |family: &IntCounterVec| {
            REASONS
                .iter()
                .map(|reason| (*reason, family.with_label_values(&[stage, reason])))
                .collect()
        };
        let by_lane = |family: &IntCounterVec, lanes: &[Lane]| {
            lanes
                .iter()
                .map(|lane| (*lane, family.with_label_values(&[stage, lane.word()])))
                .collect()
        };
        Ok(Self {
            received: by_lane(&received, reads),
            published: by_lane(&published, writes),
            processed: Outcome::ALL
                .iter()
                .map(|(outcome, word)| (*outcome, processed.with_label_values(&[stage, word])))
                .collect(),
            quarantined: by_reason(&quarantined),
            unkept: by_reason(&unkept),
            redeliveries: redeliveries.with_label_values(&[stage]),
            handle_seconds: handle.with_label_values(&[stage]),
            in_flight: gauge(registry, stage, "telltale_in_flight", "Messages in hand.")?,
            holding: gauge(
                registry,
                stage,
                "telltale_holding",
                "1 while something that the stage needs is away.",
            )?,
            times: Times::on(registry, stage)?,
        })
    }

    pub(crate) fn received(&self, lane: Lane) {
        bump(&self.received, lane);
    }

    pub(crate) fn published(&self, lane: Lane) {
        bump(&self.published, lane);
    }

    pub(crate) fn processed(&self, outcome: Outcome) {
        bump(&self.processed, outcome);
    }

    pub(crate) fn quarantined(&self, reason: &str) {
        bump_reason(&self.quarantined, reason);
        self.processed(Outcome::Rejected);
    }

    /// Refused, and the quarantine had no room for it.
    pub(crate) fn unkept(&self, reason: &str) {
        bump_reason(&self.unkept, reason);
        self.processed(Outcome::Rejected);
    }
}

fn handle_seconds(registry: &Registry) -> prometheus::Result<HistogramVec> {
    let handle = HistogramVec::new(
        HistogramOpts::new(
            "telltale_handle_duration_seconds",
            "Time in the worker's own code.",
        )
        .buckets(vec![
            0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
        ]),
        &["stage"],
    )?;
    registry.register(Box::new(handle.clone()))?;
    Ok(handle)
}

fn bump_reason(counters: &[(&'static str, IntCounter)], reason: &str) {
    let known = counters.iter().find(|(name, _)| *name == reason);
    if let Some((_, counter)) = known.or(counters.last()) {
        counter.inc();
    }
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let family = IntCounterVec::new(Opts::new(name, help), &["stage", label])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(registry: &Registry, stage: &str, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let family = IntGaugeVec::new(Opts::new(name, help), &["stage"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family.with_label_values(&[stage]))
}

fn bump<K: PartialEq + Copy>(counters: &[(K, IntCounter)], key: K) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == key) {
        counter.inc();
    }
}

/// Whether all checks of the process are ready, as it is when somebody asks.
struct Ready {
    health: Health,
    gauge: IntGauge,
}

impl Collector for Ready {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(self.health.is_ready().into());
        self.gauge.collect()
    }
}

/// The readiness of the process, as a metric.
pub(crate) fn of_health(registry: &Registry, health: &Health) -> prometheus::Result<()> {
    registry.register(Box::new(Ready {
        health: health.clone(),
        gauge: IntGauge::new(
            "telltale_ready",
            "1 while all that the process needs is there, as /readyz says",
        )?,
    }))
}

/// Which of the copies of a worker in order reads.
pub(crate) fn active(registry: &Registry) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(
        "telltale_active",
        "1 while this copy of a worker in order reads, 0 while it stands by",
    )?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// What every process shows: which build it is, and what it takes.
pub(crate) fn of_process(registry: &Registry) -> prometheus::Result<()> {
    let build = IntGaugeVec::new(
        Opts::new("telltale_build_info", "1, labelled with what runs."),
        &["version", "commit", "schema"],
    )?;
    registry.register(Box::new(build.clone()))?;
    build
        .with_label_values(&[
            env!("CARGO_PKG_VERSION"),
            option_env!("TELLTALE_COMMIT").unwrap_or("unknown"),
            "v1",
        ])
        .set(1);
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start_and_a_strange_reason_counts_as_other() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, "validate", &[Lane::Raw], &[Lane::Valid]).unwrap();
        let text = |registry: &Registry| {
            prometheus::TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        let before = text(&registry);
        for line in [
            r#"telltale_messages_received_total{kind="raw",stage="validate"} 0"#,
            r#"telltale_processed_total{outcome="rejected",stage="validate"} 0"#,
            r#"telltale_quarantined_total{reason="json",stage="validate"} 0"#,
            r#"telltale_in_flight{stage="validate"} 0"#,
            r#"telltale_redeliveries_total{stage="validate"} 0"#,
            r#"telltale_oldest_pending_seconds{stage="validate"} 0"#,
            r#"telltale_last_success_timestamp_seconds{stage="validate"} 0"#,
        ] {
            assert!(before.contains(line), "{line} in {before}");
        }
        metrics.quarantined("made_up_by_an_extension");
        assert!(text(&registry).contains(r#"telltale_quarantined_total{reason="other",stage="validate"} 1"#));
    }
}
