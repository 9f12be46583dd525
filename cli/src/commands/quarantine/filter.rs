//! Which entries: by id, by what they are, or all.
use super::super::exit::Refused;
use anyhow::Context as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use telltale_schemas::{Timestamp, duration};
use time::OffsetDateTime;
use tokio_postgres::Client;

/// Which entries.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Only for this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only what this worker refused
    #[arg(long)]
    stage: Option<String>,
    /// Only at this site
    #[arg(long)]
    site: Option<String>,
    /// Only about this thing
    #[arg(long)]
    thing: Option<String>,
    /// Only what came in since then: `1h`, `7d`, or an RFC 3339 time
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what came in before then
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum State {
    /// Waits for somebody
    Open,
    /// Given back to its stage
    Replayed,
    /// Given up
    Dropped,
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }
}

/// What `replay` and `drop` are about, and how they go about it.
#[derive(Debug, Clone, clap::Args)]
pub struct Selection {
    /// Ids of messages, or of their entries
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Everything that is open
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Without being asked; needed without a terminal, unless ids are given
    #[arg(long, short = 'y')]
    yes: bool,
    /// Kept with the entries: why
    #[arg(long)]
    pub(super) note: Option<String>,
    /// Kept with the entries: who
    #[arg(long, env = "USER", default_value = "unknown")]
    pub(super) by: String,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = duration::parse(text) {
        let micros = i64::try_from(ago.as_micros()).map_err(|_| "too long ago".to_owned())?;
        return Ok(Timestamp::now().plus_micros(-micros));
    }
    Timestamp::parse(text).map_err(|_| format!("`{text}` is neither a duration (`1h`) nor an RFC 3339 time"))
}

/// The values of [`Filter::CONDITION`]'s parameters.
pub(super) struct Bound<'a> {
    reason: &'a Option<String>,
    stage: &'a Option<String>,
    site: &'a Option<String>,
    thing: &'a Option<String>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
}

impl Bound<'_> {
    pub(super) fn parameters(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 6] {
        [
            self.reason,
            self.stage,
            self.site,
            self.thing,
            &self.since,
            &self.until,
        ]
    }
}

impl Filter {
    /// Over `public.quarantine`, with six parameters.
    pub(super) const CONDITION: &'static str = "
        ($1::text is null or reason = $1) and ($2::text is null or stage = $2)
        and ($3::text is null or site = $3) and ($4::text is null or thing = $4)
        and ($5::timestamptz is null or coalesce(received, time) >= $5)
        and ($6::timestamptz is null or coalesce(received, time) < $6)";

    pub(super) fn bound(&self) -> Bound<'_> {
        Bound {
            reason: &self.reason,
            stage: &self.stage,
            site: &self.site,
            thing: &self.thing,
            since: self.since.map(Timestamp::to_offset),
            until: self.until.map(Timestamp::to_offset),
        }
    }

    fn is_empty(&self) -> bool {
        let Self {
            reason,
            stage,
            site,
            thing,
            since,
            until,
        } = self;
        [reason, stage, site, thing].iter().all(|it| it.is_none()) && since.is_none() && until.is_none()
    }
}

/// What a selection found.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Open ones, oldest first.
    pub(super) open: Vec<String>,
    /// How many were replayed before, and how many dropped.
    pub(super) settled: [u64; 2],
}

impl Selection {
    /// The entries as they are now: what is refused again meanwhile is not among them.
    pub(super) async fn find(&self, sql: &Client) -> anyhow::Result<Selected> {
        if self.ids.is_empty() && self.filter.is_empty() && !self.all {
            return Err(Refused::usage("which entries? None was named")
                .hint("give ids, a filter such as --reason type, or --all")
                .into());
        }
        let by_id = if self.ids.is_empty() {
            ""
        } else {
            "and (id = any($7) or message_id = any($7))"
        };
        let query = format!(
            "select id, message_id, state from quarantine where {} {by_id} order by coalesce(received, time), id",
            Filter::CONDITION
        );
        let bound = self.filter.bound();
        let mut parameters = bound.parameters().to_vec();
        if !self.ids.is_empty() {
            parameters.push(&self.ids);
        }
        let rows = sql
            .query(&query, &parameters)
            .await
            .context("read the quarantine")?;
        let mut selected = Selected::default();
        let mut unknown: Vec<&String> = self.ids.iter().collect();
        for row in &rows {
            let (id, message): (String, &str) = (row.get(0), row.get(1));
            unknown.retain(|wanted| **wanted != id && *wanted != message);
            match row.get(2) {
                "open" => selected.open.push(id),
                "replayed" => selected.settled[0] += 1,
                _ => selected.settled[1] += 1,
            }
        }
        if let Some(unknown) = unknown.first() {
            return Err(Refused::failed(format!("`{unknown}` is not in quarantine"))
                .hint("`telltale quarantine list --all` has the ids; nothing was done")
                .into());
        }
        Ok(selected)
    }

    /// Nothing is done to many that nobody agreed to: without a terminal only `--yes` agrees.
    pub(super) fn consent(&self, verb: &str, count: usize) -> anyhow::Result<()> {
        if self.yes || count == 0 || !self.ids.is_empty() {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Refused::usage(format!("would {verb} {count} entries"))
                .hint("add --yes, or --dry-run to see them")
                .into());
        }
        write!(
            std::io::stderr().lock(),
            "{verb} {count} entries? Type the number: "
        )?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        if line.trim() == count.to_string() {
            return Ok(());
        }
        Err(Refused::usage("nothing was done").into())
    }
}

/// What was found in another state than open, said.
pub(super) fn say_settled(settled: [u64; 2]) -> std::io::Result<()> {
    for (count, word) in settled.into_iter().zip(["replayed", "dropped"]) {
        if count > 0 {
            writeln!(
                std::io::stderr().lock(),
                "note: {count} had been {word} before; nothing is done to them"
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_span_ago_or_a_time() {
        assert!(moment("1h").unwrap() < Timestamp::now());
        assert_eq!(
            moment("2026-01-15T07:41:09Z").unwrap().to_string(),
            "2026-01-15T07:41:09Z"
        );
        assert!(moment("yesterday").is_err());
    }
}
