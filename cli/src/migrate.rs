//! Brings a database to this version: numbered migrations, then the public views.
use anyhow::{Context as _, Result, bail};
use std::{str::FromStr as _, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls, config::SslMode, error::SqlState};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// In the order of their making; each is `create or replace` and its comments.
const VIEWS: &[(&str, &str)] = &[
    ("readings", include_str!("../../migrations/views/readings.sql")),
    ("latest", include_str!("../../migrations/views/latest.sql")),
    ("events", include_str!("../../migrations/views/events.sql")),
    ("outcomes", include_str!("../../migrations/views/outcomes.sql")),
    ("commands", include_str!("../../migrations/views/commands.sql")),
    ("things", include_str!("../../migrations/views/things.sql")),
    (
        "registrations",
        include_str!("../../migrations/views/registrations.sql"),
    ),
    (
        "properties",
        include_str!("../../migrations/views/properties.sql"),
    ),
    (
        "quarantine",
        include_str!("../../migrations/views/quarantine.sql"),
    ),
    ("ledger", include_str!("../../migrations/views/ledger.sql")),
    ("epochs", include_str!("../../migrations/views/epochs.sql")),
    ("hops", include_str!("../../migrations/views/hops.sql")),
    ("audit", include_str!("../../migrations/views/audit.sql")),
];

/// `(TELL, 1)`; the partitions' lock is `(TELL, 2)`, the hourly one of store `(TELL, 3)`.
const LOCK: &str = "select pg_try_advisory_lock(1413827660, 1)";
/// Another migrator may have much to do.
const LOCK_WAIT: Duration = Duration::from_mins(10);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The migrations that were applied now, `V<number>__<name>`.
    pub applied: Vec<String>,
    /// How many there are in all.
    pub known: usize,
    /// How many views were made anew.
    pub views: usize,
}

/// Migrates the database at that URL. Two at once: one waits for the other, and finds nothing to do.
pub async fn migrate(database_url: &str) -> Result<Report> {
    let config = config(database_url)?;
    // The lock has a connection of its own, so that it spans the transactions of all migrations. It is polled:
    // a session that waits inside PostgreSQL holds a snapshot that others may have to wait for.
    let guard = connect(&config).await?;
    wait_for_lock(&guard).await?;
    let mut client = connect(&config).await?;
    client
        .batch_execute("create schema if not exists store")
        .await
        .context("make schema store")?;
    let mut runner = embedded::migrations::runner();
    let known = runner.get_migrations().len();
    // Beside our tables, out of the sight of those who query.
    runner.set_migration_table_name("store.migrations");
    let done = runner.run_async(&mut client).await.context("apply migrations")?;
    for (name, sql) in VIEWS {
        renew(&mut client, name, sql)
            .await
            .with_context(|| format!("make view {name}"))?;
    }
    client
        .batch_execute(
            "select telltale.ensure_partitions((now() at time zone 'UTC')::date - 8, (now() at time zone 'UTC')::date + 2)",
        )
        .await
        .context("make the partitions of these days")?;
    drop(guard);
    Ok(Report {
        applied: done
            .applied_migrations()
            .iter()
            .map(ToString::to_string)
            .collect(),
        known,
        views: VIEWS.len(),
    })
}

fn config(database_url: &str) -> Result<Config> {
    let mut config = Config::from_str(database_url).context("parse the database URL")?;
    if config.get_ssl_mode() == SslMode::Require {
        bail!("the database URL demands TLS, which this build does not speak");
    }
    config
        .application_name("telltale-migrate")
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10));
    Ok(config)
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("connect to the database")?;
    // It ends with its client, and the client's own calls report what goes wrong.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "database connection ended");
        }
    });
    Ok(client)
}

async fn wait_for_lock(guard: &Client) -> Result<()> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let row = guard
            .query_one(LOCK, &[])
            .await
            .context("ask for the migration lock")?;
        if row.get::<_, bool>(0) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "another migration has held its lock for {} minutes",
                LOCK_WAIT.as_secs() / 60
            );
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// `create or replace`, or where the columns changed, drop and create. Views that others built on it are never
/// dropped along: then this fails, and says which.
async fn renew(client: &mut Client, name: &str, sql: &str) -> Result<()> {
    match client.batch_execute(sql).await {
        Err(error) if error.code() == Some(&SqlState::INVALID_TABLE_DEFINITION) => {}
        other => return Ok(other?),
    }
    let change = client.transaction().await?;
    change.batch_execute(&format!("drop view public.{name}")).await?;
    change.batch_execute(sql).await?;
    change.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn files(folder: &str) -> BTreeSet<String> {
        std::fs::read_dir(format!("{}/../migrations/{folder}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "sql"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_view_file_is_embedded() {
        let embedded = VIEWS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files("views"), embedded);
    }

    #[test]
    fn every_migration_is_embedded_and_numbers_have_no_gap() {
        let runner = embedded::migrations::runner();
        let versions: BTreeSet<_> = runner
            .get_migrations()
            .iter()
            .map(refinery::Migration::version)
            .collect();
        assert_eq!(versions.len(), files("").len());
        let last = i32::try_from(versions.len()).unwrap();
        assert_eq!(versions, (1..=last).collect());
    }

    #[test]
    fn a_url_that_demands_tls_is_refused_before_connecting() {
        assert!(config("postgres://x@localhost/y?sslmode=require").is_err());
        assert!(config("postgres://x@localhost/y").is_ok());
    }
}
