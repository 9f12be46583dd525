//! Whose fault an error of the database is.
use tokio_postgres::error::SqlState;

/// Why a transaction did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The database is away, full, read-only, not migrated: nobody's message is to blame.
    #[error("the database cannot store now")]
    Away(#[source] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("the database did not answer within {0} s")]
    Silent(u64),
    /// Another transaction was in the way, or a partition was not there: the same again may do.
    #[error("another transaction was in the way")]
    Again(#[source] tokio_postgres::Error),
    /// One of the messages holds what PostgreSQL cannot.
    #[error("{code}: {message}")]
    Data {
        code: String,
        message: String,
        /// Which row of the COPY, from 0, where PostgreSQL says so; after [`Trouble::blame`], which message.
        row: Option<usize>,
    },
}

impl Trouble {
    /// With its cause, in one line.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Away(error) | Self::Again(error) => match error.as_db_error() {
                Some(db) => format!("{self}: {}: {}", db.code().code(), db.message()),
                None => format!("{self}: {error}"),
            },
            Self::Silent(_) | Self::Data { .. } => self.to_string(),
        }
    }

    /// Turns the row into its message, by the list of owners.
    pub(crate) fn blame(self, owners: &[usize]) -> Self {
        match self {
            Self::Data { code, message, row } => Self::Data {
                code,
                message,
                row: row.and_then(|row| owners.get(row).copied()),
            },
            other => other,
        }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Away(error);
        };
        let code = db.code();
        if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
            return Self::Again(error);
        }
        // 22 data, 23 integrity, 54 more than an index or a row can hold.
        let class = code.code().get(..2).unwrap_or_default();
        if !matches!(class, "22" | "23" | "54") {
            return Self::Away(error);
        }
        if *code == SqlState::CHECK_VIOLATION && db.constraint().is_none() {
            // `no partition of relation "readings" found for row`: it was there when we looked.
            return Self::Again(error);
        }
        Self::Data {
            code: code.code().to_owned(),
            message: db.message().to_owned(),
            row: db
                .where_()
                .and_then(copy_line)
                .and_then(|line| line.checked_sub(1)),
        }
    }
}

/// `COPY stg, line 317, column value_text` → 317. In another language than English this finds nothing, and the
/// guilty row is found by halving.
fn copy_line(context: &str) -> Option<usize> {
    let (_, rest) = context.strip_prefix("COPY ")?.split_once(", line ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_read_from_the_context_of_a_copy_alone() {
        for (context, line) in [
            ("COPY stg, line 317, column value_text", Some(317)),
            ("COPY stg, line 1", Some(1)),
            ("PL/pgSQL function f() line 3 at RAISE", None),
            ("COPY stg, Zeile 3", None),
        ] {
            assert_eq!(copy_line(context), line, "{context}");
        }
    }
}
