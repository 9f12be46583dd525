//! End to end and against real servers: nats-server and PostgreSQL, one set for each test or module.
mod bridging;
mod commands;
mod conformance;
mod roads;
mod standing;
mod storage;
