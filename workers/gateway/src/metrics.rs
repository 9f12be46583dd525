//! What the gateway counts.
use prometheus::{IntGauge, Registry};

/// The gateway's metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    connections: IntGauge,
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
        Ok(Self { connections })
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
