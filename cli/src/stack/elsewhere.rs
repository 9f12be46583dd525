//! The files of a stack whose servers and processes others start, as containers do.
use super::{Layout, Secrets, Sync, database, device::Devices, people::Administrator, roads, write_env};
use crate::{
    envfile,
    servers::postgres::{DATABASE, owner_url},
};
use anyhow::Context as _;
use std::{collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::PathBuf};
use telltale_nats::{Name, manifest::Manifest, rights};

/// Where the servers and the bridge of such a stack will be.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub site: Name,
    pub nats_listen: SocketAddr,
    pub nats_monitor: Option<SocketAddr>,
    /// The folder of its streams, as the server sees it; none: beside its configuration.
    pub nats_data: Option<PathBuf>,
    pub sync: Sync,
    pub nats_url: String,
    /// `HOST:PORT` of PostgreSQL.
    pub database: String,
    pub bridge_url: String,
    pub mqtt_url: String,
    pub gateway_url: String,
}

impl Elsewhere {
    /// Writes all that servers, processes and people need. Secrets that are there stay as they are; the rest becomes
    /// what is said now.
    pub fn write(&self, dir: &std::path::Path, built_in: &[Manifest]) -> anyhow::Result<Layout> {
        let layout = Layout::make(Some(dir))?;
        let _lock = layout.lock()?;
        let server = roads::Server {
            listen: self.nats_listen,
            monitor: self.nats_monitor,
            store: self
                .nats_data
                .clone()
                .unwrap_or_else(|| layout.nats().join("jetstream")),
            sync: self.sync,
        };
        let mut manifests = built_in.to_vec();
        let admitted = super::Extension::load_all(&layout)?;
        manifests.extend(admitted.into_iter().map(|one| one.manifest));
        roads::write(&layout, &self.site, &manifests, &server)?;
        let secrets = Secrets::load_or_make(&layout)?;
        write_password(&layout, &secrets)?;
        write_env(&layout, &self.values(&layout, &secrets)?)?;
        Ok(layout)
    }

    fn values(&self, layout: &Layout, secrets: &Secrets) -> anyhow::Result<BTreeMap<String, String>> {
        let admin = owner_url(&self.database, &secrets.owner, DATABASE);
        let devices = Devices::load_or_make(layout)?;
        let administrator = Administrator::load_or_make(layout)?;
        let client = layout.seed(rights::CLIENT);
        let reader = database::reader(&admin, secrets)?;
        let query = database::query(&admin, secrets)?;
        let told = [
            ("TELLTALE_SITE", self.site.plain()),
            ("NATS_URL", &self.nats_url),
            ("NATS_NKEY_SEED_FILE", &client.to_string_lossy()),
            ("DATABASE_URL", &reader),
            ("QUERY_DATABASE_URL", &query),
            ("DATABASE_ADMIN_URL", &admin),
            ("BRIDGE_URL", &self.bridge_url),
            ("MQTT_URL", &self.mqtt_url),
            ("GATEWAY_URL", &self.gateway_url),
            ("GATEWAY_TOKEN", administrator.token()),
        ];
        Ok(told
            .into_iter()
            .chain(devices.values())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// In a folder of its own, so that PostgreSQL can be shown that and nothing else.
fn write_password(layout: &Layout, secrets: &Secrets) -> anyhow::Result<()> {
    let path = layout.database_password();
    let named = || format!("write {}", path.display());
    let folder = path.parent().expect("the password is in a folder");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(named)?;
    envfile::write_private(&path, &secrets.owner).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    fn elsewhere() -> Elsewhere {
        Elsewhere {
            site: Name::new("plant").unwrap(),
            nats_listen: "0.0.0.0:4222".parse().unwrap(),
            nats_monitor: Some("127.0.0.1:8222".parse().unwrap()),
            nats_data: Some("/data".into()),
            sync: Sync::Always,
            nats_url: "nats://nats:4222".to_owned(),
            database: "postgres:5432".to_owned(),
            bridge_url: "http://bridge:8080".to_owned(),
            mqtt_url: "mqtt://bridge:1883".to_owned(),
            gateway_url: "http://gateway:8081".to_owned(),
        }
    }

    /// Every file below `folder`, with its mode.
    fn contents(folder: &Path) -> BTreeMap<PathBuf, (String, u32)> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(contents(&path));
            } else {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path, (text, mode));
            }
        }
        found
    }

    #[test]
    fn written_twice_it_is_the_same_and_nobody_else_can_read_it() {
        let dir = crate::stack::scratch("elsewhere").unwrap();
        let layout = elsewhere().write(&dir, &[]).unwrap();
        let first = contents(layout.folder());
        elsewhere().write(&dir, &[]).unwrap();
        assert_eq!(contents(layout.folder()), first);
        for (path, (text, mode)) in &first {
            // What is not secret is empty: the lock.
            assert!(*mode == 0o600 || text.is_empty(), "{} {mode:o}", path.display());
        }
        for user in ["operator", "client", "bridge", "gateway"] {
            assert!(first.contains_key(&layout.seed(user)), "no seed of {user}");
        }
        assert!(first.contains_key(&layout.seal_key()));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_said_anew_is_written_anew_and_secrets_stay() {
        let dir = crate::stack::scratch("elsewhere").unwrap();
        let layout = elsewhere().write(&dir, &[]).unwrap();
        let before = envfile::read(&layout.env()).unwrap();
        let moved = Elsewhere {
            bridge_url: "http://other:8080".to_owned(),
            ..elsewhere()
        };
        moved.write(&dir, &[]).unwrap();
        let mut expected = before;
        expected.insert("BRIDGE_URL".to_owned(), "http://other:8080".to_owned());
        assert_eq!(envfile::read(&layout.env()).unwrap(), expected);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn paths_and_addresses_are_those_of_the_ones_who_read_them() {
        let dir = crate::stack::scratch("elsewhere").unwrap();
        let layout = elsewhere().write(&dir, &[]).unwrap();
        let server = fs::read_to_string(layout.nats_configuration()).unwrap();
        for line in [
            r#"listen: "0.0.0.0:4222""#,
            r#"http: "127.0.0.1:8222""#,
            r#"store_dir: "/data""#,
            r#"include "users.conf""#,
        ] {
            assert!(server.contains(line), "no {line} in {server}");
        }
        let password = fs::read_to_string(layout.database_password()).unwrap();
        let env = envfile::read(&layout.env()).unwrap();
        assert_eq!(
            env["DATABASE_ADMIN_URL"],
            format!("postgresql://telltale:{password}@postgres:5432/telltale")
        );
        assert!(env["DATABASE_URL"].starts_with("postgresql://telltale_reader:"));
        assert!(env["DATABASE_URL"].ends_with("@postgres:5432/telltale"));
        assert_eq!(Path::new(&env["NATS_NKEY_SEED_FILE"]), layout.seed("client"));
        assert_eq!(env["TELLTALE_SITE"], "plant");
        fs::remove_dir_all(&dir).unwrap();
    }
}
