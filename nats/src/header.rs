//! Names of message headers. Values are ASCII.

/// On `raw`: the reading's id, `<thing>:<key>`.
pub const ID: &str = "Telltale-Id";
/// On `raw`: whose credential brought it.
pub const PUBLISHER: &str = "Telltale-Publisher";
/// On `raw`: when the bridge took it, RFC 3339.
pub const RECEIVED: &str = "Telltale-Received";
/// On `raw`: how it came in (`http`, `mqtt`, ...).
pub const PROTOCOL: &str = "Telltale-Protocol";
/// On `raw`: `1` where the credential may bring readings of any age.
pub const BACKFILL: &str = "Telltale-Backfill";
/// On `raw`: HMAC-SHA256 over the headers above, the subject and the payload, lower-case hex.
pub const SEAL: &str = "Telltale-Seal";
/// From `valid` on, and on `redo`: one `<stage>;<attempt>;<start us>;<end us>` for each stage and each failed try,
/// comma-separated, appended by the runtime. The first is `bridge`, or `nats` where it was published directly.
pub const HOPS: &str = "Telltale-Hops";
/// On `redo`: the subject that the message had.
pub const ORIGINAL_SUBJECT: &str = "Telltale-Original-Subject";
/// On `redo`: the RAW sequence that the message stems from, where it stems from one.
pub const ORIGINAL_RAWSEQ: &str = "Telltale-Original-Rawseq";
/// On `redo`: when the original was stored by the broker, RFC 3339.
pub const ORIGINAL_TIME: &str = "Telltale-Original-Time";
/// On `redo.<worker>.again`: how often the message was tried and failed before it came here.
pub const ATTEMPTS: &str = "Telltale-Attempts";
/// On `redo.<worker>.again`: not to be tried before that time, RFC 3339.
pub const RETRY_AT: &str = "Telltale-Retry-At";
/// On `redo`: what named the message in its stream, so that moved twice it is still one.
pub const ORIGINAL_PLACE: &str = "Telltale-Original-Place";
/// On `redo`: the how manieth replay from the quarantine this is, from 1. Refused again, it is another entry.
pub const REPLAY: &str = "Telltale-Replay";
/// On `redo`: the id of the quarantine entry that was replayed.
pub const REPLAYED: &str = "Telltale-Replayed";
/// The media type of the payload.
pub const CONTENT_TYPE: &str = "Content-Type";
/// W3C Trace Context of this hop.
pub const TRACEPARENT: &str = "traceparent";
/// JetStream's duplicate suppression; never on `raw`.
pub const MSG_ID: &str = "Nats-Msg-Id";

/// Headers of an original that go along to `redo`. None of JetStream's own: they would act again.
pub const KEPT_ON_REDO: [&str; 9] = [
    CONTENT_TYPE,
    TRACEPARENT,
    ID,
    PUBLISHER,
    RECEIVED,
    PROTOCOL,
    BACKFILL,
    SEAL,
    HOPS,
];

/// `Content-Type` of one envelope.
pub const CLOUDEVENT: &str = "application/cloudevents+json";
/// `Content-Type` of a pack of envelopes.
pub const CLOUDEVENT_BATCH: &str = "application/cloudevents-batch+json";
