//! What the gateway counts.
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The gateway's metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    connections: IntGauge,
    refused: IntCounterVec,
}

/// An open connection: counted while it lives.
#[derive(Debug)]
pub(crate) struct Connection(IntGauge);

impl Metrics {
    /// Registered with that registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let connections = IntGauge::new(
            "telltale_gateway_connections",
            "Connections of HTTP clients that are open.",
        )?;
        registry.register(Box::new(connections.clone()))?;
        let refused = IntCounterVec::new(
            Opts::new(
                "telltale_gateway_refused_total",
                "Requests whose token was not good, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { connections, refused })
    }

    /// Requests that were refused for their token, by reason.
    pub(crate) fn refused(&self) -> IntCounterVec {
        self.refused.clone()
    }

    /// One more connection.
    pub(crate) fn connection(&self) -> Connection {
        self.connections.inc();
        Connection(self.connections.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
