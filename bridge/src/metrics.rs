//! What the bridge counts.
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use telltale_schemas::kinds::State;

/// How a device came in. The word travels to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// MQTT 3.1.1 or 5.
    Mqtt,
    /// MQTT 3.1.1 or 5 by way of a broker that the site has.
    MqttClient,
}

impl Protocol {
    /// The word on the wire and in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mqtt => "mqtt",
            Self::MqttClient => "mqtt_client",
        }
    }
}

/// The bridge's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    sessions: IntGaugeVec,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    outcomes: IntCounterVec,
    answers: IntCounterVec,
    waiting: IntGauge,
}

impl Metrics {
    /// Registered with that registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            sessions: IntGaugeVec::new(
                Opts::new(
                    "telltale_bridge_sessions",
                    "Connections of devices that are open.",
                ),
                &["protocol"],
            )?,
            accepted: IntCounterVec::new(
                Opts::new(
                    "telltale_bridge_accepted_total",
                    "Uplinks that the broker has confirmed.",
                ),
                &["protocol"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "telltale_bridge_refused_total",
                    "Uplinks and logins that were not accepted, by reason.",
                ),
                &["protocol", "reason"],
            )?,
            outcomes: IntCounterVec::new(
                Opts::new(
                    "telltale_bridge_outcomes_total",
                    "What the bridge told of commands, by state.",
                ),
                &["state"],
            )?,
            answers: IntCounterVec::new(
                Opts::new(
                    "telltale_bridge_answers_total",
                    "Answers of devices to commands: taken, late (no command waits for it) or away.",
                ),
                &["protocol", "result"],
            )?,
            waiting: IntGauge::new(
                "telltale_bridge_mqtt_client_waiting",
                "Messages of the site's own broker that it is not told yet that we have.",
            )?,
        };
        registry.register(Box::new(metrics.sessions.clone()))?;
        registry.register(Box::new(metrics.accepted.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.outcomes.clone()))?;
        registry.register(Box::new(metrics.answers.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        for protocol in [Protocol::Http, Protocol::Mqtt, Protocol::MqttClient] {
            metrics.sessions.with_label_values(&[protocol.word()]).set(0);
            metrics.accepted.with_label_values(&[protocol.word()]).inc_by(0);
        }
        Ok(metrics)
    }

    pub(crate) fn accepted(&self, protocol: Protocol) {
        self.accepted.with_label_values(&[protocol.word()]).inc();
    }

    pub(crate) fn outcome(&self, state: State) {
        let word = match state {
            State::Queued => "queued",
            State::Sent => "sent",
            State::Acknowledged => "acknowledged",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::Unknown => "unknown",
        };
        self.outcomes.with_label_values(&[word]).inc();
    }

    pub(crate) fn answer(&self, protocol: Protocol, result: &'static str) {
        self.answers.with_label_values(&[protocol.word(), result]).inc();
    }

    /// `reason` is one of our own words, never what came from outside.
    pub(crate) fn refused(&self, protocol: Protocol, reason: &'static str) {
        self.refused.with_label_values(&[protocol.word(), reason]).inc();
    }

    /// How many messages of the site's own broker wait for their acknowledgement.
    pub(crate) fn waiting(&self, messages: usize) {
        self.waiting.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// Counts a session for as long as the guard lives.
    pub(crate) fn session(&self, protocol: Protocol) -> SessionGauge {
        let gauge = self.sessions.with_label_values(&[protocol.word()]);
        gauge.inc();
        SessionGauge(gauge)
    }
}

/// One open session.
#[derive(Debug)]
pub(crate) struct SessionGauge(prometheus::IntGauge);

impl Drop for SessionGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
