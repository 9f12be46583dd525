//! `telltale thing credentials`: what a device proves itself with.
use super::{
    super::{consent, exit::Refused, output::Output, reach},
    known::named,
};
use crate::context::Context;
use serde_json::Value;
use std::{io::Write as _, process::ExitCode};
use telltale_gateway::auth::audit::{Audit, Entry};
use telltale_nats::{Name, client, rights};
use telltale_runtime::identity::{
    credential::{ANY_THING, Credential},
    issue::{self, Wish},
};

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing credentials lamp-1 --rotate              # a first secret, or a second beside the one before
  telltale thing credentials lamp-1 --rotate --alone      # the ones before end at once
  telltale thing credentials hub-7 --rotate --gateway --speaks-for lamp-1,lamp-2
  telltale thing credentials lamp-1 --revoke --yes";

/// What is to become of them.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Credentials {
    /// The device's name: that of its thing
    name: String,
    /// Give it a new secret, shown now and never again; the one before stays valid until the next rotation
    #[arg(long)]
    rotate: bool,
    /// With --rotate: the secrets before end at once
    #[arg(long, requires = "rotate")]
    alone: bool,
    /// The things that it may speak for, separated by commas; `*` for any of the site
    #[arg(long, value_name = "THINGS", value_delimiter = ',')]
    speaks_for: Option<Vec<String>>,
    /// Whether it may bring readings of several things in one pack
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    gateway: Option<bool>,
    /// Whether its readings may be of any age
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    backfill: Option<bool>,
    /// Take its credential away: its sessions end within moments
    #[arg(long, conflicts_with_all = ["rotate", "speaks_for", "gateway", "backfill"])]
    revoke: bool,
    /// With --revoke: without being asked
    #[arg(long, requires = "revoke")]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

impl Credentials {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let device = named(&self.name)?;
        for thing in self
            .speaks_for
            .iter()
            .flatten()
            .filter(|thing| *thing != ANY_THING)
        {
            named(thing)?;
        }
        let nats = reach::nats(ctx).await?;
        let store = issue::bucket(&client::context(nats.clone())).await?;
        let audit = Audit::by(nats, ctx.site.clone(), "telltale");
        if self.revoke {
            if issue::find(&store, &device).await?.is_none() {
                return Err(none(&device).into());
            }
            let what = format!("take the credential of `{}` away", device.plain());
            consent::ask(self.yes, &what, device.plain())?;
            issue::revoke(&store, &device).await?;
            audit.record(&entry("thing credentials --revoke", &device)).await;
            return Ok(ExitCode::SUCCESS);
        }
        let wish = Wish {
            rotate: self.rotate,
            alone: self.alone,
            things: self.speaks_for.clone(),
            gateway: self.gateway,
            backfill: self.backfill,
        };
        if wish == Wish::default() {
            let found = issue::find(&store, &device).await?;
            let (credential, _) = found.ok_or_else(|| none(&device))?;
            return self.tell(&credential, None, None);
        }
        if !wish.rotate && issue::find(&store, &device).await?.is_none() {
            return Err(none(&device).into());
        }
        let issued = issue::change(&store, &device, &wish).await?;
        audit.record(&entry("thing credentials", &device)).await;
        if issued.secret.is_some() {
            writeln!(
                std::io::stderr().lock(),
                "note: this is shown once; {} secret{} valid now",
                issued.credential.hashes.len(),
                if issued.credential.hashes.len() == 1 {
                    " is"
                } else {
                    "s are"
                },
            )?;
        }
        let token = issued.token();
        self.tell(&issued.credential, token, issued.secret)
    }

    fn tell(
        &self,
        credential: &Credential,
        token: Option<String>,
        secret: Option<String>,
    ) -> anyhow::Result<ExitCode> {
        let made: Vec<Value> = credential
            .hashes
            .iter()
            .map(|hash| serde_json::to_value(hash.made))
            .collect::<Result<_, _>>()?;
        let mut columns = vec!["device", "things", "gateway", "backfill", "secrets"];
        let mut row = vec![
            credential.device.clone().into(),
            credential.things.clone().into(),
            credential.gateway.into(),
            credential.backfill.into(),
            Value::Array(made),
        ];
        if let (Some(token), Some(secret)) = (token, secret) {
            columns.extend(["token", "mqtt_password"]);
            row.extend([token.into(), secret.into()]);
        }
        let mut rows = self.output.rows(columns);
        rows.row(row)?;
        rows.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn entry(what: &str, device: &Name) -> Entry {
    Entry {
        who: rights::OPERATOR.to_owned(),
        scope: None,
        what: what.to_owned(),
        thing: Some(device.clone()),
        status: None,
        address: None,
    }
}

fn none(device: &Name) -> Refused {
    Refused::failed(format!("`{}` has no credential", device.plain())).hint(format!(
        "`telltale thing credentials {} --rotate` gives it one",
        device.plain()
    ))
}
