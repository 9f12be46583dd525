//! `telltale thing infer`: a description proposed for a thing that only speaks, from its readings.
use super::{super::exit::Refused, super::reach, known};
use crate::context::Context;
use anyhow::Context as _;
use std::{io::Write as _, process::ExitCode, time::Duration};
use telltale_nats::Name;
use telltale_schemas::{
    Record, Timestamp, duration,
    td::{self, infer::Observed},
};
use tokio_postgres::Client;

pub(super) const EXAMPLES: &str = "Examples:
  telltale thing infer lamp-1 > lamp-1.td.json
  telltale thing infer lamp-1 --last 1h | telltale thing create -";
/// Texts of one property that are looked at.
const TEXTS_MAX: i64 = 1_000;

/// What it is made of. What a test found wrong or missing tells nothing of what is normal.
const READINGS: &str = "
    select count(distinct message_id), min(time), max(time) from readings
    where thing = $1 and kind = 'observation' and time > now() - $2::bigint * interval '1 second'";
const PROPERTIES: &str = "
    select name, unit, count(value), count(value) filter (where value <> trunc(value)), min(value), max(value),
        count(value_bool), count(value_data)
    from readings
    where thing = $1 and kind = 'observation' and time > now() - $2::bigint * interval '1 second'
        and quality not in (4, 9)
    group by name, unit";
const TEXTS: &str = "
    select name, value_text, count(*) from readings
    where thing = $1 and kind = 'observation' and time > now() - $2::bigint * interval '1 second'
        and quality not in (4, 9) and value_text is not null
    group by name, value_text order by 3 desc limit $3";

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Infer {
    /// The thing's name
    name: String,
    /// Only readings of so long before now
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = span)]
    last: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("`{text}` is no duration such as `7d`"))
}

impl Infer {
    pub(super) async fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let thing = known::named(&self.name)?;
        let sql = reach::sql(ctx).await?;
        let seconds = i64::try_from(self.last.as_secs()).unwrap_or(i64::MAX);
        let observed = observed(&sql, &thing, seconds)
            .await
            .context("read what it has said")?;
        if observed.properties.is_empty() {
            let refused = Refused::failed(format!("nothing was read of `{}` in that time", thing.plain()));
            return Err(refused.hint("say --last with a longer time").into());
        }
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &td::infer(&observed))?;
        writeln!(out)?;
        writeln!(
            std::io::stderr().lock(),
            "note: proposed from {} readings; read it before it is registered",
            observed.readings
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

fn count(row: &tokio_postgres::Row, at: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(at)).unwrap_or_default()
}

async fn observed(sql: &Client, thing: &Name, seconds: i64) -> anyhow::Result<Observed> {
    let name = thing.plain();
    let mut observed = Observed::of(name);
    let row = sql.query_one(READINGS, &[&name, &seconds]).await?;
    observed.readings = count(&row, 0);
    observed.first = row
        .get::<_, Option<time::OffsetDateTime>>(1)
        .map(Timestamp::from_offset);
    observed.last = row
        .get::<_, Option<time::OffsetDateTime>>(2)
        .map(Timestamp::from_offset);
    for row in sql.query(PROPERTIES, &[&name, &seconds]).await? {
        let seen = observed.properties.entry(row.get(0)).or_default();
        let values = count(&row, 2);
        seen.numbers += values;
        seen.fractions += count(&row, 3);
        let (least, most): (Option<f64>, Option<f64>) = (row.get(4), row.get(5));
        seen.minimum = [seen.minimum, least].into_iter().flatten().reduce(f64::min);
        seen.maximum = [seen.maximum, most].into_iter().flatten().reduce(f64::max);
        seen.booleans += count(&row, 6);
        seen.bytes += count(&row, 7);
        if let Some(unit) = row.get::<_, Option<String>>(1) {
            *seen.units.entry(unit).or_default() += values;
        }
    }
    for row in sql.query(TEXTS, &[&name, &seconds, &TEXTS_MAX]).await? {
        let name: String = row.get(0);
        let seen = observed.properties.entry(name.clone()).or_default();
        seen.record(&Record {
            vs: Some(row.get(1)),
            ..Record::named(name)
        });
        seen.texts += count(&row, 2).saturating_sub(1);
    }
    Ok(observed)
}
