//! Streams, durables, rights and publishing against a real nats-server.
