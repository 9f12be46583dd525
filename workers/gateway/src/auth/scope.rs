//! What a token may be for.
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One right of a person. Whoever has [`Scope::Admin`] has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Read things and their descriptions.
    #[serde(rename = "things:read")]
    ThingsRead,
    /// Create, change and delete things.
    #[serde(rename = "things:write")]
    ThingsWrite,
    /// Read properties, readings and events.
    #[serde(rename = "data:read")]
    DataRead,
    /// Bring readings and events in.
    #[serde(rename = "data:write")]
    DataWrite,
    /// Write properties and invoke actions: send commands to devices.
    #[serde(rename = "command")]
    Command,
    /// Ask in SQL.
    #[serde(rename = "query")]
    Query,
    /// Everything, and the credentials of devices.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ThingsRead,
        Self::ThingsWrite,
        Self::DataRead,
        Self::DataWrite,
        Self::Command,
        Self::Query,
        Self::Admin,
    ];

    /// The word in tokens, problems and audit entries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ThingsRead => "things:read",
            Self::ThingsWrite => "things:write",
            Self::DataRead => "data:read",
            Self::DataWrite => "data:write",
            Self::Command => "command",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }

    /// Whether it is for changing something: each use of it is audited.
    pub const fn writes(self) -> bool {
        matches!(
            self,
            Self::ThingsWrite | Self::DataWrite | Self::Command | Self::Admin
        )
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope; there are things:read, things:write, data:read, data:write, command, query and admin"
)]
pub struct NoScope(String);

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(word: &str) -> Result<Self, NoScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.word() == word);
        found.ok_or_else(|| NoScope(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.word().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.word());
        }
        let refused = "things:*".parse::<Scope>().unwrap_err().to_string();
        assert!(
            refused.contains("things:*") && Scope::ALL.iter().all(|scope| refused.contains(scope.word()))
        );
    }
}
