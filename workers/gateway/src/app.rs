//! What all handlers share.
//!
//! A module of the gateway has `pub(crate) fn routes() -> OpenApiRouter<App>` ([`utoipa_axum`]), merged in `lib.rs`.
//! A handler takes `caller: auth::Caller` first and begins with `caller.may(Scope::…)?`; paths and queries come by
//! [`telltale_runtime::web::Path`] and [`Query`](telltale_runtime::web::Query), whose refusals are problems; its error
//! is a [`telltale_runtime::web::Problem`].
use crate::{
    auth::People,
    directory::{Bases, Feed},
    registry::Registry,
    sql::Pools,
    streams::Streams,
};
use std::sync::Arc;
use telltale_nats::{Name, Publisher, async_nats::Client};
use tokio_util::sync::CancellationToken;

/// The state of the router. Clones share it.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// What it is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) site: Name,
    pub(crate) nats: Client,
    pub(crate) registry: Registry,
    pub(crate) feed: Feed,
    pub(crate) outcomes: Feed,
    pub(crate) people: People,
    pub(crate) bases: Bases,
    pub(crate) sql: Pools,
    pub(crate) streams: Streams,
    /// Of commands.
    pub(crate) publisher: Publisher,
    /// Cancelled when the process ends: what streams for ever ends then.
    pub(crate) stop: CancellationToken,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The site that is served.
    pub fn site(&self) -> &Name {
        &self.0.site
    }

    /// The connection to the broker, with the gateway's rights.
    pub fn nats(&self) -> &Client {
        &self.0.nats
    }

    /// The things of the site.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What changes in the life of things.
    pub(crate) fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// What becomes of commands.
    pub(crate) fn outcomes(&self) -> &Feed {
        &self.0.outcomes
    }

    /// Who may ask for what.
    pub(crate) fn people(&self) -> &People {
        &self.0.people
    }

    /// The addresses that clients know us by.
    pub(crate) fn bases(&self) -> &Bases {
        &self.0.bases
    }

    /// The ways to the data.
    pub(crate) fn sql(&self) -> &Pools {
        &self.0.sql
    }

    /// Answers without an end: whoever makes one takes a place for it.
    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// Where commands go out.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.0.publisher
    }

    /// Cancelled when the process ends.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
