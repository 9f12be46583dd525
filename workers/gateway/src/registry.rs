//! The things of a site: entries of the bucket `things`, written so that no other writer's change is lost, and
//! each change told on `thing.<site>.<thing>.<change>`.
//!
//! A thing that was given a Thing Description is *described*: its entry has the description as its author wrote it,
//! and the policy and annotation that were compiled from it. The directory knows described things only; entries of
//! `telltale thing put` have no description.
//!
//! | module | holds |
//! |---|---|
//! | [`bulk`] | many entries at once, for the command line |
//! | [`wish`] | what an author may say of a registration: how long it is to last |
//! | `announce` | telling what changed |
//! | `change` | create, replace, patch, delete: one thing, by its description |
//! | `index` | which described things there are, in order, and when they expire |
mod announce;
pub mod bulk;
mod change;
mod index;
pub mod wish;

pub use change::Written;
pub use index::Page;

use index::Index;
use std::sync::Arc;
use telltale_nats::{
    Name, Publisher,
    async_nats::{
        Client,
        jetstream::{self, kv},
    },
    client,
    publish::Options,
};
use telltale_runtime::{things::BUCKET, web::Problem};
use telltale_schemas::{Registration, Timestamp, kinds::Fault, td, thing::Entry};
use tokio::sync::OnceCell;

/// The largest description that is taken, in bytes: with what is compiled from it, it must fit in an entry.
pub const DESCRIPTION_MAX: usize = 96 * 1024;

/// The things of a site. Clones are one.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    site: Name,
    /// The stage in the `source` of what is told.
    stage: String,
    js: jetstream::Context,
    publisher: Publisher,
    store: OnceCell<kv::Store>,
    index: Index,
}

/// A thing as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Of its entry in the bucket.
    pub revision: u64,
    /// The entry.
    pub entry: Entry,
}

impl Found {
    /// What is in the bucket under a key; `None` where it is deleted, or cannot be read.
    fn read(found: &kv::Entry) -> Option<Self> {
        let is_there = found.operation == kv::Operation::Put;
        let entry = is_there.then(|| serde_json::from_slice(&found.value).ok())??;
        Some(Self {
            revision: found.revision,
            entry,
        })
    }

    /// Whether its registration has run out at that time, though nobody has taken it away yet.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let expires = self.entry.registration.and_then(|times| times.expires);
        expires.is_some_and(|expires| expires <= now)
    }
}

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The description is wrong; each fault with its place.
    #[error("the description is not valid")]
    Invalid(Vec<Fault>),
    /// There is no described thing of that name.
    #[error("no thing `{0}` is registered here")]
    Unknown(String),
    /// There is one already.
    #[error("a thing `{0}` is registered already: change it with PUT or PATCH, or give another `id`")]
    Known(String),
    /// Its policy and annotation follow from its description.
    #[error("thing `{0}` has a Thing Description, which its policy and annotation come from: change that")]
    Described(String),
    /// Its entry is not at the revision that the change was made for.
    #[error("thing `{0}` was changed meanwhile: read it again, and change that")]
    Stale(String),
    /// Others write it all the time.
    #[error("others keep changing thing `{0}`")]
    Contested(String),
    /// Too many bytes with what follows from it.
    #[error("the description of `{0}` is too large")]
    TooLarge(String),
    /// The broker does not answer, or is full.
    #[error("the registry does not answer: {0}")]
    Away(String),
    /// It is done, but could not be told.
    #[error("the change of thing `{thing}` is kept, but could not be told: {why}")]
    Untold {
        /// The thing.
        thing: String,
        /// What the broker said.
        why: String,
    },
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use axum::http::StatusCode;
        let text = error.to_string();
        match error {
            Error::Invalid(faults) => Self::invalid(faults),
            Error::Unknown(_) => Self::not_found(text),
            Error::Known(_) | Error::Described(_) => Self::new(StatusCode::CONFLICT, text),
            Error::Stale(_) => Self::new(StatusCode::PRECONDITION_FAILED, text),
            Error::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            Error::Contested(_) => Self::away(text),
            Error::Away(_) | Error::Untold { .. } => {
                tracing::warn!("{text}");
                Self::away(text)
            }
        }
    }
}

impl Registry {
    /// Over a connection that has the rights; `stage` is who writes, in the `source` of what is told. Nothing is
    /// asked of the broker yet.
    pub fn new(client: Client, site: Name, stage: impl Into<String>) -> Self {
        let options = Options {
            atomic_min: 0,
            ..Options::default()
        };
        Self(Arc::new(Inner {
            site,
            stage: stage.into(),
            js: client::context(client.clone()),
            publisher: Publisher::new(client, options),
            store: OnceCell::new(),
            index: Index::default(),
        }))
    }

    /// The site.
    pub fn site(&self) -> &Name {
        &self.0.site
    }

    /// The thing of that name, whether it is described or not; `None` if nobody registered it, or its time is up.
    pub async fn get(&self, thing: &Name) -> Result<Option<Found>, Error> {
        let found = self.store().await?.entry(thing.token()).await.map_err(away)?;
        let found = found.as_ref().and_then(Found::read);
        Ok(found.filter(|found| !found.is_expired(Timestamp::now())))
    }

    /// The described thing of that name.
    pub async fn described(&self, thing: &Name) -> Result<Found, Error> {
        let found = self.get(thing).await?;
        let described = found.filter(|found| found.entry.td.is_some());
        described.ok_or_else(|| Error::Unknown(thing.plain().to_owned()))
    }

    async fn store(&self) -> Result<&kv::Store, Error> {
        let open = || async { self.0.js.get_key_value(BUCKET).await };
        self.0.store.get_or_try_init(open).await.map_err(away)
    }

    /// Tells what became of a thing without its entry being written: returns when the stream has it. `cause` is the id
    /// of the message that it follows from.
    pub(crate) async fn tell(
        &self,
        thing: &Name,
        id: String,
        cause: Option<&str>,
        registration: Registration,
    ) -> Result<(), Error> {
        self.0.tell(thing, id, cause, registration).await
    }

    /// JetStream, with our time-outs.
    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.0.js
    }
}

/// The name of the thing that a text of a client's means: a thing's name, or the `id` of its description.
pub fn name(text: &str) -> Option<Name> {
    let name = td::thing_name(text).unwrap_or_else(|| text.to_owned());
    Name::new(name).ok()
}

/// A fault of the broker's, or of the way to it.
fn away(error: impl std::fmt::Display) -> Error {
    Error::Away(error.to_string())
}
