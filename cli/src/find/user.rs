//! Who runs the database: PostgreSQL refuses to run as root.
use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// `nobody`, by number on every Linux.
const NOBODY: u32 = 65534;

/// A user by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    pub uid: u32,
    pub gid: u32,
}

/// The user for PostgreSQL where we are root: `postgres` if there is one, else nobody. None where we are not root.
pub fn database_user() -> Option<RunAs> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(named(&users, "postgres").unwrap_or(RunAs {
        uid: NOBODY,
        gid: NOBODY,
    }))
}

fn named(users: &str, name: &str) -> Option<RunAs> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some(RunAs {
        uid: fields.next()?.ok()?,
        gid: fields.next()?.ok()?,
    })
}

/// Whether `user` may pass through every folder above `path`.
pub fn can_reach(path: &Path, user: RunAs) -> bool {
    path.ancestors()
        .skip(1)
        .filter(|folder| !folder.as_os_str().is_empty())
        .all(|folder| {
            // What does not exist yet is made by us, open.
            let Ok(meta) = fs::metadata(folder) else {
                return true;
            };
            let pass = match (meta.uid() == user.uid, meta.gid() == user.gid) {
                (true, _) => 0o100,
                (_, true) => 0o010,
                _ => 0o001,
            };
            meta.mode() & pass != 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_user_is_read_from_the_list() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/sh\n";
        assert_eq!(named(users, "postgres"), Some(RunAs { uid: 101, gid: 104 }));
        assert_eq!(named(users, "post"), None);
        assert_eq!(named("postgres:x:a:b", "postgres"), None);
    }

    #[test]
    fn a_closed_folder_cannot_be_passed_by_another() {
        let folder = crate::stack::scratch("user").unwrap();
        let stranger = RunAs {
            uid: 4_000_000,
            gid: 4_000_000,
        };
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(can_reach(&folder.join("a/b"), stranger));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!can_reach(&folder.join("a/b"), stranger));
        assert!(can_reach(&folder, stranger), "only what is above counts");
        fs::remove_dir_all(folder).unwrap();
    }
}
