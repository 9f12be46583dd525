//! Turns what devices send into readings, or says why it cannot.
//!
//! It judges what one message can tell alone: how it is written, the types and units of its values, when it was
//! measured, and which values are missing or out of range. What needs neighbours is `process`'s business.
mod location;
mod origin;
mod place;
mod policy;
mod reading;

use origin::Origin;
use std::path::PathBuf;
use telltale_nats::seal::Key;
use telltale_runtime::{
    delivery::Raw,
    prelude::*,
    things::{self, Policies},
    verdict::Intake,
};
use telltale_schemas::{Refusal, decode};

/// Largest payload, in bytes; the bridge refuses more, a publisher on NATS may send it all the same.
const PAYLOAD_MAX: usize = 256 * 1024;

/// What `validate` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the key of the bridge's seal. Without it no header of a message is believed.
    #[arg(long, env = "TELLTALE_SEAL_KEY_FILE", value_name = "FILE")]
    seal_key_file: Option<PathBuf>,
}

/// The worker.
#[derive(Debug)]
pub struct Validate {
    policies: Policies,
    key: Option<Key>,
}

impl Validate {
    /// One that goes by these policies, and believes what is sealed with that key.
    pub fn new(policies: Policies, key: Option<Key>) -> Self {
        Self { policies, key }
    }
}

impl Worker for Validate {
    const NAME: &'static str = "validate";
    type Input = Raw;
    type Output = Reading;
    type Args = Args;
    const BUCKETS: &'static [&'static str] = &[things::BUCKET];
    const API: &'static [&'static str] = &[things::HOLDS];

    async fn start(args: Args, at: &Resources) -> anyhow::Result<Self> {
        let key = args.seal_key_file.map(Key::read).transpose()?;
        if key.is_none() {
            tracing::warn!(
                "no key of the bridge's seal: ids, times of receipt and publishers are not believed"
            );
        }
        Ok(Self::new(at.policies().await?, key))
    }

    async fn handle(&self, raw: Delivery<Raw>) -> Verdict<Reading> {
        let origin = Origin::of(&raw, self.key.as_ref());
        let draft = self.judge(&raw, &origin).await;
        // Kept with what is refused as with what is not.
        let draft = draft.map_err(|failure| failure.taken_in(origin.intake()))?;
        Ok(Emit::draft(draft))
    }
}

impl Validate {
    async fn judge(&self, raw: &Delivery<Raw>, origin: &Origin) -> Result<Draft<Reading>, Failure> {
        let content_type = raw.header(telltale_nats::header::CONTENT_TYPE);
        if raw.payload.len() > PAYLOAD_MAX {
            let message = format!("{} bytes are more than {PAYLOAD_MAX}", raw.payload.len());
            return Err(reject(Refusal::at("size", "", message)));
        }
        let decoded = decode::decode(content_type, &raw.payload, Some(raw.thing()), origin.received);
        let mut decoded = decoded.map_err(reject)?;
        // Nothing is expected of a thing that nobody registered.
        let policy = self.policies.of(raw.thing()).await?.unwrap_or_default();
        let id = origin.id(raw, decoded.key.take(), policy.sequenced);
        let id = id.map_err(reject)?;
        let is_relative = decoded.is_relative;
        let made = reading::make(decoded, &policy, origin).map_err(|wrong| {
            reject(Refusal {
                reason: wrong.reason,
                faults: wrong.faults(|index, part| place::of(raw, origin, index, part)),
            })
        })?;
        let intake = Intake {
            // Where they are the same, that tells it already.
            relativetime: is_relative && made.time != origin.received,
            rawseq: raw.cause.rawseq,
            ..origin.intake()
        };
        Ok(Draft::new(made.reading).keyed(id).at(made.time).taken_in(intake))
    }
}

fn reject(refusal: Refusal) -> Failure {
    Failure::reject_for(refusal.reason, refusal.faults)
}

#[cfg(test)]
mod tests;
