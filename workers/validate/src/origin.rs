//! Where a raw message came from: what the bridge sealed, else what the broker knows.
use std::sync::Once;
use telltale_nats::{
    header,
    seal::{self, Key},
};
use telltale_runtime::{Delivery, delivery::Raw, verdict::Intake};
use telltale_schemas::{Refusal, Timestamp, id};

/// Publisher and protocol of what came over NATS directly, or claims more than it can prove.
const NATS: &str = "nats";

/// Who brought a message, how, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// What the bridge called it.
    sealed_id: Option<String>,
    pub(crate) received: Timestamp,
    pub(crate) publisher: Option<String>,
    pub(crate) protocol: String,
    /// Whether it may be of any age.
    pub(crate) backfill: bool,
}

impl Origin {
    pub(crate) fn of(raw: &Raw, key: Option<&Key>) -> Self {
        if !is_sealed(raw, key) {
            return Self::received_at(raw.stored);
        }
        let text = |name| raw.header(name).map(str::to_owned);
        let received = raw
            .header(header::RECEIVED)
            .and_then(|text| Timestamp::parse(text).ok());
        Self {
            sealed_id: text(header::ID),
            received: received.unwrap_or(raw.stored),
            publisher: text(header::PUBLISHER),
            protocol: text(header::PROTOCOL).unwrap_or_else(|| NATS.to_owned()),
            backfill: raw.header(header::BACKFILL) == Some("1"),
        }
    }

    /// Of what nothing is believed but when the broker had it.
    pub(crate) fn received_at(received: Timestamp) -> Self {
        Self {
            sealed_id: None,
            received,
            publisher: Some(NATS.to_owned()),
            protocol: NATS.to_owned(),
            backfill: false,
        }
    }

    /// What is kept of it, with a row or with an entry in the quarantine.
    pub(crate) fn intake(&self) -> Intake {
        Intake {
            recordedtime: Some(self.received),
            protocol: Some(self.protocol.clone()),
            publisher: self.publisher.clone(),
            ..Intake::default()
        }
    }

    /// The reading's id: the bridge's, else the publisher's own key, else, where equal payloads are one reading, the
    /// payload's hash, else its place in RAW.
    pub(crate) fn id(
        &self,
        raw: &Delivery<Raw>,
        key: Option<String>,
        sequenced: bool,
    ) -> Result<String, Refusal> {
        let wrong = |pointer: &str, message: String| Refusal::at("id", pointer, message);
        if let Some(sealed) = &self.sealed_id {
            let own = sealed
                .strip_prefix(raw.thing())
                .and_then(|rest| rest.strip_prefix(':'));
            return match own {
                Some(key) if id::is_key(key) => Ok(sealed.clone()),
                _ => Err(wrong("", format!("the bridge's id is none of `{}`", raw.thing()))),
            };
        }
        match (key, raw.cause.rawseq) {
            (Some(key), _) if id::is_key(&key) => Ok(id::of(raw.thing(), &key)),
            (Some(_), _) => Err(wrong("/id", "not 1 to 128 printable ASCII characters".to_owned())),
            (None, _) if sequenced => Ok(id::of(raw.thing(), &id::digest(&raw.payload))),
            (None, Some(rawseq)) => Ok(id::of(raw.thing(), &rawseq.to_string())),
            (None, None) => Ok(raw.cause.id.clone()),
        }
    }
}

fn is_sealed(raw: &Raw, key: Option<&Key>) -> bool {
    static FOREIGN: Once = Once::new();
    let Some(key) = key else { return false };
    let is_valid = seal::verify(key, &raw.subject, |name| raw.header(name), &raw.payload);
    if !is_valid && raw.header(header::SEAL).is_some() {
        // Anybody on NATS can cause this; said once, because a bridge with another key would cause it always.
        FOREIGN.call_once(|| {
            tracing::warn!(
                subject = raw.subject,
                "a seal that is not ours: forged, or the bridge has another key"
            );
        });
    }
    is_valid
}
