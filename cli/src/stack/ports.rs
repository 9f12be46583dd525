//! Ports: free ones, outside the range from which the system takes the local ends of connections. A client that
//! tries to reach a server which is being restarted could otherwise be given the server's own port, and keep it.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{Mutex, PoisonError},
};

const LOWEST: u16 = 20_000;
const HIGHEST: u16 = 32_000;
const TRIES: usize = 1_000;

/// Ports handed out by this process, which may not listen yet.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Which port a server is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Port {
    #[default]
    Free,
    /// This one if nobody has it, else a free one.
    Rather(u16),
    /// This one or none.
    Only(u16),
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("port {port} is taken{by}: end that, or choose another with {flag}")]
    Taken {
        port: u16,
        by: String,
        flag: &'static str,
    },
    #[error("no port is free between {LOWEST} and {HIGHEST}")]
    None,
}

impl Port {
    /// A port that nobody listens on. `flag` is what would choose another.
    pub fn choose(self, flag: &'static str) -> Result<u16, PortError> {
        match self {
            Self::Rather(port) | Self::Only(port) if take(port) => Ok(port),
            Self::Free | Self::Rather(_) => free(),
            Self::Only(port) => Err(PortError::Taken {
                port,
                by: holder(port),
                flag,
            }),
        }
    }
}

/// The ports of the last time, so that a stack is found again where it was.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Memory(BTreeMap<String, u16>);

impl Memory {
    /// What was written, as far as it can be read.
    pub fn load(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    /// Like [`Port::choose`], but rather the last one than any other.
    pub fn choose(&mut self, name: &str, port: Port, flag: &'static str) -> Result<u16, PortError> {
        let last = self.0.get(name).copied();
        let chosen = match (port, last) {
            (Port::Only(_), _) | (_, None) => port.choose(flag)?,
            (_, Some(last)) if take(last) => last,
            _ => port.choose(flag)?,
        };
        self.0.insert(name.to_owned(), chosen);
        Ok(chosen)
    }
}

fn free() -> Result<u16, PortError> {
    use rand::Rng as _;
    let mut rng = rand::rng();
    (0..TRIES)
        .map(|_| rng.random_range(LOWEST..HIGHEST))
        .find(|&port| take(port))
        .ok_or(PortError::None)
}

fn take(port: u16) -> bool {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    !taken.contains(&port) && is_free(port) && taken.insert(port)
}

/// Gives a port back.
pub fn release(port: u16) {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
}

/// Whether one could listen on it now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// ` by NAME (process N)`, where the system tells us.
fn holder(port: u16) -> String {
    listening(port).map_or_else(String::new, |(pid, name)| format!(" by {name} (process {pid})"))
}

/// The process that listens on a port: Linux lists sockets by inode, and each process's open files.
fn listening(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| inode(line, port))
                .collect::<Vec<_>>()
        })
        .collect();
    for entry in std::fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let files = std::fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let holds = links.any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()));
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// `socket:[N]` of a line of /proc/net/tcp that tells of a listener (state 0A) on `port`.
fn inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16) == Ok(port);
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_lie_outside_the_range_of_connections() {
        let ports: BTreeSet<_> = (0..50).map(|_| Port::Free.choose("--x").unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (LOWEST..HIGHEST).contains(port)));
    }

    #[test]
    fn the_last_port_is_taken_again_unless_another_is_demanded() {
        let mut memory = Memory::default();
        let port = memory.choose("nats", Port::Free, "--x").unwrap();
        release(port);
        assert_eq!(memory.choose("nats", Port::Free, "--x").unwrap(), port);
        assert_ne!(
            memory.choose("nats", Port::Free, "--x").unwrap(),
            port,
            "it is taken now"
        );
        let other = Port::Free.choose("--x").unwrap();
        release(other);
        assert_eq!(memory.choose("nats", Port::Only(other), "--x").unwrap(), other);
    }

    #[test]
    fn a_taken_port_is_refused_with_its_number_its_holder_and_the_flag_or_another_is_taken() {
        // A process that another test forks at this moment holds our socket until it runs its program.
        let held = || {
            let port = Port::Free.choose("--x").unwrap();
            Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?))
        };
        let (port, _held) = (0..100).find_map(|_| held()).unwrap();
        let error = Port::Only(port).choose("--nats-port").unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--nats-port"),
            "{error}"
        );
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert_ne!(Port::Rather(port).choose("--nats-port").unwrap(), port);
    }
}
