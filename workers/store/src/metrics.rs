//! What is counted.
use crate::Storable;
use crate::settle::Settled;
use prometheus::{Error, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::HashSet;
use std::time::Duration;
use telltale_runtime::Delivery;
use telltale_schemas::Timestamp;

/// What became of rows: new; there before; no reading, but a row elsewhere; refused.
const OUTCOMES: [&str; 4] = ["stored", "known", "other", "refused"];

#[derive(Debug)]
pub(crate) struct Metrics {
    batch_rows: Histogram,
    commit_duration: Histogram,
    ingest_to_row: Histogram,
    rows: IntCounterVec,
}

impl Metrics {
    pub(crate) fn on(registry: &Registry) -> Result<Self, Error> {
        let sizes = vec![
            1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 1e5,
        ];
        let times = vec![
            0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0,
            3_600.0,
        ];
        let histogram = |name: &str, help: &str, buckets: &Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.clone()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, Error>(histogram)
        };
        let rows = IntCounterVec::new(
            Opts::new(
                "telltale_store_rows_total",
                "Rows of readings, and messages that are none, by outcome",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(rows.clone()))?;
        for outcome in OUTCOMES {
            rows.with_label_values(&[outcome]).reset();
        }
        Ok(Self {
            batch_rows: histogram(
                "telltale_store_batch_rows",
                "Rows and messages in one batch",
                &sizes,
            )?,
            commit_duration: histogram(
                "telltale_store_commit_duration_seconds",
                "From a batch in hand to its commit",
                &times,
            )?,
            ingest_to_row: histogram(
                "telltale_ingest_to_row_seconds",
                "From the receipt of a reading to its commit",
                &times,
            )?,
            rows,
        })
    }

    pub(crate) fn settled(&self, inputs: &[Delivery<Storable>], settled: &Settled, took: Duration) {
        let written = settled.written;
        let refused = settled.refused.len() as u64;
        let counts = [written.stored, written.known, written.others, refused];
        self.batch_rows.observe(counts.iter().sum::<u64>() as f64);
        self.commit_duration.observe(took.as_secs_f64());
        for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
            self.rows.with_label_values(&[outcome]).inc_by(count);
        }
        let now = Timestamp::now();
        let refused = settled.refused.iter().map(|(index, _)| *index);
        let without: HashSet<usize> = settled.held.iter().copied().chain(refused).collect();
        for (index, delivery) in inputs.iter().enumerate() {
            let is_row = matches!(delivery.data, Storable::Observation(_)) && !without.contains(&index);
            if let Some(received) = delivery.cause.recordedtime.filter(|_| is_row) {
                self.ingest_to_row
                    .observe((now.as_micros() - received.as_micros()).max(0) as f64 / 1e6);
            }
        }
    }
}

/// Of the balance, as it was at the last look.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    pub(crate) missing: IntGaugeVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) messages: IntGaugeVec,
    pub(crate) settled: IntGaugeVec,
    pub(crate) open: IntGaugeVec,
    pub(crate) waiting: IntGaugeVec,
    pub(crate) floor: IntGaugeVec,
}

impl Gauges {
    pub(crate) fn on(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, Error>(gauge)
        };
        Ok(Self {
            missing: gauge(
                "telltale_balance_missing",
                "Accepted messages that have no fate and are not under way",
                &["site"],
            )?,
            in_flight: gauge(
                "telltale_balance_in_flight",
                "Accepted messages that have no fate yet",
                &["site"],
            )?,
            messages: gauge(
                "telltale_balance_messages",
                "Accepted messages by the best that became of them",
                &["site", "fate"],
            )?,
            settled: gauge(
                "telltale_balance_settled_timestamp_seconds",
                "When all that had been accepted shortly before was last found to be seen to",
                &["site"],
            )?,
            open: gauge(
                "telltale_quarantine_open",
                "Entries of the quarantine that are open",
                &["site"],
            )?,
            waiting: gauge(
                "telltale_consumer_waiting",
                "Messages of a stream that a stage has not acknowledged",
                &["stream", "consumer"],
            )?,
            floor: gauge(
                "telltale_consumer_floor",
                "Sequence of a stream up to which a stage has acknowledged all",
                &["stream", "consumer"],
            )?,
        })
    }
}
