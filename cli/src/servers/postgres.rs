//! A PostgreSQL of our own: loopback, passwords, and never as root.
use crate::{
    find::{RunAs, can_reach, database_user},
    supervise::{Probe, Spec},
};
use rustix::process::Signal;
use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The owner of everything in the database.
pub const OWNER: &str = "telltale";
/// Who may read the public views.
pub const READER: &str = "telltale_reader";
/// The database.
pub const DATABASE: &str = "telltale";

/// Why our PostgreSQL cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("cannot prepare {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0} belongs to another user")]
    Foreign(PathBuf),
    #[error("initdb failed: {0}")]
    Init(String),
}

/// What makes an instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The folder of initdb and postgres.
    pub programs: PathBuf,
    /// Where its data is.
    pub home: PathBuf,
    pub port: u16,
    /// The owner's.
    pub password: String,
    /// Whether what is committed must outlive the machine: not in a folder that nobody keeps.
    pub durable: bool,
}

/// Where the data of a stack in `folder` is kept: inside it, unless the user who must run the database cannot get
/// there; then in a folder of that user, named by a hash of ours.
pub fn home(folder: &Path) -> PathBuf {
    let inside = folder.join("postgres");
    match database_user() {
        Some(user) if !can_reach(&inside, user) => {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(folder.as_os_str().as_encoded_bytes());
            let head = digest.first_chunk().expect("the digest has 32 bytes");
            PathBuf::from(format!("/var/tmp/telltale-{:016x}", u64::from_be_bytes(*head)))
        }
        _ => inside,
    }
}

impl Instance {
    /// Makes the data folder, the first time.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        let user = database_user();
        let data = self.data();
        if data.join("PG_VERSION").exists() {
            return self.forget_stranger();
        }
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| PrepareError::Write { path, source }
        };
        self.make_home(user)?;
        let secret = self.home.join("password");
        crate::envfile::write_private(&secret, &format!("{}\n", self.password)).map_err(write(&secret))?;
        if let Some(user) = user {
            chown(&secret, Some(user.uid), Some(user.gid)).map_err(write(&secret))?;
        }
        let mut initdb = Command::new(self.programs.join("initdb"));
        initdb
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(&secret)
            .args(["--username", OWNER]);
        initdb.args(["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]);
        if !self.durable {
            initdb.arg("--no-sync");
        }
        initdb.current_dir(&self.home);
        if let Some(user) = user {
            initdb.uid(user.uid).gid(user.gid);
        }
        let output = initdb.output().map_err(write(&self.programs.join("initdb")))?;
        fs::remove_file(&secret).map_err(write(&secret))?;
        if output.status.success() {
            return Ok(());
        }
        // Half a data folder would look like a whole one next time.
        if data.exists() {
            fs::remove_dir_all(&data).map_err(write(&data))?;
        }
        Err(PrepareError::Init(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Under /var/tmp anybody may have made the folder before us; then it is not used.
    fn make_home(&self, user: Option<RunAs>) -> Result<(), PrepareError> {
        let write = |source| PrepareError::Write {
            path: self.home.clone(),
            source,
        };
        match fs::DirBuilder::new().mode(0o700).create(&self.home) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(write(error)),
            Err(_) => {
                let meta = fs::symlink_metadata(&self.home).map_err(write)?;
                let expected = user.map_or_else(|| rustix::process::getuid().as_raw(), |user| user.uid);
                if !meta.is_dir() || meta.uid() != expected {
                    return Err(PrepareError::Foreign(self.home.clone()));
                }
            }
            Ok(()) => {
                if let Some(user) = user {
                    chown(&self.home, Some(user.uid), Some(user.gid)).map_err(write)?;
                }
            }
        }
        Ok(())
    }

    /// PostgreSQL removes a stale `postmaster.pid` itself, unless another process of the same user has got that id
    /// since, as happens after the machine was restarted. It must stay while a server of this folder may run.
    fn forget_stranger(&self) -> Result<(), PrepareError> {
        let path = self.data().join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let Some(pid) = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse::<u32>().ok())
        else {
            return Ok(());
        };
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else {
            return Ok(());
        };
        if String::from_utf8_lossy(&command).contains("postgres") {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|source| PrepareError::Write { path, source })
    }

    /// How the supervisor keeps it running.
    pub fn spec(&self) -> Spec {
        let mut args: Vec<std::ffi::OsString> = vec!["-D".into(), self.data().into()];
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "unix_socket_directories=".to_owned(),
            "max_connections=100".to_owned(),
        ];
        // A killed process loses nothing even so; only a machine that stops would.
        let careless = ["fsync=off", "full_page_writes=off"].map(str::to_owned);
        for setting in settings
            .into_iter()
            .chain(careless.into_iter().filter(|_| !self.durable))
        {
            args.extend(["-c".into(), setting.into()]);
        }
        Spec {
            name: "postgres".to_owned(),
            program: self.programs.join("postgres"),
            args,
            env: vec![],
            folder: self.home.clone(),
            user: database_user(),
            stop: Signal::INT,
            grace: Duration::from_secs(20),
            probe: Probe::Database(self.url("postgres")),
        }
    }

    /// How its owner gets in.
    pub fn url(&self, database: &str) -> String {
        owner_url(&format!("127.0.0.1:{}", self.port), &self.password, database)
    }
}

/// How the owner of a database gets in at `HOST:PORT`.
pub fn owner_url(address: &str, password: &str, database: &str) -> String {
    format!("postgresql://{OWNER}:{password}@{address}/{database}")
}

/// Makes the database if it is not there.
pub async fn make_database(client: &tokio_postgres::Client, name: &str) -> Result<(), tokio_postgres::Error> {
    let there = client
        .query_opt("select 1 from pg_database where datname = $1", &[&name])
        .await?;
    if there.is_none() {
        client
            .batch_execute(&format!("create database {}", identifier(name)))
            .await?;
    }
    Ok(())
}

/// Gives the reading role a password, which migrations do not.
pub async fn let_reader_in(
    client: &tokio_postgres::Client,
    password: &str,
) -> Result<(), tokio_postgres::Error> {
    let literal = password.replace('\'', "''");
    client
        .batch_execute(&format!("alter role {READER} login password '{literal}'"))
        .await
}

/// The same database for another user.
pub fn with_user(url: &str, user: &str, password: &str) -> anyhow::Result<String> {
    use tokio_postgres::config::Host;
    let config: tokio_postgres::Config = url.parse()?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) if name.contains(':') => format!("[{name}]"),
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.to_string_lossy().replace('/', "%2F"),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().unwrap_or(DATABASE);
    Ok(format!("postgresql://{user}:{password}@{host}:{port}/{database}"))
}

/// A name in SQL, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_gets_the_same_database() {
        for (url, expected) in [
            (
                "postgresql://telltale:x@127.0.0.1:5433/telltale",
                "postgresql://r:p@127.0.0.1:5433/telltale",
            ),
            (
                "host=db.example user=o dbname=t",
                "postgresql://r:p@db.example:5432/t",
            ),
            ("postgresql://o@[::1]/t", "postgresql://r:p@[::1]:5432/t"),
            (
                "postgresql:///t?host=/run/postgresql",
                "postgresql://r:p@%2Frun%2Fpostgresql:5432/t",
            ),
        ] {
            assert_eq!(with_user(url, "r", "p").unwrap(), expected, "{url}");
        }
    }
}
