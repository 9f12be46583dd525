//! The next version of a worker, as far as anybody can know it: it adds members that nobody knows yet, and where a
//! reading asks for it, it breaks with today's envelope and writes `v2`.
use serde_json::{Value, json};
use telltale_runtime::{
    Cause, Draft, Emit, Envelope, Inbound, Lane, Outbound, Resources, Verdict, Worker, delivery::Raw,
    lane::DecodeError,
};

/// A record of this name makes the envelope that carries it a `v2`.
pub const BREAKING: &str = "breaking";

/// A worker, its input or its output, one version on.
#[derive(Debug)]
pub struct Newer<T>(T);

impl<W: Worker> Worker for Newer<W> {
    const NAME: &'static str = W::NAME;
    type Input = Newer<W::Input>;
    type Output = Newer<W::Output>;
    type Args = W::Args;
    const EVENTS: &'static [&'static str] = W::EVENTS;
    const COMMANDS: &'static [&'static str] = W::COMMANDS;
    const BUCKETS: &'static [&'static str] = W::BUCKETS;
    const API: &'static [&'static str] = W::API;

    async fn start(args: W::Args, at: &Resources) -> anyhow::Result<Self> {
        W::start(args, at).await.map(Self)
    }

    async fn handle(&self, input: telltale_runtime::Delivery<Newer<W::Input>>) -> Verdict<Newer<W::Output>> {
        let old = telltale_runtime::Delivery {
            data: input.data.0,
            cause: input.cause,
        };
        let drafts = self.0.handle(old).await?.into_drafts();
        Ok(drafts.into_iter().map(newer).fold(Emit::none(), Emit::and_draft))
    }
}

fn newer<O>(draft: Draft<O>) -> Draft<Newer<O>> {
    let mut newer = Draft::new(Newer(draft.message));
    newer.id = draft.id;
    newer.time = draft.time;
    newer.thing = draft.thing;
    newer.intake = draft.intake;
    newer.expirytime = draft.expirytime;
    newer
}

impl<I: Inbound> Inbound for Newer<I> {
    const LANES: &'static [Lane] = I::LANES;

    /// It reads `v2` as well, and what it reads has become what `v1` calls it.
    fn decode(lane: Lane, mut raw: Raw, base: Cause) -> Result<(Self, Cause), DecodeError> {
        if let Ok(mut envelope) = serde_json::from_slice::<Value>(&raw.payload)
            && let Some(older) = envelope["type"]
                .as_str()
                .and_then(|kind| kind.strip_suffix(".v2"))
        {
            envelope["type"] = format!("{older}.v1").into();
            raw.payload = envelope.to_string().into();
        }
        I::decode(lane, raw, base).map(|(data, cause)| (Self(data), cause))
    }
}

impl<O: Outbound> Outbound for Newer<O> {
    const LANES: &'static [Lane] = O::LANES;

    fn lane(&self) -> Lane {
        self.0.lane()
    }

    fn same_id(&self) -> bool {
        self.0.same_id()
    }

    fn name(&self) -> Option<&str> {
        self.0.name()
    }

    fn write(&self, envelope: Envelope<()>) -> Result<Vec<u8>, serde_json::Error> {
        let mut message: Value = serde_json::from_slice(&self.0.write(envelope)?)?;
        message["shift"] = "night".into();
        message["data"]["calibration"] = json!({ "by": "hand", "at": [1, 2] });
        let records = message["data"]["records"].as_array_mut();
        let mut breaks = false;
        for record in records.into_iter().flatten() {
            record["accuracy"] = 0.1.into();
            breaks |= record["n"] == BREAKING;
        }
        if let Some(annotation) = message["data"]["annotation"].as_object_mut() {
            annotation.insert("newer".to_owned(), true.into());
        } else if breaks {
            // Further down all is stored by one table: what breaks is between the two that were renewed together.
            let kind = message["type"].as_str().unwrap_or_default();
            message["type"] = kind.replace(".v1", ".v2").into();
        }
        serde_json::to_vec(&message)
    }
}
