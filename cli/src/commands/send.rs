//! `telltale send THING JSON`: one reading through the bridge, as a device would.
use super::{
    courier::{Bridge, Courier, Parcel, Receipt},
    exit::Refused,
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};
use telltale_schemas::id;

const EXAMPLES: &str = "Examples:
  telltale send road-weather-001 '{\"surface_temperature\":-0.85}'
  telltale send road-weather-001 - --id my-own-7 < reading.json";

/// Send one reading through the bridge, and print its id
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Send {
    /// The thing that it is about
    thing: String,
    /// The payload: plain JSON, SenML or a CloudEvent; `-` for stdin
    #[arg(allow_hyphen_values = true)]
    json: String,
    /// The publisher's own id: sent again, it is the same reading
    #[arg(long)]
    id: Option<String>,
    /// The media type; by default what the payload looks like
    #[arg(long, value_enum, default_value = "json")]
    content_type: Media,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Media {
    Json,
    Senml,
    SenmlCbor,
    Cloudevent,
}

impl Send {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(key) = self.id.as_deref().filter(|key| !id::is_key(key)) {
            return Err(
                Refused::usage(format!("`{key}` is no id: 1 to 128 printable ASCII characters")).into(),
            );
        }
        let body = if self.json == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("read stdin")?;
            bytes
        } else {
            self.json.into_bytes()
        };
        let content_type = match (
            self.content_type,
            body.iter().find(|byte| !byte.is_ascii_whitespace()),
        ) {
            (Media::Senml, _) | (Media::Json, Some(b'[')) => "application/senml+json",
            (Media::SenmlCbor, _) => "application/senml+cbor",
            (Media::Cloudevent, _) => "application/cloudevents+json",
            // What `curl -d` sends: the bridge's side looks at the payload itself.
            (Media::Json, _) => "application/x-www-form-urlencoded",
        };
        let ctx = Context::find()?;
        let bridge = Bridge::new(reach::get(&ctx, "BRIDGE_URL")?, reach::get(&ctx, "BRIDGE_TOKEN")?)?;
        let parcel = Parcel {
            thing: self.thing,
            key: self.id,
            content_type,
            body: body.into(),
        };
        let sent = Courier::new(bridge).once(&parcel).await;
        let receipt = sent.context(Refused::precondition("the bridge did not take it"))?;
        match receipt {
            Receipt::Accepted(id) => {
                writeln!(std::io::stdout().lock(), "{id}")?;
                Ok(ExitCode::SUCCESS)
            }
            Receipt::Refused { status, problem } => {
                let refused = match status {
                    401 | 403 => {
                        Refused::unauthorised(format!("the bridge refuses it ({status}): {problem}"))
                    }
                    _ => Refused::failed(format!("the bridge refuses it ({status}): {problem}")),
                };
                Err(refused.into())
            }
            Receipt::Stopped => Err(Refused::failed("stopped").into()),
        }
    }
}
