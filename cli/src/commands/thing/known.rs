//! The registry as the command line uses it, and its refusals with what to do about them.
use super::super::{exit::Refused, names};
use crate::context::Context;
use telltale_gateway::registry::{self, Error, Registry};
use telltale_nats::{Name, async_nats::Client, rights};

/// Who changes things here: it stands in their registrations.
pub(super) const BY: Option<&str> = Some(rights::OPERATOR);

/// The things of the site.
pub(super) fn registry(ctx: &Context, nats: &Client) -> Registry {
    Registry::new(nats.clone(), ctx.site.clone(), "telltale")
}

/// The thing that is meant: by its name, or by the `id` of its description.
pub(in crate::commands) fn named(text: &str) -> anyhow::Result<Name> {
    let name = registry::name(text).filter(|name| !name.plain().chars().any(char::is_control));
    name.ok_or_else(|| {
        Refused::usage(format!(
            "`{}` cannot be a thing's name",
            text.chars().take(80).collect::<String>()
        ))
        .into()
    })
}

/// There is no such thing; the nearest that there is.
pub(super) fn unknown<'a>(
    ctx: &Context,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> anyhow::Error {
    let refused = Refused::failed(format!("no thing `{name}` is registered at site `{}`", ctx.site));
    let hint = names::did_you_mean(name, known);
    refused
        .hint(hint.unwrap_or_else(|| "`telltale thing list` has them all".to_owned()))
        .into()
}

/// A refusal of the registry, for people.
pub(super) fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::Invalid(faults) => {
            let lines: Vec<String> = faults
                .iter()
                .map(|fault| format!("{} {}", fault.pointer, fault.message).trim().to_owned())
                .collect();
            Refused::failed(lines.join("\n")).into()
        }
        Error::Away(_) => anyhow::Error::new(error).context(Refused::precondition("NATS does not answer")),
        other => Refused::failed(other.to_string()).into(),
    }
}
