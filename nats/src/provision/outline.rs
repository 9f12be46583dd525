//! A plan: what is to be done, and what that would destroy.
use super::Difference;
use crate::manifest::Durable;
use async_nats::jetstream::stream::Config;
use std::fmt;

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A stream.
    Stream(String),
    /// A bucket.
    Bucket(String),
    /// A durable.
    Durable {
        /// Its name.
        name: String,
        /// Its stream.
        stream: String,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Bucket(name) => write!(f, "bucket {name}"),
            Self::Durable { name, stream } => write!(f, "durable {name} on {stream}"),
        }
    }
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// It is not there.
    Create,
    /// It is there, and different.
    Change(Vec<Difference>),
}

#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Stream(Box<Config>),
    Durable(Durable),
}

/// One object and what is to be done about it.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it is about.
    pub object: Object,
    /// What is to be done.
    pub action: Action,
    pub(super) wanted: Wanted,
}

impl Change {
    /// What it would destroy.
    pub fn destroys(&self) -> impl Iterator<Item = String> {
        let differences = match &self.action {
            Action::Change(differences) => differences.as_slice(),
            _ => &[],
        };
        differences.iter().filter_map(|one| {
            let destroys = one.destroys.as_ref()?;
            Some(format!(
                "{}: {} {} -> {} ({destroys})",
                self.object, one.field, one.found, one.wanted
            ))
        })
    }

    pub(super) fn recreates(&self) -> bool {
        matches!(&self.action, Action::Change(differences) if differences.iter().any(|one| one.recreates))
    }
}

/// What is different between the broker and what it should be. Shown, it is the diff.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Each object, streams before durables.
    pub changes: Vec<Change>,
    /// Durables that no manifest asks for. They are left alone.
    pub strangers: Vec<Object>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.action == Action::Keep)
    }

    /// All that would be destroyed.
    pub fn destroys(&self) -> Vec<String> {
        self.changes.iter().flat_map(Change::destroys).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kept = 0;
        for change in &self.changes {
            match &change.action {
                Action::Keep => kept += 1,
                Action::Create => writeln!(f, "+ {}", change.object)?,
                Action::Change(differences) => {
                    for one in differences {
                        let sign = if one.destroys.is_some() { '!' } else { '~' };
                        write!(
                            f,
                            "{sign} {}: {} {} -> {}",
                            change.object, one.field, one.found, one.wanted
                        )?;
                        match &one.destroys {
                            Some(destroys) => writeln!(f, " ({destroys})")?,
                            None => writeln!(f)?,
                        }
                    }
                }
            }
        }
        for stranger in &self.strangers {
            writeln!(f, "? {stranger} is in no manifest")?;
        }
        write!(f, "= {kept} unchanged")
    }
}
