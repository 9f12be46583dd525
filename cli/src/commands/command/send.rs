//! `telltale command send THING NAME [INPUT]`.
use super::super::{exit::Refused, interrupt::Interrupt, reach, thing::named};
use crate::context::Context;
use anyhow::Context as _;
use futures::StreamExt as _;
use std::{io::Write as _, process::ExitCode, time::Duration};
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::{Client, Subscriber},
    header,
    publish::{Options, Outgoing, Publisher},
    rights,
};
use telltale_schemas::{
    Command, Envelope, Outcome, Timestamp, duration, id,
    kinds::State,
    strict::{self, Limits},
};
use ulid::Ulid;

pub(super) const EXAMPLES: &str = "Examples:
  telltale command send lamp-3 dim '{\"level\":80}' --expires 5m
  telltale command send lamp-3 on true --key switch-7 --wait";

/// What an input may be.
const INPUT: Limits = Limits {
    bytes: 16 * 1024,
    depth: 32,
};
/// Beyond its expiry a command that was sent still has its grace.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told, to whom, and until when.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// The thing that is told
    thing: String,
    /// An action or a property of its description
    name: String,
    /// What the action is called with, or the property set to, as JSON
    #[arg(allow_hyphen_values = true)]
    input: Option<String>,
    /// How long it is worth carrying out: 30s, 5m, 1d
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    expires: String,
    /// 0 to 9, larger first among the commands of the thing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Not delivered before that time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// A key of your own: sent again with it, it is still one command
    #[arg(long)]
    key: Option<String>,
    /// Wait for its end, print the state, and fail unless it succeeds
    #[arg(long)]
    wait: bool,
}

impl Send {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = named(&self.thing)?;
        let (envelope, outgoing) = self.command(ctx, &thing)?;
        let nats = reach::nats(ctx).await?;
        let interrupt = Interrupt::listen()?;
        let mut outcomes = None;
        if self.wait {
            // Before it is sent: nothing of it is missed.
            let outcomes_of_thing = nats.subscribe(Lane::Outcome.filter_thing(&thing)).await;
            outcomes = Some(outcomes_of_thing.context("listen to outcomes")?);
            nats.flush().await.context("listen to outcomes")?;
        }
        publish(&nats, outgoing).await?;
        writeln!(std::io::stdout().lock(), "{}", envelope.id)?;
        let Some(mut outcomes) = outcomes else {
            return Ok(ExitCode::SUCCESS);
        };
        tokio::select! {
            ended = end(&mut outcomes, &envelope) => told(&ended?),
            () = interrupt.drain.cancelled() => Err(Refused::failed("stopped before it ended").into()),
        }
    }

    fn command(&self, ctx: &Context, thing: &Name) -> anyhow::Result<(Envelope<Command>, Outgoing)> {
        let name = Name::new(self.name.as_str())
            .map_err(|error| Refused::usage(format!("`{}` is no name: {error}", self.name)))?;
        let input = match &self.input {
            None => serde_json::Value::Null,
            Some(text) => strict::parse(text.as_bytes(), &INPUT).map_err(|error| {
                let refused = Refused::usage(format!("the input is no JSON: {error}"));
                refused.hint("a text is written with its quotes: '\"on\"'")
            })?,
        };
        let span = duration::parse(&self.expires).filter(|span| !span.is_zero());
        let span = span.ok_or_else(|| {
            Refused::usage(format!(
                "--expires `{}` is no duration; say 30s, 5m or 1d",
                self.expires
            ))
        })?;
        let start = self.start.as_deref().map(Timestamp::parse).transpose();
        let start = start.map_err(|error| Refused::usage(format!("--start: {error}")))?;
        if let Some(key) = self.key.as_deref().filter(|key| !id::is_key(key)) {
            let refused = format!("--key `{key}` is no key: 1 to 128 printable ASCII characters");
            return Err(Refused::usage(refused).into());
        }
        let key = self.key.clone().unwrap_or_else(|| Ulid::generate().to_string());
        let now = Timestamp::now();
        let data = Command {
            priority: self.priority,
            start,
            ..Command::new(name.plain(), input)
        };
        let id = id::of(thing.plain(), &key);
        let source = format!("/{}/telltale", ctx.site.plain());
        let mut envelope = Envelope::new(&id, source, thing.plain(), now, data);
        let traceparent = id::traceparent(&id);
        envelope.publisher = Some(rights::OPERATOR.to_owned());
        envelope.protocol = Some("nats".to_owned());
        envelope.traceparent = Some(traceparent.clone());
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        envelope.expirytime = Some(now.plus_micros(micros));
        let payload = serde_json::to_vec(&envelope).context("write the command")?;
        let outgoing = Outgoing {
            subject: Subject::named(Lane::Command, ctx.site.clone(), thing.clone(), name).to_string(),
            headers: vec![
                (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
                (header::TRACEPARENT, traceparent),
                (header::MSG_ID, id),
            ],
            payload: payload.into(),
            stream: Lane::Command.stream(),
        };
        Ok((envelope, outgoing))
    }
}

async fn publish(nats: &Client, outgoing: Outgoing) -> anyhow::Result<()> {
    let publisher = Publisher::new(nats.clone(), Options::default());
    let sent = publisher.send(outgoing).await;
    sent.map_err(|error| Refused::precondition(format!("the command was not taken: {error}")))?;
    Ok(())
}

/// The end of that command.
async fn end(outcomes: &mut Subscriber, command: &Envelope<Command>) -> anyhow::Result<Outcome> {
    let left = command
        .expirytime
        .map_or(0, |expires| expires.as_micros() - Timestamp::now().as_micros());
    let left = Duration::from_micros(u64::try_from(left).unwrap_or_default()) + PATIENCE;
    let ended = async {
        while let Some(message) = outcomes.next().await {
            let outcome: Option<Envelope<Outcome>> = serde_json::from_slice(&message.payload).ok();
            if let Some(outcome) = outcome
                && outcome.data.command == command.id
                && outcome.data.state.is_terminal()
            {
                return Ok(outcome.data);
            }
        }
        Err(Refused::failed("the connection to NATS was closed"))
    };
    let ended = tokio::time::timeout(left, ended).await;
    let late = || {
        let told = Refused::failed(format!("no end of `{}` was told in time", command.id));
        told.hint("see whether actuate runs: `telltale status`")
    };
    Ok(ended.map_err(|_| late())??)
}

fn told(ended: &Outcome) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if ended.output.is_null() {
        writeln!(out, "{}", ended.state.word())?;
    } else {
        writeln!(out, "{} {}", ended.state.word(), ended.output)?;
    }
    if ended.state == State::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    let why = ended
        .problem
        .clone()
        .unwrap_or_else(|| "no reason was told".to_owned());
    Err(Refused::failed(format!("the command ended as {}: {why}", ended.state.word())).into())
}
