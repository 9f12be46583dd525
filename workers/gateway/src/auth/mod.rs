//! Who asks: people's tokens, what they may do with them, and an audit entry for each write.
//!
//! | module | holds |
//! |---|---|
//! | [`scope`] | what a token may be for |
//! | [`people`] | the bucket `people`, followed; tokens and how they are checked |
//! | [`caller`] | the extractor with which every handler begins |
//! | [`audit`] | who did what, as events |
//! | `credentials` | `/things/{id}/credentials`, for administrators |
//! | [`tokens`] | giving tokens, listing them, taking them away |
pub mod audit;
pub mod caller;
mod credentials;
pub mod people;
pub mod scope;
pub mod tokens;

pub use caller::Caller;
pub(crate) use caller::watch;
pub use people::{People, Person};
pub use scope::Scope;

use crate::app::App;
use utoipa_axum::router::OpenApiRouter;

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<App> {
    credentials::routes()
}
