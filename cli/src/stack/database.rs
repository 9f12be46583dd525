//! The database of a stack: its tables, and who may read them.
use super::Secrets;
use crate::{
    context,
    migrate::{self, Report},
    servers::postgres::{QUERY, READER, let_in, with_user},
};
use anyhow::Context as _;

/// Brings the database to this version and lets those in who may read; `admin` is the owner's way in.
pub async fn prepare(admin: &str, secrets: &Secrets) -> anyhow::Result<Report> {
    let done = migrate::migrate(admin).await.context("migrate the database")?;
    let client = context::connect(admin).await?;
    for (role, password) in [(READER, &secrets.reader), (QUERY, &secrets.query)] {
        let_in(&client, role, password)
            .await
            .with_context(|| format!("let {role} in"))?;
    }
    Ok(done)
}

/// The reader's way in.
pub(super) fn reader(admin: &str, secrets: &Secrets) -> anyhow::Result<String> {
    with_user(admin, READER, &secrets.reader)
}

/// The way in of `POST /query`.
pub(super) fn query(admin: &str, secrets: &Secrets) -> anyhow::Result<String> {
    with_user(admin, QUERY, &secrets.query)
}
