//! Streams, durables, rights and publishing against a real nats-server.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
pub(crate) mod broker;
mod membrane;
mod provisioning;
mod publishing;
mod rules_watch;

use broker::{Broker, Connection, PATIENCE};
use telltale_nats::{Lane, Manifest, Outgoing};
use telltale_tests::subject;

fn manifest(json: &str) -> Manifest {
    Manifest::parse(json.as_bytes()).unwrap()
}

fn validate() -> Manifest {
    manifest(
        r#"{"name":"validate","inputs":["raw"],"outputs":["valid"],"buckets":["things"],"api":["holds"]}"#,
    )
}

fn store() -> Manifest {
    manifest(r#"{"name":"store","inputs":["annotated","derived","event","outcome","thing","quarantine"]}"#)
}

fn over_limit() -> Manifest {
    manifest(r#"{"name":"over-limit","inputs":["annotated"],"outputs":["event"],"events":["over_limit"]}"#)
}

/// A message on a lane about that thing; its last token is `name` where the lane has one.
fn on(lane: Lane, thing: impl Into<String>, name: &str) -> Outgoing {
    outgoing(subject(lane, thing, name), None, lane.stream())
}

fn outgoing(subject: impl Into<String>, id: Option<&str>, stream: &'static str) -> Outgoing {
    Outgoing {
        subject: subject.into(),
        headers: id
            .map(|id| (telltale_nats::header::MSG_ID, id.to_owned()))
            .into_iter()
            .collect(),
        payload: "{}".into(),
        stream,
    }
}
