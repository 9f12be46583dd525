//! `telltale quarantine list`: entries, or how many there are of each sort.
use super::{
    super::{
        output::{Format, Output},
        reach,
    },
    filter::{Filter, State},
    when,
};
use crate::context::Context;
use anyhow::Context as _;
use serde_json::Value;
use std::{io::Write as _, process::ExitCode};

/// Which states, how many, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// Only those that are in this state
    #[arg(long, value_enum, default_value = "open", conflicts_with = "all")]
    state: State,
    /// In whatever state
    #[arg(long)]
    all: bool,
    /// How many of each site, stage and reason, instead of each by itself
    #[arg(long)]
    count: bool,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: i64,
}

pub(super) async fn run(
    ctx: &Context,
    filter: &Filter,
    shape: &Shape,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let sql = reach::sql(ctx).await?;
    let state = (!shape.all).then(|| shape.state.word());
    let found = if shape.count {
        count(&sql, filter, state, output).await?
    } else {
        each(&sql, filter, state, shape.limit, output).await?
    };
    let mut err = std::io::stderr().lock();
    if found == 0 {
        match state {
            Some("open") => writeln!(err, "nothing is open in quarantine")?,
            Some(state) => writeln!(err, "nothing in quarantine is {state}")?,
            None => writeln!(err, "nothing is in quarantine")?,
        }
    } else if !shape.count && i64::try_from(found).is_ok_and(|found| found == shape.limit) {
        let limit = shape.limit;
        writeln!(
            err,
            "note: these are the newest {limit}; --limit shows more, --count sums up"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn each(
    sql: &tokio_postgres::Client,
    filter: &Filter,
    state: Option<&str>,
    limit: i64,
    output: &Output,
) -> anyhow::Result<usize> {
    let query = format!(
        "select coalesce(received, time) as at, site, thing, stage, reason, message_id, id, errors, attempts, state
         from quarantine where {} and ($7::text is null or state = $7) order by at desc, id limit $8",
        Filter::CONDITION
    );
    let bound = filter.bound();
    let mut parameters = bound.parameters().to_vec();
    parameters.extend([&state as &(dyn tokio_postgres::types::ToSql + Sync), &limit]);
    let found = sql
        .query(&query, &parameters)
        .await
        .context("read the quarantine")?;
    let mut columns = vec![
        "time",
        "site",
        "thing",
        "stage",
        "reason",
        "message_id",
        "attempts",
        "state",
        "problem",
    ];
    // Long, and for people the message's id does as well.
    let for_programs = matches!(output.asked(), Some(Format::Json | Format::Ndjson | Format::Csv));
    if for_programs {
        columns.push("id");
    }
    let mut rows = output.rows(columns);
    for row in &found {
        let text = |column: &str| Value::from(row.get::<_, String>(column));
        let mut cells = vec![
            when(row, "at"),
            text("site"),
            text("thing"),
            text("stage"),
            text("reason"),
            text("message_id"),
            row.get::<_, i32>("attempts").into(),
            text("state"),
            problem(&row.get("errors")).into(),
        ];
        if for_programs {
            cells.push(text("id"));
        }
        rows.row(cells)?;
    }
    rows.finish()?;
    Ok(found.len())
}

async fn count(
    sql: &tokio_postgres::Client,
    filter: &Filter,
    state: Option<&str>,
    output: &Output,
) -> anyhow::Result<usize> {
    let query = format!(
        "select count(*) as entries, count(distinct thing) as things, site, stage, reason, state,
            min(coalesce(received, time)) as oldest, max(coalesce(received, time)) as newest
         from quarantine where {} and ($7::text is null or state = $7)
         group by site, stage, reason, state order by entries desc, site, stage, reason, state",
        Filter::CONDITION
    );
    let bound = filter.bound();
    let mut parameters = bound.parameters().to_vec();
    parameters.push(&state);
    let found = sql
        .query(&query, &parameters)
        .await
        .context("read the quarantine")?;
    let mut rows = output.rows([
        "reason", "stage", "site", "state", "entries", "things", "oldest", "newest",
    ]);
    for row in &found {
        let text = |column: &str| Value::from(row.get::<_, String>(column));
        rows.row(vec![
            text("reason"),
            text("stage"),
            text("site"),
            text("state"),
            row.get::<_, i64>("entries").into(),
            row.get::<_, i64>("things").into(),
            when(row, "oldest"),
            when(row, "newest"),
        ])?;
    }
    rows.finish()?;
    Ok(found.len())
}

fn problem(errors: &Value) -> String {
    let first = &errors[0];
    let text = |member: &str| first[member].as_str().unwrap_or_default();
    format!("{} {}", text("pointer"), text("message"))
        .trim()
        .to_owned()
}
