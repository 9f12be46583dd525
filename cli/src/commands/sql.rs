//! `telltale sql`: queries with the reader's rights.
use super::{
    exit::Refused,
    output::{Format, Output},
    reach,
};
use crate::context::Context;
use anyhow::Context as _;
use futures::{TryStreamExt as _, pin_mut};
use serde_json::Value;
use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    process::{Command, ExitCode},
};
use tokio_postgres::{Client, Config, SimpleQueryMessage, config::Host, error::ErrorPosition, types::Type};

const EXAMPLES: &str = "Examples:
  telltale sql 'select * from latest limit 10'
  telltale sql \"select time, value from readings where time > now() - interval '1 hour'\" -o csv
  telltale sql < report.sql";

/// Ask the database, as `telltale_reader`; without a query: psql, or a prompt
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Sql {
    /// One statement; from stdin where that is no terminal
    query: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Sql {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let ctx = Context::find()?;
        let query = match self.query {
            Some(query) => Some(query),
            None if std::io::stdin().is_terminal() => None,
            None => {
                let mut text = String::new();
                std::io::stdin()
                    .lock()
                    .read_to_string(&mut text)
                    .context("read stdin")?;
                Some(text)
            }
        };
        match query {
            Some(query) => {
                answer(&reach::sql(&ctx).await?, &query, &self.output).await?;
                Ok(ExitCode::SUCCESS)
            }
            None => match psql(reach::get(&ctx, "DATABASE_URL")?)? {
                Some(code) => Ok(code),
                None => prompt(&reach::sql(&ctx).await?, &self.output).await,
            },
        }
    }
}

async fn answer(sql: &Client, query: &str, output: &Output) -> anyhow::Result<()> {
    // Several statements at once cannot be prepared; then there are no types, and all is text.
    let types: Vec<Type> = match sql.prepare(query).await {
        Ok(statement) => statement
            .columns()
            .iter()
            .map(|column| column.type_().clone())
            .collect(),
        Err(_) => Vec::new(),
    };
    let messages = sql
        .simple_query_raw(query)
        .await
        .map_err(|error| told(query, error))?;
    pin_mut!(messages);
    let mut rows = None;
    while let Some(message) = messages.try_next().await.map_err(|error| told(query, error))? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                rows = Some(output.rows(columns.iter().map(|column| column.name().to_owned())));
            }
            SimpleQueryMessage::Row(row) => {
                let value = |at: usize| cell(row.get(at), types.get(at), output.format());
                if let Some(rows) = &mut rows {
                    rows.row((0..row.len()).map(value).collect())?;
                }
            }
            SimpleQueryMessage::CommandComplete(_) => {
                if let Some(rows) = rows.take() {
                    rows.finish()?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A value as PostgreSQL writes it, and for JSON as what it is.
fn cell(text: Option<&str>, kind: Option<&Type>, format: Format) -> Value {
    let Some(text) = text else { return Value::Null };
    let number = kind.is_some_and(|kind| {
        [
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
        ]
        .contains(kind)
    });
    let structured = kind.is_some_and(|kind| *kind == Type::JSON || *kind == Type::JSONB);
    let for_programs = matches!(format, Format::Json | Format::Ndjson);
    match kind {
        Some(&Type::BOOL) if for_programs => Value::Bool(text == "t"),
        // Infinity and NaN are no JSON numbers: they stay text.
        _ if number || (structured && for_programs) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
        }
        _ => Value::from(text),
    }
}

/// A server's error as a person reads it: what, where in the query, and its own hint.
fn told(query: &str, error: tokio_postgres::Error) -> anyhow::Error {
    let Some(server) = error.as_db_error() else {
        return error.into();
    };
    let mut text = server.message().to_owned();
    if let Some(ErrorPosition::Original(position)) = server.position() {
        let position = usize::try_from(*position).unwrap_or(1).saturating_sub(1);
        let before: String = query.chars().take(position).collect();
        let line = query
            .lines()
            .nth(before.matches('\n').count())
            .unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        text.extend(["\n   | ", line, "\n   | ", &" ".repeat(column), "^"]);
    }
    let refused = Refused::failed(text);
    match server.hint() {
        Some(hint) => refused.hint(hint).into(),
        None => refused.into(),
    }
}

/// psql, where there is one. What it needs to know goes by its environment: others can read arguments.
fn psql(url: &str) -> anyhow::Result<Option<ExitCode>> {
    let config: Config = url.parse().context("read DATABASE_URL")?;
    let mut psql = Command::new("psql");
    if let Some(Host::Tcp(host)) = config.get_hosts().first() {
        psql.env("PGHOST", host);
    }
    if let Some(port) = config.get_ports().first() {
        psql.env("PGPORT", port.to_string());
    }
    if let Some(user) = config.get_user() {
        psql.env("PGUSER", user);
    }
    if let Some(password) = config.get_password() {
        psql.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
    }
    if let Some(database) = config.get_dbname() {
        psql.env("PGDATABASE", database);
    }
    match psql.status() {
        Ok(status) => Ok(Some(ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("start psql"),
    }
}

/// Statements end with `;`.
async fn prompt(sql: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let mut statement = String::new();
    loop {
        let mut err = std::io::stderr().lock();
        write!(
            err,
            "{}",
            if statement.is_empty() {
                "telltale=> "
            } else {
                "telltale-> "
            }
        )?;
        err.flush()?;
        drop(err);
        if std::io::stdin()
            .lock()
            .read_line(&mut statement)
            .context("read the terminal")?
            == 0
        {
            return Ok(ExitCode::SUCCESS);
        }
        let done = statement.trim();
        if matches!(done, "\\q" | "exit" | "quit") {
            return Ok(ExitCode::SUCCESS);
        }
        if done.is_empty() {
            statement.clear();
        } else if done.ends_with(';') {
            if let Err(error) = answer(sql, done, output).await {
                super::exit::report(&error);
            }
            statement.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_typed_for_programs_and_kept_as_written_for_people() {
        for (text, kind, for_programs, for_people) in [
            ("1.50", Type::FLOAT8, json!(1.5), json!(1.5)),
            ("NaN", Type::FLOAT8, json!("NaN"), json!("NaN")),
            ("t", Type::BOOL, json!(true), json!("t")),
            ("{\"a\":1}", Type::JSONB, json!({"a":1}), json!("{\"a\":1}")),
            ("007", Type::TEXT, json!("007"), json!("007")),
        ] {
            assert_eq!(cell(Some(text), Some(&kind), Format::Json), for_programs);
            assert_eq!(cell(Some(text), Some(&kind), Format::Tsv), for_people);
        }
        assert_eq!(cell(None, Some(&Type::TEXT), Format::Csv), Value::Null);
    }
}
