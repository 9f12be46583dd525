//! Private instances of nats-server and PostgreSQL: prepared here, kept running by the supervisor.
pub mod nats;
pub mod postgres;
