//! The configuration of a nats-server, rendered: one file that rarely changes, and one with the users, which
//! `telltale admit` writes anew before it makes the server read it (SIGHUP).
use crate::{rights::Permissions, topology::Size};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// When the server writes to disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Before each confirmation: accepted means on disk.
    #[default]
    Always,
    /// At intervals: faster, and what was confirmed since the last is lost with the power.
    Every(Duration),
}

/// The largest message. The server's own default, said so that it stays.
pub const MAX_PAYLOAD: u64 = 1 << 20;
/// The account that everything of a deployment is in.
pub const ACCOUNT: &str = "TELLTALE";

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Unique in a deployment.
    pub name: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where it can be watched.
    pub http: Option<SocketAddr>,
    /// Its streams' directory.
    pub store_dir: PathBuf,
    /// When it writes to disk.
    pub sync: Sync,
    /// Most that it stores; at least [`crate::Topology::max_bytes`], which the streams reserve.
    pub max_file: Size,
    /// The users' file; a relative path is relative to the configuration.
    pub users: PathBuf,
    /// Where it writes its process id.
    pub pid_file: Option<PathBuf>,
}

impl ServerConfig {
    /// The text of `nats-server.conf`.
    pub fn render(&self) -> String {
        let sync = match self.sync {
            Sync::Always => "always".to_owned(),
            Sync::Every(interval) => quote(&format!("{}ms", interval.as_millis())),
        };
        let mut text = format!(
            "# Written by telltale; changes are overwritten.\n\
             server_name: {name}\n\
             listen: {listen}\n\
             max_payload: {MAX_PAYLOAD}\n\
             # A link that swallows everything is noticed within a minute, not after four.\n\
             ping_interval: \"20s\"\n\
             write_deadline: \"10s\"\n",
            name = quote(&self.name),
            listen = quote(&self.listen.to_string()),
        );
        let mut line = |key: &str, value: String| {
            writeln!(text, "{key}: {value}").expect("writing to a string cannot fail");
        };
        if let Some(http) = self.http {
            line("http", quote(&http.to_string()));
        }
        if let Some(pid_file) = &self.pid_file {
            line("pid_file", quote_path(pid_file));
        }
        write!(
            text,
            "jetstream {{\n  store_dir: {store_dir}\n  sync_interval: {sync}\n  max_file: {max_file}\n  max_mem: 67108864\n}}\n\
             accounts {{\n  {ACCOUNT} {{\n    jetstream: enabled\n    include {users}\n  }}\n  SYS {{ users: [] }}\n}}\n\
             system_account: SYS\n",
            store_dir = quote_path(&self.store_dir),
            max_file = self.max_file.bytes(),
            users = quote_path(&self.users),
        )
        .expect("writing to a string cannot fail");
        text
    }
}

/// An identity that the server lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name, for who reads the file.
    pub name: String,
    /// The public half of its NKEY, `U…`.
    pub public_key: String,
    /// What it may do.
    pub permissions: Permissions,
}

/// A new identity.
#[derive(Clone)]
pub struct Identity {
    /// The secret half, `SU…`.
    pub seed: String,
    /// The public half, `U…`.
    pub public_key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

/// A text that is no user's seed. The text is not shown.
#[derive(Debug, thiserror::Error)]
#[error("not an NKEY seed of a user")]
pub struct NotASeed;

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        let pair = nkeys::KeyPair::new_user();
        Self {
            seed: pair.seed().expect("a new key pair has its seed"),
            public_key: pair.public_key(),
        }
    }

    /// That of a seed.
    pub fn of_seed(seed: &str) -> Result<Self, NotASeed> {
        let pair = nkeys::KeyPair::from_seed(seed.trim()).map_err(|_| NotASeed)?;
        if pair.key_pair_type() != nkeys::KeyPairType::User {
            return Err(NotASeed);
        }
        Ok(Self {
            seed: seed.trim().to_owned(),
            public_key: pair.public_key(),
        })
    }
}

/// The text of `users.conf`, in the order of the names: the same users make the same file.
pub fn render_users(users: &[User]) -> String {
    let mut users: Vec<&User> = users.iter().collect();
    users.sort_by_key(|user| &user.name);
    let mut text = String::from("# Written by telltale; changes are overwritten.\nusers: [\n");
    for user in users {
        text.push_str(&render_user(user));
    }
    text.push_str("]\n");
    text
}

/// One user, as it stands in a server's configuration.
pub fn render_user(user: &User) -> String {
    let rights = &user.permissions;
    let deny = if rights.publish_not.is_empty() {
        String::new()
    } else {
        format!(", deny: {}", list(&rights.publish_not))
    };
    format!(
        "  # {name}\n  {{ nkey: {key}, permissions: {{\n    publish: {{ allow: {allow}{deny} }}\n    subscribe: {{ allow: {subscribe} }}\n  }} }}\n",
        name = user.name.escape_debug(),
        key = quote(&user.public_key),
        allow = list(&rights.publish),
        subscribe = list(&rights.subscribe),
    )
}

fn list(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects.iter().map(|subject| quote(subject)).collect();
    format!("[{}]", quoted.join(", "))
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// In double quotes, with what would end them escaped. Nothing is a variable inside quotes.
fn quote(text: &str) -> String {
    let escaped: String = text
        .chars()
        .filter(|character| !character.is_control())
        .flat_map(|character| {
            let escape = matches!(character, '"' | '\\').then_some('\\');
            escape.into_iter().chain([character])
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig {
            name: "local".into(),
            listen: "127.0.0.1:4222".parse().unwrap(),
            http: None,
            store_dir: "/var/lib/a \"b\"".into(),
            sync: Sync::Always,
            max_file: Size::of(1 << 30),
            users: "users.conf".into(),
            pid_file: None,
        }
    }

    #[test]
    fn a_server_writes_to_disk_before_it_confirms_unless_told_otherwise() {
        assert!(config().render().contains("sync_interval: always"));
        let lax = ServerConfig {
            sync: Sync::Every(Duration::from_mins(2)),
            ..config()
        };
        assert!(lax.render().contains("sync_interval: \"120000ms\""));
    }

    #[test]
    fn a_path_cannot_end_its_quotes() {
        assert!(config().render().contains(r#"store_dir: "/var/lib/a \"b\"""#));
    }

    #[test]
    fn the_same_users_make_the_same_file() {
        let user = |name: &str| User {
            name: name.into(),
            public_key: Identity::generate().public_key,
            permissions: Permissions::default(),
        };
        let (a, b) = (user("a"), user("b"));
        assert_eq!(render_users(&[a.clone(), b.clone()]), render_users(&[b, a]));
    }

    #[test]
    fn an_identity_shows_no_seed() {
        let identity = Identity::generate();
        assert!(!format!("{identity:?}").contains(&identity.seed));
        assert_eq!(
            Identity::of_seed(&format!("{}\n", identity.seed))
                .unwrap()
                .public_key,
            identity.public_key
        );
        assert!(Identity::of_seed("SUxx").is_err());
    }
}
