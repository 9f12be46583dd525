//! What a command is told about the stack it speaks to: from the environment, else from the nearest
//! `.telltale/env`.
use crate::envfile;
use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use telltale_nats::{Name, async_nats, client};

/// The variables that win over the file. Read by clap, as all configuration is.
#[derive(Debug, Default, clap::Parser)]
struct Environment {
    #[arg(long, env = "TELLTALE_SITE")]
    site: Option<String>,
    #[arg(long, env = "NATS_URL")]
    nats_url: Option<String>,
    #[arg(long, env = "NATS_NKEY_SEED_FILE")]
    seed_file: Option<String>,
    #[arg(long, env = "DATABASE_URL")]
    database_url: Option<String>,
    #[arg(long, env = "DATABASE_ADMIN_URL")]
    database_admin_url: Option<String>,
    #[arg(long, env = "BRIDGE_URL")]
    bridge_url: Option<String>,
    #[arg(long, env = "BRIDGE_TOKEN")]
    bridge_token: Option<String>,
    #[arg(long, env = "MQTT_URL")]
    mqtt_url: Option<String>,
    #[arg(long, env = "MQTT_USER")]
    mqtt_user: Option<String>,
    #[arg(long, env = "MQTT_PASSWORD")]
    mqtt_password: Option<String>,
    #[arg(long, env = "GATEWAY_URL")]
    gateway_url: Option<String>,
    #[arg(long, env = "GATEWAY_TOKEN")]
    gateway_token: Option<String>,
}

impl Environment {
    fn into_values(self) -> impl Iterator<Item = (String, String)> {
        [
            ("TELLTALE_SITE", self.site),
            ("NATS_URL", self.nats_url),
            ("NATS_NKEY_SEED_FILE", self.seed_file),
            ("DATABASE_URL", self.database_url),
            ("DATABASE_ADMIN_URL", self.database_admin_url),
            ("BRIDGE_URL", self.bridge_url),
            ("BRIDGE_TOKEN", self.bridge_token),
            ("MQTT_URL", self.mqtt_url),
            ("MQTT_USER", self.mqtt_user),
            ("MQTT_PASSWORD", self.mqtt_password),
            ("GATEWAY_URL", self.gateway_url),
            ("GATEWAY_TOKEN", self.gateway_token),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }
}

/// Where the stack is, and with what rights we come.
#[derive(Debug, Clone)]
pub struct Context {
    /// The `.telltale` folder, where there is one.
    pub folder: Option<PathBuf>,
    /// The site that commands speak of.
    pub site: Name,
    values: BTreeMap<String, String>,
}

impl Context {
    /// From the environment, else from the nearest `.telltale/env`, from the working directory upward.
    pub fn find() -> anyhow::Result<Self> {
        Self::find_from(&std::env::current_dir().context("find the working directory")?)
    }

    /// The same, from `from` upward.
    pub fn find_from(from: &Path) -> anyhow::Result<Self> {
        let said = Environment::try_parse_from(["telltale"])?;
        let file = envfile::find(from);
        let mut values = match &file {
            Some(path) => envfile::read(path)?,
            None => BTreeMap::new(),
        };
        values.extend(said.into_values());
        Self::new(file.and_then(|path| path.parent().map(Path::to_owned)), values)
    }

    /// From values given by name; what a test's stack hands out.
    pub fn new(folder: Option<PathBuf>, values: BTreeMap<String, String>) -> anyhow::Result<Self> {
        let site = values.get("TELLTALE_SITE").map_or("local", String::as_str);
        let site = Name::new(site).with_context(|| format!("read TELLTALE_SITE `{site}`"))?;
        Ok(Self { folder, site, values })
    }

    /// One value, by the name that it has in `.telltale/env`.
    pub fn get(&self, name: &str) -> anyhow::Result<&str> {
        self.values.get(name).map(String::as_str).ok_or_else(|| {
            anyhow!("no {name}: nothing is running here; start it with `telltale up`, or set {name}")
        })
    }

    /// The folder of the stack, for what only works beside it.
    pub fn folder(&self) -> anyhow::Result<&Path> {
        self.folder
            .as_deref()
            .context("no .telltale folder here or above; start one with `telltale up`")
    }

    /// The seed that `user` signs in with, in the credentials of the stack.
    pub fn seed_file(&self, user: &str) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join("credentials").join(format!("{user}.nk")))
    }

    /// The broker, with the operator's rights where the stack is ours, else with those of
    /// `NATS_NKEY_SEED_FILE`.
    pub async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        let operator = self.seed_file("operator").ok().filter(|path| path.is_file());
        let (user, seed) = match operator {
            Some(path) => ("operator", Some(path)),
            None => (
                "client",
                self.values.get("NATS_NKEY_SEED_FILE").map(PathBuf::from),
            ),
        };
        let url = self.get("NATS_URL")?.to_owned();
        let seed = seed.map(|path| client::read_seed(&path)).transpose()?;
        let access = client::Access {
            url,
            seed,
            user: user.to_owned(),
        };
        Ok(client::connect(&access).await?)
    }

    /// The database, with the rights of `telltale_reader`.
    pub async fn sql(&self) -> anyhow::Result<tokio_postgres::Client> {
        connect(self.get("DATABASE_URL")?).await
    }

    /// The database, with the owner's rights.
    pub async fn sql_admin(&self) -> anyhow::Result<tokio_postgres::Client> {
        connect(self.get("DATABASE_ADMIN_URL")?).await
    }
}

/// A connection that is driven until its client is dropped.
pub async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .context("connect to PostgreSQL")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "lost the connection to PostgreSQL");
        }
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_names_itself_and_the_way_out() {
        let context = Context::new(None, BTreeMap::new()).unwrap();
        assert_eq!(context.site.plain(), "local");
        let error = context.get("BRIDGE_URL").unwrap_err().to_string();
        assert!(
            error.contains("BRIDGE_URL") && error.contains("telltale up"),
            "{error}"
        );
    }

    #[test]
    fn a_site_that_is_no_name_is_refused() {
        let values = BTreeMap::from([("TELLTALE_SITE".to_owned(), String::new())]);
        assert!(Context::new(None, values).is_err());
    }
}
