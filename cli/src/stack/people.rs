//! The person that the stack itself brings: its administrator, whose token is `GATEWAY_TOKEN`.
use super::Layout;
use crate::envfile;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs;
use telltale_gateway::auth::{Person, Scope, tokens};
use telltale_nats::{Name, async_nats, client};

/// Whose token it is.
const ADMINISTRATOR: &str = "administrator";

/// Whoever may do everything: kept, so that the token stays the same.
#[derive(Serialize, Deserialize)]
pub(super) struct Administrator {
    token: String,
    person: Person,
}

impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administrator").finish_non_exhaustive()
    }
}

impl Administrator {
    pub(super) fn load_or_make(layout: &Layout) -> anyhow::Result<Self> {
        let path = layout.credentials().join(format!("{ADMINISTRATOR}.person"));
        if path.is_file() {
            let named = || format!("read {}", path.display());
            return serde_json::from_slice(&fs::read(&path).with_context(named)?).with_context(named);
        }
        let (token, person) = Person::new_token(&Name::new(ADMINISTRATOR)?, vec![Scope::Admin], None);
        let made = Self { token, person };
        envfile::write_private(&path, &serde_json::to_string(&made)?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(made)
    }

    /// What is shown to the gateway.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Lets the gateway know it.
    pub(super) async fn register(&self, client: &async_nats::Client) -> anyhow::Result<()> {
        let js = client::context(client.clone());
        tokens::put(&tokens::bucket(&js).await?, &self.person).await
    }
}

/// Lets the gateway know the administrator that every stack brings.
pub async fn register(layout: &Layout, client: &async_nats::Client) -> anyhow::Result<()> {
    Administrator::load_or_make(layout)?.register(client).await
}
