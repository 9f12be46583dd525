//! The database of a stack: its tables, and who may read them.
use super::Secrets;
use crate::{
    context,
    migrate::{self, Report},
    servers::postgres::{READER, let_reader_in, with_user},
};
use anyhow::Context as _;

/// Brings the database to this version and lets its reader in; `admin` is the owner's way in.
pub async fn prepare(admin: &str, secrets: &Secrets) -> anyhow::Result<Report> {
    let done = migrate::migrate(admin).await.context("migrate the database")?;
    let client = context::connect(admin).await?;
    let_reader_in(&client, &secrets.reader)
        .await
        .context("let telltale_reader in")?;
    Ok(done)
}

/// The reader's way in.
pub(super) fn reader(admin: &str, secrets: &Secrets) -> anyhow::Result<String> {
    with_user(admin, READER, &secrets.reader)
}
