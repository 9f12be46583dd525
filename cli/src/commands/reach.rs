//! Reaching what runs, with an exit code that says what is in the way.
use super::exit::Refused;
use crate::context::Context;
use telltale_nats::{
    async_nats::{Client, jetstream},
    client::{self, ConnectError},
};

/// A value of the environment or of `.telltale/env`.
pub fn get<'a>(ctx: &'a Context, name: &str) -> anyhow::Result<&'a str> {
    ctx.get(name)
        .map_err(|error| Refused::precondition(error.to_string()).into())
}

/// The broker.
pub async fn nats(ctx: &Context) -> anyhow::Result<Client> {
    get(ctx, "NATS_URL")?;
    ctx.nats()
        .await
        .map_err(|error| match error.downcast_ref::<ConnectError>() {
            Some(ConnectError::Refused { .. }) => {
                error.context(Refused::unauthorised("NATS does not let us in"))
            }
            Some(ConnectError::Unreachable { .. }) => error
                .context(Refused::precondition("NATS is away").hint("start the stack with `telltale up`")),
            _ => error,
        })
}

/// JetStream over that connection.
pub async fn jetstream(ctx: &Context) -> anyhow::Result<jetstream::Context> {
    Ok(client::context(nats(ctx).await?))
}

/// The database, as a reader.
pub async fn sql(ctx: &Context) -> anyhow::Result<tokio_postgres::Client> {
    get(ctx, "DATABASE_URL")?;
    let_in(ctx.sql().await)
}

/// The database, as its owner.
pub async fn sql_admin(ctx: &Context) -> anyhow::Result<tokio_postgres::Client> {
    get(ctx, "DATABASE_ADMIN_URL")?;
    let_in(ctx.sql_admin().await)
}

fn let_in(connected: anyhow::Result<tokio_postgres::Client>) -> anyhow::Result<tokio_postgres::Client> {
    connected.map_err(|error| {
        let refused = error.chain().any(|cause| {
            cause
                .downcast_ref::<tokio_postgres::Error>()
                .and_then(tokio_postgres::Error::code)
                .is_some_and(|code| code.code().starts_with("28"))
        });
        error.context(if refused {
            Refused::unauthorised("PostgreSQL does not let us in")
        } else {
            Refused::precondition("PostgreSQL is away").hint("start the stack with `telltale up`")
        })
    })
}
