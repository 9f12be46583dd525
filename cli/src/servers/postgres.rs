//! A PostgreSQL of our own: loopback, passwords, and never as root.
use crate::{
    find::{self, RunAs, can_reach, database_user},
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
/// Whose rights `POST /query` has.
pub const QUERY: &str = "telltale_query";
/// The database.
pub const DATABASE: &str = "telltale";

/// The file in the home that says whose it is.
const MARK: &str = "made-for";

/// Why our PostgreSQL cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("cannot prepare {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0} belongs to another user")]
    Foreign(PathBuf),
    #[error("initdb failed: {0}")]
    Init(String),
    #[error(
        "the readings in {data} were written by PostgreSQL {there}, and what was found here is {here}: install \
         PostgreSQL {there}, or name its folder with --postgres-bin, or begin anew with `telltale down --volumes`"
    )]
    Version { data: PathBuf, there: u32, here: u32 },
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
        self.set_aside_another_stacks()?;
        if data.join("PG_VERSION").exists() {
            self.same_version()?;
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
            let mark = self.home.join(MARK);
            return crate::envfile::write_private(&mark, &self.mark()).map_err(write(&mark));
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

    /// What tells the database of this stack from one that was made for another: only this one knows our password.
    fn mark(&self) -> String {
        use std::fmt::Write as _;
        let digest = <sha2::Sha256 as sha2::Digest>::digest(self.password.as_bytes());
        digest.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes any text");
            text
        })
    }

    /// Who deletes `.telltale` by hand leaves a database that is kept elsewhere. Its password went along, so it is of
    /// no use to us; its readings may be to somebody.
    fn set_aside_another_stacks(&self) -> Result<(), PrepareError> {
        match fs::read_to_string(self.home.join(MARK)) {
            Ok(mark) if mark.trim() != self.mark() => {}
            _ => return Ok(()),
        }
        let mut aside = self.home.as_os_str().to_owned();
        aside.push(format!(".{}", jiff::Timestamp::now().as_second()));
        tracing::warn!(
            "a database of a stack that is gone was in {}; it is in {} now",
            self.home.display(),
            PathBuf::from(&aside).display()
        );
        fs::rename(&self.home, &aside).map_err(|source| PrepareError::Write {
            path: self.home.clone(),
            source,
        })
    }

    /// PostgreSQL reads only what its own major version has written.
    fn same_version(&self) -> Result<(), PrepareError> {
        let path = self.data().join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(|source| PrepareError::Write { path, source })?;
        let there = text.trim().parse().ok();
        match there.zip(find::postgres_version(&self.programs)) {
            Some((there, here)) if there != here => Err(PrepareError::Version {
                data: self.data(),
                there,
                here,
            }),
            _ => Ok(()),
        }
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

/// Gives a role a password, which migrations do not.
pub async fn let_in(
    client: &tokio_postgres::Client,
    role: &str,
    password: &str,
) -> Result<(), tokio_postgres::Error> {
    let literal = password.replace('\'', "''");
    client
        .batch_execute(&format!("alter role {role} login password '{literal}'"))
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

    fn instance(programs: &Path, home: &Path, password: &str) -> Instance {
        Instance {
            programs: programs.to_owned(),
            home: home.to_owned(),
            port: 1,
            password: password.to_owned(),
            durable: false,
        }
    }

    /// A folder whose `postgres` says that it is version 18.
    fn version_18(dir: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.join("postgres");
        fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        dir.to_owned()
    }

    #[test]
    fn a_database_of_another_major_version_is_told_by_both_numbers() {
        let dir = crate::stack::scratch("pg-version").unwrap();
        fs::create_dir_all(dir.join("home/data")).unwrap();
        fs::write(dir.join("home/data/PG_VERSION"), "15\n").unwrap();
        let error = instance(&version_18(&dir), &dir.join("home"), "x")
            .prepare()
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("PostgreSQL 15") && text.contains("is 18"), "{text}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_database_of_a_stack_that_is_gone_is_set_aside_and_kept() {
        let dir = crate::stack::scratch("pg-aside").unwrap();
        fs::create_dir_all(dir.join("home/data")).unwrap();
        fs::write(dir.join("home/data/PG_VERSION"), "18\n").unwrap();
        let (old, new) = (
            instance(&dir, &dir.join("home"), "old"),
            instance(&dir, &dir.join("home"), "new"),
        );
        fs::write(dir.join("home").join(MARK), old.mark()).unwrap();
        old.set_aside_another_stacks().unwrap();
        assert!(dir.join("home/data/PG_VERSION").exists());
        new.set_aside_another_stacks().unwrap();
        assert!(!dir.join("home").exists());
        let aside = fs::read_dir(&dir).unwrap().filter_map(Result::ok);
        let kept = aside.filter(|entry| entry.path().join("data/PG_VERSION").exists());
        assert_eq!(kept.count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

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
