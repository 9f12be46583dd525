//! End to end and against real servers: nats-server and PostgreSQL, one set for each test or module.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod air_quality;
mod bad_ways;
mod balance;
mod bridging;
mod chaos;
mod commands;
mod conformance;
mod crashes;
mod drains;
mod extension;
mod faults;
mod floods;
mod formats;
mod inputs;
mod journey;
mod outages;
mod points;
mod poison;
mod quarantine;
mod roads;
mod standing;
mod storage;
mod things_drive;
mod things_many;
mod trace;
mod versions;
