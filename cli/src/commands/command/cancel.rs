//! `telltale command cancel THING ID`.
use super::super::{exit::Refused, reach, thing::named};
use crate::context::Context;
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;
use std::{io::Write as _, process::ExitCode};
use telltale_nats::{async_nats::Request, rights, subject};

pub(super) const EXAMPLES: &str = "Examples:
  telltale command cancel lamp-3 lamp-3:switch-7
  telltale command cancel lamp-3 \"$(telltale command send lamp-3 on true --expires 1h)\"";

/// How long actuate may take to answer.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Which command.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The thing that was told
    thing: String,
    /// The command's id, as `send` printed it
    id: String,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
    problem: Option<String>,
}

impl Cancel {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = named(&self.thing)?;
        let nats = reach::nats(ctx).await?;
        let question = json!({ "thing": thing.plain(), "command": self.id, "by": rights::OPERATOR });
        let request = Request::new()
            .payload(question.to_string().into())
            .timeout(Some(ANSWER_WITHIN));
        let subject = subject::api(&ctx.site, "actuate", "cancel");
        let answer = nats.send_request(subject, request).await.map_err(|error| {
            let refused = Refused::precondition(format!("actuate does not answer: {error}"));
            refused.hint("`telltale status` says whether it runs")
        })?;
        let answer: Answer = serde_json::from_slice(&answer.payload).context("read the answer of actuate")?;
        if answer.status != 200 {
            return Err(Refused::failed(answer.problem.unwrap_or_default())
                .hint(format!("`telltale command list {thing}` shows how far it is"))
                .into());
        }
        writeln!(std::io::stdout().lock(), "cancelled")?;
        Ok(ExitCode::SUCCESS)
    }
}
