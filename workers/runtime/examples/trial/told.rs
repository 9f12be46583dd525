//! What a record's name makes the worker do; its value says how much of it.
use std::{path::Path, time::Duration};
use telltale_runtime::prelude::*;

/// One event for each reading, unless a record says otherwise.
pub(crate) async fn obey(records: &[Record], attempt: u32, gate: Option<&Path>) -> Verdict<Event> {
    let mut event = Event::new("done");
    for record in records {
        let value = record.v.unwrap_or_default();
        match record.n.as_str() {
            "retry" if f64::from(attempt) <= value => return Err(anyhow::anyhow!("told to fail").into()),
            "panic" => panic!("told to panic"),
            "abort" => std::process::abort(),
            "hang" => std::future::pending().await,
            "slow" => tokio::time::sleep(Duration::from_secs_f64(value / 1e3)).await,
            "wait" => {
                while !gate.is_some_and(Path::exists) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            "reject" => return Err(Failure::reject("unit")),
            "outage" if !gate.is_some_and(Path::exists) => {
                return Err(Failure::outage(anyhow::anyhow!("the gate is shut")));
            }
            "undeclared" => event = Event::new("surprise"),
            "silent" => return Ok(Emit::none()),
            _ => {}
        }
    }
    Ok(Emit::one(event.with("attempt", attempt)))
}
