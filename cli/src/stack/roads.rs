//! The broker of a stack: who is let in with which rights, and which streams and durables there are.
use super::{Extension, Layout, Sync};
use crate::envfile;
use anyhow::{Context as _, ensure};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use telltale_nats::{
    Name, Topology, async_nats,
    client::{self, Access},
    manifest::Manifest,
    provision, rights, seal,
    server::{self, Identity, ServerConfig, User},
    topology::Size,
};

/// The server's own interval, which `--sync default` goes back to.
const SYNC_INTERVAL: Duration = Duration::from_mins(2);
/// Room beside what the streams reserve.
const SPARE_BYTES: u64 = 1 << 30;

/// The identity of a user, made the first time, in `credentials/<user>.nk`.
pub fn identity(layout: &Layout, user: &str) -> anyhow::Result<Identity> {
    let path = layout.seed(user);
    let named = || format!("read {}", path.display());
    if path.is_file() {
        let seed = client::read_seed(&path).with_context(named)?;
        return Identity::of_seed(&seed).with_context(named);
    }
    let identity = Identity::generate();
    envfile::write_private(&path, &format!("{}\n", identity.seed))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(identity)
}

/// The key with which the bridge seals what it takes in, made the first time.
fn make_seal_key(layout: &Layout) -> anyhow::Result<()> {
    let path = layout.seal_key();
    if path.is_file() {
        seal::Key::read(&path).with_context(|| format!("read {}", path.display()))?;
        return Ok(());
    }
    envfile::write_private(&path, &seal::Key::generate().to_hex())
        .with_context(|| format!("write {}", path.display()))
}

/// Writes who is let in: our own identities, and a user with exactly its rights for each manifest. A running server
/// reads it anew on SIGHUP.
pub fn write_users(layout: &Layout, site: &Name, manifests: &[Manifest]) -> anyhow::Result<()> {
    let ours = [
        (rights::OPERATOR, rights::operator()),
        (rights::CLIENT, rights::client(site, manifests)),
        (rights::BRIDGE, rights::bridge(site)),
        (rights::GATEWAY, rights::gateway(site, manifests)),
    ];
    let ours = ours.map(|(name, permissions)| (name.to_owned(), permissions));
    let workers = manifests
        .iter()
        .map(|manifest| (manifest.name.clone(), rights::worker(manifest, site)));
    let user = |(name, permissions): (String, _)| {
        let public_key = identity(layout, &name)?.public_key;
        anyhow::Ok(User {
            name,
            public_key,
            permissions,
        })
    };
    let users = ours
        .into_iter()
        .chain(workers)
        .map(user)
        .collect::<Result<Vec<_>, _>>()?;
    let path = layout.users();
    envfile::write_private(&path, &server::render_users(&users))
        .with_context(|| format!("write {}", path.display()))
}

/// Where a server listens and stores.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) listen: SocketAddr,
    /// Where it can be watched.
    pub(super) monitor: Option<SocketAddr>,
    pub(super) store: PathBuf,
    pub(super) sync: Sync,
}

/// Writes all that a server reads, and what bridge and workers sign in with.
pub(super) fn write(
    layout: &Layout,
    site: &Name,
    manifests: &[Manifest],
    server: &Server,
) -> anyhow::Result<()> {
    make_seal_key(layout)?;
    write_users(layout, site, manifests)?;
    write_server(layout, site, server)
}

/// Writes the server's own configuration.
fn write_server(layout: &Layout, site: &Name, server: &Server) -> anyhow::Result<()> {
    let config = ServerConfig {
        name: format!("telltale-{}", site.token()),
        listen: server.listen,
        http: server.monitor,
        store_dir: server.store.clone(),
        sync: match server.sync {
            Sync::Always => server::Sync::Always,
            Sync::Default => server::Sync::Every(SYNC_INTERVAL),
        },
        max_file: Size::of(Topology::of(site).max_bytes() + SPARE_BYTES),
        // The server takes even an absolute path as one beside its configuration.
        users: "users.conf".into(),
        pid_file: None,
    };
    let path = layout.nats_configuration();
    envfile::write_private(&path, &config.render()).with_context(|| format!("write {}", path.display()))
}

/// What a program of ours says that it needs.
pub fn manifest_of(program: &Path) -> anyhow::Result<Manifest> {
    let named = || format!("ask {} for its manifest", program.display());
    let output = Command::new(program)
        .arg("--manifest")
        .output()
        .with_context(named)?;
    ensure!(
        output.status.success(),
        "{}: {}",
        named(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).with_context(named)
}

/// Remembers a worker, and lets it in: the server must read its users anew, and streams be provisioned.
pub fn admit(
    layout: &Layout,
    site: &Name,
    built_in: &[Manifest],
    extension: &Extension,
) -> anyhow::Result<()> {
    extension.save(layout)?;
    let mut manifests = built_in.to_vec();
    manifests.extend(Extension::load_all(layout)?.into_iter().map(|one| one.manifest));
    write_users(layout, site, &manifests)
}

/// A connection with the operator's rights.
pub(super) async fn operator(layout: &Layout, url: &str) -> anyhow::Result<async_nats::Client> {
    let seed = Some(identity(layout, rights::OPERATOR)?.seed);
    let access = Access {
        url: url.to_owned(),
        seed,
        user: rights::OPERATOR.to_owned(),
    };
    Ok(client::connect(&access).await?)
}

/// Makes streams, buckets and durables what files and manifests say.
pub(super) async fn provision(
    client: &async_nats::Client,
    site: &Name,
    manifests: &[Manifest],
) -> anyhow::Result<provision::Applied> {
    let js = client::context(client.clone());
    let plan = provision::plan(
        &js,
        &Topology::of(site),
        manifests,
        &provision::Options::default(),
    )
    .await?;
    Ok(provision::apply(&js, &plan, false).await?)
}
