//! `telltale tap FILTER`: what passes, as it passes; nothing is consumed.
mod condition;

use super::{exit::Refused, interrupt::Interrupt, output::escaped, reach};
use crate::context::Context;
use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use condition::Condition;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::{self, Client, HeaderValue},
    header,
    subject::parse_pack,
};
use telltale_schemas::{Record, Timestamp, duration, senml};

const EXAMPLES: &str = "Examples:
  telltale tap annotated --limit 10
  telltale tap annotated --thing road-weather-001 --where 'surface_temperature<0' --as json
  telltale tap valid --as senml --limit 1
  telltale tap event --name over_limit";

/// Watch messages pass, from now on; consumes nothing
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Tap {
    /// A lane (`raw`, `valid`, `annotated`, `derived`, `event`, `command`, `outcome`, `thing`, `quarantine`), or a subject with wildcards
    filter: String,
    /// Only of this thing
    #[arg(long)]
    thing: Option<String>,
    /// Only with this last part of the subject: an event's name, a quarantine's reason
    #[arg(long)]
    name: Option<String>,
    /// Only where it holds: `<property><op><value>` with < <= > >= = !=; repeated, all must hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// End after so many
    #[arg(long, short = 'n')]
    limit: Option<u64>,
    /// End after that time: `30s`, `5m`
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    span: Option<Duration>,
    /// How to write a message; lines for people on a terminal, else JSON
    #[arg(long = "as", value_enum)]
    form: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A line for people
    Line,
    /// One JSON document a line, as it is on the wire
    Json,
    /// One `application/senml+json` pack a line
    Senml,
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("`{text}` is no duration such as `30s`"))
}

/// What to listen to, and what of it is meant.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    subject: String,
    lane: Lane,
    /// Token of the thing.
    thing: Option<String>,
    /// Last token.
    name: Option<String>,
}

/// One message, out of its pack.
struct Passed {
    subject: String,
    thing: String,
    document: Value,
}

impl Tap {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let wanted = wanted(
            &self.filter,
            &ctx.site,
            self.thing.as_deref(),
            self.name.as_deref(),
        )?;
        let form = self.form.unwrap_or_else(|| {
            if std::io::stdout().is_terminal() {
                Form::Line
            } else {
                Form::Json
            }
        });
        let nats = reach::nats(&ctx).await?;
        let messages = listen(&nats, &wanted).await?;
        let interrupt = Interrupt::listen()?;
        let end = async {
            match self.span {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        let show = async {
            let mut shown = 0;
            let mut messages = messages;
            while self.limit.is_none_or(|limit| shown < limit) {
                let Some(message) = messages.next().await else {
                    anyhow::bail!("the connection to NATS was closed");
                };
                for passed in unpacked(&message, &wanted) {
                    let meant = self
                        .conditions
                        .iter()
                        .all(|condition| condition.holds(&passed.document));
                    if meant && let Some(line) = written(&passed, form)? {
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "{line}")?;
                        out.flush()?;
                        shown += 1;
                        if self.limit == Some(shown) {
                            break;
                        }
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        };
        tokio::select! {
            done = show => done,
            () = end => Ok(ExitCode::SUCCESS),
            () = interrupt.drain.cancelled() => Ok(ExitCode::from(super::exit::INTERRUPTED)),
        }
    }
}

/// Listens, and knows that the broker knows it before this returns.
async fn listen(nats: &Client, wanted: &Wanted) -> anyhow::Result<async_nats::Subscriber> {
    let messages = nats
        .subscribe(wanted.subject.clone())
        .await
        .context("subscribe")?;
    nats.flush().await.context("subscribe")?;
    writeln!(std::io::stderr().lock(), "listening to {}", wanted.subject)?;
    Ok(messages)
}

fn wanted(filter: &str, site: &Name, thing: Option<&str>, name: Option<&str>) -> anyhow::Result<Wanted> {
    let token = |plain: &str| Name::new(plain).map(|name| name.token().to_owned());
    let usage = |error: telltale_nats::subject::NameError| Refused::usage(error.to_string());
    let mut tokens = filter.split('.');
    let word = tokens.next().unwrap_or_default();
    let Some(lane) = Lane::of_word(word) else {
        let refused = Refused::usage(format!("`{word}` is none of our lanes"));
        let hint = super::names::did_you_mean(word, Lane::ALL.into_iter().map(Lane::word));
        return Err(refused
            .hint(hint.unwrap_or_else(|| Lane::ALL.map(Lane::word).join(", ")))
            .into());
    };
    let open = |token: &str| matches!(token, "*" | ">" | "");
    let rest: Vec<&str> = tokens.collect();
    if rest.len() > if lane.has_name() { 3 } else { 2 }
        || rest.iter().rev().skip(1).any(|token| *token == ">")
    {
        return Err(Refused::usage(format!("`{filter}` has no subject of ours")).into());
    }
    let part = |at: usize| {
        rest.get(at)
            .filter(|token| !open(token))
            .map(|token| (*token).to_owned())
    };
    let site = match rest.first() {
        None => site.token().to_owned(),
        Some(token) if open(token) => "*".to_owned(),
        Some(token) => (*token).to_owned(),
    };
    let thing = thing.map(token).transpose().map_err(usage)?.or_else(|| part(1));
    let name = name.map(token).transpose().map_err(usage)?.or_else(|| part(2));
    if name.is_some() && !lane.has_name() {
        return Err(Refused::usage(format!("subjects of `{lane}` have no name")).into());
    }
    // Readings travel in packs on `valid`, whatever their thing: there the thing is looked for inside.
    let third = thing.as_deref().filter(|_| lane != Lane::Valid);
    let mut subject = [lane.word(), &site, third.unwrap_or("*")].join(".");
    if lane.has_name() {
        subject.extend([".", name.as_deref().unwrap_or("*")]);
    }
    Ok(Wanted {
        subject,
        lane,
        thing,
        name,
    })
}

fn unpacked(message: &async_nats::Message, wanted: &Wanted) -> Vec<Passed> {
    let subject = message.subject.as_str();
    let means = |thing: &str| {
        let token = || Name::new(thing).is_ok_and(|name| wanted.thing.as_deref() == Some(name.token()));
        wanted.thing.is_none() || token()
    };
    if wanted.lane == Lane::Raw {
        let thing = Subject::parse(subject)
            .map(|subject| subject.thing.plain().to_owned())
            .unwrap_or_default();
        let document = raw(message);
        return vec![Passed {
            subject: subject.to_owned(),
            thing,
            document,
        }];
    }
    let document: Value = serde_json::from_slice(&message.payload).unwrap_or_else(|_| raw(message));
    let documents = match document {
        Value::Array(several) if parse_pack(subject).is_some() => several,
        one => vec![one],
    };
    let passed = documents.into_iter().map(|document| Passed {
        subject: subject.to_owned(),
        thing: document["subject"].as_str().unwrap_or_default().to_owned(),
        document,
    });
    passed.filter(|passed| means(&passed.thing)).collect()
}

/// Bytes as a device sent them, and what the bridge wrote beside them.
fn raw(message: &async_nats::Message) -> Value {
    let headers: serde_json::Map<String, Value> = message
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
        .filter(|(name, _)| name.to_string() != header::SEAL)
        .map(|(name, values)| {
            (
                name.to_string(),
                values
                    .iter()
                    .map(HeaderValue::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
                    .into(),
            )
        })
        .collect();
    let payload = match std::str::from_utf8(&message.payload) {
        Ok(text) => json!({"payload": text}),
        Err(_) => json!({"payload_base64": BASE64_STANDARD.encode(&message.payload)}),
    };
    let mut document = json!({"subject": message.subject.as_str(), "headers": headers});
    if let (Some(document), Value::Object(payload)) = (document.as_object_mut(), payload) {
        document.extend(payload);
    }
    document
}

/// `None` for what has no such form.
fn written(passed: &Passed, form: Form) -> anyhow::Result<Option<String>> {
    Ok(match form {
        Form::Json => Some(serde_json::to_string(&passed.document)?),
        Form::Senml => pack(&passed.document),
        Form::Line => Some(line(passed)),
    })
}

/// An exact `application/senml+json` pack, of what has records.
fn pack(document: &Value) -> Option<String> {
    let records: Vec<Record> = serde_json::from_value(document["data"]["records"].clone()).ok()?;
    let time: Timestamp = document["time"].as_str()?.parse().ok()?;
    Some(senml::to_senml(document["subject"].as_str()?, time, &records).to_string())
}

fn line(passed: &Passed) -> String {
    let document = &passed.document;
    let data = &document["data"];
    let mut parts = vec![
        document["time"].as_str().unwrap_or("-").to_owned(),
        passed.thing.clone(),
    ];
    match data["records"].as_array() {
        Some(records) => parts.extend(records.iter().map(|record| {
            let value = ["v", "vs", "vb", "vd", "s"]
                .iter()
                .find_map(|member| record.get(*member));
            let value = value.map_or_else(
                || "-".to_owned(),
                |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            );
            let unit = record["u"]
                .as_str()
                .map(|unit| format!(" {unit}"))
                .unwrap_or_default();
            let flag = match record["q"].as_u64() {
                Some(flag @ 3..) => format!(" (quality {flag})"),
                _ => String::new(),
            };
            format!("{}={value}{unit}{flag}", record["n"].as_str().unwrap_or_default())
        })),
        None if document.get("payload").is_some() => {
            parts.push(document["payload"].as_str().unwrap_or_default().to_owned());
        }
        None => {
            parts.extend(passed.subject.split('.').nth(3).map(str::to_owned));
            parts.push(data.to_string());
        }
    }
    escaped(&parts.join("  "))
}

#[cfg(test)]
mod tests;
