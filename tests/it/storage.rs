//! What `store` keeps: rows, fates, and the interface in SQL.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod amendments;
pub(crate) mod database;
mod interface;
mod outage;
mod rows;
mod things;

use bytes::Bytes;
use telltale_runtime::{Cause, Delivery};
use telltale_schemas::{
    Document, Envelope, Observation, Quarantine, RawSeq, Record, Timestamp, kinds::Fault,
};
use telltale_store::Storable;

const EPOCH: u64 = 1_763_000_000;
const TIME: &str = "2026-01-15T07:41:09.25Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time in RFC 3339")
}

fn raw(seq: u64) -> RawSeq {
    RawSeq { epoch: EPOCH, seq }
}

fn number(name: &str, value: f64) -> Record {
    Record {
        v: Some(value),
        ..Record::named(name)
    }
}

fn text(name: &str, value: &str) -> Record {
    Record {
        vs: Some(value.to_owned()),
        ..Record::named(name)
    }
}

fn delivery<D: Document>(id: &str, thing: &str, data: D) -> Delivery<Storable>
where
    Storable: From<D>,
{
    let envelope = Envelope::new(id, "/site/annotate", thing, at(TIME), data);
    let Delivery { data, cause } = Delivery::of(envelope);
    Delivery {
        data: data.into(),
        cause,
    }
}

/// An observation with a time of its own, received a second later.
fn observation(id: &str, seq: u64, records: Vec<Record>) -> Delivery<Storable> {
    let data = Observation {
        records,
        ..Observation::default()
    };
    changed(delivery(id, "t", data), |cause| {
        cause.rawseq = Some(raw(seq));
        cause.recordedtime = Some(at(TIME).plus_micros(1_000_000));
    })
}

fn changed(mut delivery: Delivery<Storable>, change: impl FnOnce(&mut Cause)) -> Delivery<Storable> {
    change(&mut delivery.cause);
    delivery
}

/// What a stage refused.
fn refusal(id: &str, stage: &str, seq: u64, payload: &[u8]) -> Delivery<Storable> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let data = Quarantine {
        stage: stage.to_owned(),
        reason: "json".to_owned(),
        errors: vec![Fault::at("/a", "not a number: \u{0}")],
        attempts: 1,
        generation: 0,
        original: "raw.site.t".to_owned(),
        headers: vec![("telltale-id".to_owned(), "t:told".to_owned())],
        payload: STANDARD.encode(Bytes::copy_from_slice(payload)),
        sha256: "0".repeat(64),
        received: Some(at(TIME)),
    };
    changed(delivery(id, "t", data), |cause| cause.rawseq = Some(raw(seq)))
}
