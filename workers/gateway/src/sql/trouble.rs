//! Why there is no answer, or no whole one, and how that is said.
use axum::http::StatusCode;
use std::time::Duration;
use telltale_runtime::web::Problem;
use telltale_schemas::kinds::Fault;
use tokio_postgres::error::{ErrorPosition, SqlState};

/// Longest text of the server's that is repeated, in characters: it may quote a whole value.
const MESSAGE_MAX: usize = 400;
/// When whoever found all places taken may come back.
const CROWDED_RETRY: Duration = Duration::from_secs(1);

/// What went wrong between us and PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// All places were taken, for as long as anybody waits.
    #[error("too many ask at once")]
    Crowded,
    /// No connection, or it was lost.
    #[error("the database is away: {0}")]
    Away(String),
    /// Over the time that a statement and its answer may take.
    #[error("no whole answer within {0:?}")]
    Late(Duration),
    /// A row is longer than one may be.
    #[error("a row has more than {} bytes", super::ROW_MAX)]
    LongRow,
    /// Whoever asked does not listen any more.
    #[error("nobody listens any more")]
    Gone,
    /// The server refused it.
    #[error("{}", .0.message)]
    Refused(Box<Refused>),
    /// A row is not what was asked for: a mistake of ours.
    #[error("a row cannot be read: {0}")]
    Row(String),
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Refused {
    state: SqlState,
    message: String,
    hint: Option<String>,
    /// Character in the statement, from 1.
    position: Option<usize>,
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(server) = error.as_db_error() else {
            // A value that cannot be sent is the asker's, and the library says which.
            return Self::Away(error.to_string());
        };
        let position = match server.position() {
            Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok(),
            _ => None,
        };
        Self::Refused(Box::new(Refused {
            state: server.code().clone(),
            message: server.message().chars().take(MESSAGE_MAX).collect(),
            hint: server.hint().map(str::to_owned),
            position,
        }))
    }
}

impl Trouble {
    /// Where the statement was our own: whoever asked can do nothing about what is wrong with it.
    pub(crate) fn to_ours(&self) -> Problem {
        match self.told() {
            Ok(problem) => problem,
            Err(refused) => Problem::internal(&anyhow::anyhow!(
                "PostgreSQL refuses a statement of ours: {} ({})",
                refused.message,
                refused.state.code()
            )),
        }
    }

    /// Where the statement was the asker's, and stood in ours after `before` characters.
    pub(crate) fn to_theirs(&self, sql: &str, before: usize) -> Problem {
        match self.told() {
            Ok(problem) => problem,
            Err(refused) => refused.to_problem(sql, before),
        }
    }

    fn told(&self) -> Result<Problem, &Refused> {
        Ok(match self {
            Self::Crowded => {
                Problem::away("too many queries at once; try again").with_retry_after(CROWDED_RETRY)
            }
            Self::Away(why) => {
                tracing::warn!("the database is away: {why}");
                Problem::away("the database does not answer")
            }
            Self::Late(time) => late(*time),
            Self::LongRow => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("a row has more than {} bytes; select less of it", super::ROW_MAX),
            ),
            // Nobody reads it.
            Self::Gone => Problem::away("the connection was closed"),
            Self::Row(why) => Problem::internal(&anyhow::anyhow!("a row cannot be read: {why}")),
            Self::Refused(refused) => refused.outage().ok_or(&**refused)?,
        })
    }
}

fn late(time: Duration) -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        format!("no whole answer within {time:?}; restrict the time, or aggregate"),
    )
}

/// Where the character is, for people.
pub(crate) fn place(sql: &str, at: usize) -> String {
    let before: String = sql.chars().take(at).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(" (line {line}, column {column})")
}

impl Refused {
    /// What is no fault of the question.
    fn outage(&self) -> Option<Problem> {
        let code = self.state.code();
        if self.state == SqlState::QUERY_CANCELED {
            let detail = "the query took too long; restrict its time, or aggregate";
            Some(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail))
        } else if self.state == SqlState::TOO_MANY_CONNECTIONS {
            Some(Problem::away("the database has no connection left").with_retry_after(CROWDED_RETRY))
        } else if code.starts_with("57P") || code.starts_with("08") {
            Some(Problem::away("the database was stopped"))
        } else {
            None
        }
    }

    fn to_problem(&self, sql: &str, before: usize) -> Problem {
        let mut message = self.message.clone();
        let at = self
            .position
            .and_then(|position| position.checked_sub(before + 1));
        if let Some(at) = at.filter(|at| *at < sql.chars().count()) {
            message.push_str(&place(sql, at));
        }
        if let Some(hint) = &self.hint {
            message.push_str("; ");
            message.push_str(hint);
        }
        let is_forbidden = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(&self.state);
        let fault = vec![Fault::at("/sql", message.clone())];
        if is_forbidden {
            Problem::forbidden(message).with_errors(fault)
        } else {
            Problem::invalid(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(state: SqlState, position: usize) -> Trouble {
        Trouble::Refused(Box::new(Refused {
            state,
            message: "column \"x\" does not exist".to_owned(),
            hint: Some("Perhaps y.".to_owned()),
            position: Some(position),
        }))
    }

    #[test]
    fn an_error_names_the_place_in_what_was_asked() {
        let problem =
            refused(SqlState::UNDEFINED_COLUMN, 10 + 18).to_theirs("select y,\n  z,\n  x from t", 10);
        assert_eq!(problem.status(), 400);
        assert_eq!(
            problem.detail(),
            "column \"x\" does not exist (line 3, column 3); Perhaps y. at `/sql`"
        );
    }

    #[test]
    fn what_is_no_fault_of_the_question_is_not_said_to_be_one() {
        for (state, status) in [
            (SqlState::QUERY_CANCELED, 504),
            (SqlState::ADMIN_SHUTDOWN, 503),
            (SqlState::TOO_MANY_CONNECTIONS, 503),
            (SqlState::INSUFFICIENT_PRIVILEGE, 403),
            (SqlState::READ_ONLY_SQL_TRANSACTION, 403),
            (SqlState::CONFIGURATION_LIMIT_EXCEEDED, 400),
            (SqlState::INTERNAL_ERROR, 400),
        ] {
            assert_eq!(
                refused(state.clone(), 1).to_theirs("select x", 0).status(),
                status,
                "{state:?}"
            );
        }
        assert_eq!(refused(SqlState::UNDEFINED_TABLE, 1).to_ours().status(), 500);
    }
}
