//! `telltale token`: who may ask the gateway for what.
use super::{consent, exit::Refused, names, output::Output, reach};
use crate::context::Context;
use std::process::ExitCode;
use telltale_gateway::auth::{
    Scope,
    audit::{Audit, Entry},
    tokens,
};
use telltale_nats::{Name, client, rights};
use telltale_schemas::{Timestamp, duration};

const CREATE_EXAMPLES: &str = "Examples:
  telltale token create dashboard --scope things:read,data:read
  telltale token create ann --scope admin --expires 90d -o json";
const LIST_EXAMPLES: &str = "Examples:
  telltale token list
  telltale token list -o json";
const REVOKE_EXAMPLES: &str = "Examples:
  telltale token revoke dashboard
  telltale token revoke ann --yes";

/// Tokens of people and programs that ask the gateway
#[derive(Debug, clap::Subcommand)]
pub enum Token {
    /// Make a token; it is shown now and never again
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Whose it is; it stands in the audit of all that is done with it
        name: String,
        /// What it is for: things:read, things:write, data:read, data:write, command, query, admin
        #[arg(long = "scope", value_name = "SCOPES", value_delimiter = ',', required = true)]
        scopes: Vec<Scope>,
        /// It ends after that time: `90d`, `12h`
        #[arg(long, value_name = "DURATION", value_parser = expiry)]
        expires: Option<Timestamp>,
        #[command(flatten)]
        output: Output,
    },
    /// List the tokens, without their secrets
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Take a token away; it ends within moments
    #[command(visible_alias = "rm", after_help = REVOKE_EXAMPLES)]
    Revoke {
        /// Whose it is
        name: String,
        /// Without being asked
        #[arg(long)]
        yes: bool,
    },
}

fn expiry(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is no duration such as `90d`");
    let micros = i64::try_from(duration::parse(text).ok_or_else(wrong)?.as_micros()).map_err(|_| wrong())?;
    let now = Timestamp::now();
    let last = Timestamp::from_micros(now.as_micros().checked_add(micros).ok_or_else(wrong)?);
    last.ok_or_else(wrong)
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let nats = reach::nats(&ctx).await?;
        let store = tokens::bucket(&client::context(nats.clone())).await?;
        let audit = Audit::by(nats, ctx.site.clone(), "telltale");
        match self {
            Self::Create {
                name,
                scopes,
                expires,
                output,
            } => {
                let name = named(&name)?;
                let (token, person) = tokens::create(&store, &name, scopes, expires)
                    .await
                    .map_err(|error| Refused::failed(format!("{error:#}")))?;
                audit.record(&entry("token create", &name)).await;
                let mut rows = output.rows(["token", "name", "scopes", "expires"]);
                rows.row(vec![
                    token.into(),
                    person.name.clone().into(),
                    words(&person.scopes).into(),
                    serde_json::to_value(person.expires)?,
                ])?;
                rows.finish()?;
            }
            Self::List { output } => {
                let mut rows = output.rows(["name", "scopes", "created", "expires"]);
                for person in tokens::list(&store).await? {
                    rows.row(vec![
                        person.name.clone().into(),
                        words(&person.scopes).into(),
                        serde_json::to_value(person.created)?,
                        serde_json::to_value(person.expires)?,
                    ])?;
                }
                rows.finish()?;
            }
            Self::Revoke { name, yes } => {
                let name = named(&name)?;
                let known = tokens::list(&store).await?;
                if !known.iter().any(|person| person.name == name.plain()) {
                    let refused = Refused::failed(format!("there is no token of `{}`", name.plain()));
                    let known = known.iter().map(|person| person.name.as_str());
                    let hint = names::did_you_mean(name.plain(), known);
                    return Err(refused
                        .hint(hint.unwrap_or_else(|| "`telltale token list` has them all".to_owned()))
                        .into());
                }
                consent::ask(
                    yes,
                    &format!("revoke the token of `{}`", name.plain()),
                    name.plain(),
                )?;
                tokens::revoke(&store, &name).await?;
                audit.record(&entry("token revoke", &name)).await;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn entry(verb: &str, name: &Name) -> Entry {
    Entry {
        who: rights::OPERATOR.to_owned(),
        scope: None,
        what: format!("{verb} {}", name.plain()),
        thing: None,
        status: None,
        address: None,
    }
}

fn named(name: &str) -> anyhow::Result<Name> {
    if name.chars().any(char::is_control) {
        return Err(Refused::usage("a name has no control characters").into());
    }
    Ok(Name::new(name).map_err(|error| Refused::usage(error.to_string()))?)
}

fn words(scopes: &[Scope]) -> String {
    let words: Vec<&str> = scopes.iter().map(|scope| scope.word()).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_after_a_time_that_can_be() {
        let (now, end) = (Timestamp::now(), expiry("90d").unwrap());
        let days = (end.as_seconds() - now.as_seconds()) / 86_400.0;
        assert!((89.9..90.1).contains(&days), "{days}");
        for wrong in ["", "soon", "90", "99999999999999d", "9999999d"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }
}
