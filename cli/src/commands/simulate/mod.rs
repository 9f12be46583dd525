//! `telltale simulate`: a road that speaks to the bridge as devices would.
pub mod mqtt;
pub mod road;

use super::{
    courier::{Bridge, Parcel, Receipt, path_segment},
    exit::{self, Refused},
    interrupt::Interrupt,
    output::Output,
    pool::Pool,
    progress::Progress,
    reach,
};
use crate::context::Context;
use mqtt::{Letter, Line};
use road::{Faults, Road, Thing};
use std::{io::Write as _, num::NonZeroUsize, process::ExitCode, time::Duration};
use telltale_gateway::registry::bulk as register;
use telltale_schemas::{Timestamp, duration, id};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Examples:
  telltale simulate --things 100 --rate 1/s --duration 1m
  telltale simulate --seed 7 --rate max --count 100000 --faults drop=1%,garble=0.1%";

/// Play a road: weather stations, traffic detectors, lamps, pillars and vehicles, over HTTP and MQTT
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Simulate {
    /// How many things stand and drive there
    #[arg(long, default_value = "20")]
    things: NonZeroUsize,
    /// Readings of each thing: `1/s`, `6/m`, `10/h`, or `max`
    #[arg(long, default_value = "1/s", value_parser = rate)]
    rate: Rate,
    /// The same seed gives the same things, ids and values; made up if absent
    #[arg(long)]
    seed: Option<u64>,
    /// In front of the number in each id instead of the seed, so that a road can be played again; `now` for the time
    #[arg(long)]
    run: Option<String>,
    /// What goes wrong how often: drop, garble, duplicate, missing
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "drop=1%,garble=0.1%"
    )]
    faults: Faults,
    /// End after that time
    #[arg(long, value_parser = span)]
    duration: Option<Duration>,
    /// End after so many readings
    #[arg(long)]
    count: Option<u64>,
    /// How they are sent
    #[arg(long, value_enum, value_delimiter = ',', default_value = "http,mqtt")]
    protocol: Vec<Protocol>,
    /// Connections for each protocol
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    Http,
    Mqtt,
}

/// Between two readings of a thing; none for as fast as possible.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(Option<Duration>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is no rate such as `1/s`")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no rate such as `1/s`"))?;
    match Duration::try_from_secs_f64(seconds / number) {
        Ok(every) if number > 0.0 && !every.is_zero() => Ok(Rate(Some(every))),
        _ => Err(format!("`{text}` is no rate such as `1/s`")),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("`{text}` is no duration such as `30s`"))
}

/// What was made, and what became of it.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    made: u64,
    dropped: u64,
    accepted: u64,
    refused: u64,
    resent: u64,
    lost: u64,
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let now = Timestamp::now().as_micros();
        let seed = self.seed.unwrap_or_else(|| now.unsigned_abs());
        let run = match self.run.as_deref() {
            None => seed.to_string(),
            Some("now") => (now / 1_000).to_string(),
            Some(run) => run.to_owned(),
        };
        if !id::is_key(&format!("{run}-{}", u64::MAX)) {
            return Err(Refused::usage(format!("`{run}` cannot stand in an id")).into());
        }
        let ctx = Context::find()?;
        let road = Road::new(seed, run, self.faults);
        let things: Vec<Thing> = road::things(self.things.get()).collect();

        let nats = reach::nats(&ctx).await?;
        let put = register::put(&nats, &ctx.site, things.iter().map(Thing::entry).collect()).await?;
        register::wait_until_held(&nats, &ctx.site, put.revision).await?;
        writeln!(std::io::stderr().lock(), "{} things, seed {seed}", things.len())?;

        let interrupt = Interrupt::listen()?;
        let mut senders = self.senders(&ctx, &interrupt.drain)?;
        let totals = tokio::select! {
            totals = self.play(&road, &things, &mut senders, &interrupt.drain) => totals,
            () = interrupt.leave.cancelled() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        let mut rows = self
            .output
            .rows(["made", "dropped", "accepted", "refused", "resent", "lost"]);
        let Totals {
            made,
            dropped,
            accepted,
            refused,
            resent,
            lost,
        } = totals;
        rows.row(
            [made, dropped, accepted, refused, resent, lost]
                .map(Into::into)
                .to_vec(),
        )?;
        rows.finish()?;
        Ok(match (interrupt.came(), refused + lost) {
            (true, _) => ExitCode::from(exit::INTERRUPTED),
            (false, 0) => ExitCode::SUCCESS,
            (false, _) => ExitCode::from(exit::FAILED),
        })
    }

    fn senders(&self, ctx: &Context, stop: &CancellationToken) -> anyhow::Result<Senders> {
        let mut senders = Senders::default();
        if self.protocol.contains(&Protocol::Http) {
            let bridge = Bridge::new(reach::get(ctx, "BRIDGE_URL")?, reach::get(ctx, "BRIDGE_TOKEN")?)?;
            senders.pool = Some(Pool::new(&bridge, self.connections, stop));
        }
        if self.protocol.contains(&Protocol::Mqtt) {
            let url = reach::get(ctx, "MQTT_URL")?;
            for number in 0..self.connections {
                let line = Line {
                    address: url
                        .split_once("://")
                        .map_or(url, |(_, rest)| rest)
                        .trim_end_matches('/')
                        .to_owned(),
                    user: reach::get(ctx, "MQTT_USER")?.to_owned(),
                    password: reach::get(ctx, "MQTT_PASSWORD")?.to_owned(),
                    client: format!("simulate-{}-{number}", std::process::id()),
                };
                let (give, letters) = mpsc::channel(64);
                senders.tasks.spawn(mqtt::run(line, letters, stop.clone()));
                senders.lines.push(give);
            }
        }
        Ok(senders)
    }

    async fn play(
        &self,
        road: &Road,
        things: &[Thing],
        senders: &mut Senders,
        drain: &CancellationToken,
    ) -> Totals {
        let mut totals = Totals::default();
        let mut progress = Progress::new("simulate", self.count);
        let began = Instant::now();
        let end = self.duration.map(|duration| began + duration);
        let round = things.len() as u64;
        for number in 0..self.count.unwrap_or(u64::MAX) {
            let (n, at) = (number / round, number % round);
            if let Rate(Some(every)) = self.rate {
                let due = began + every.mul_f64(n as f64 + at as f64 / round as f64);
                if end.is_some_and(|end| due >= end) {
                    break;
                }
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = drain.cancelled() => {}
                }
            }
            if drain.is_cancelled() || end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            let Some(thing) = usize::try_from(at).ok().and_then(|at| things.get(at)) else {
                break;
            };
            totals.made += 1;
            let sent = road.reading(thing, n);
            match sent.payload {
                None => totals.dropped += 1,
                Some(payload) => {
                    for _ in 0..sent.copies {
                        senders.give(thing, at, &sent.key, &payload).await;
                    }
                }
            }
            senders.collect(&mut totals);
            progress.at(totals.made);
        }
        senders.end(&mut totals).await;
        progress.finish();
        totals
    }
}

/// The lines of both protocols.
#[derive(Default)]
struct Senders {
    pool: Option<Pool>,
    lines: Vec<mpsc::Sender<Letter>>,
    tasks: JoinSet<mqtt::Count>,
}

impl Senders {
    /// Each thing keeps to one protocol, and to one line of it.
    async fn give(&self, thing: &Thing, at: u64, key: &str, payload: &[u8]) {
        let line = usize::try_from(at / 2)
            .unwrap_or_default()
            .checked_rem(self.lines.len());
        match (line.and_then(|line| self.lines.get(line)), &self.pool) {
            (Some(line), pool) if pool.is_none() || at % 2 == 1 => {
                let letter = Letter {
                    topic: format!("things/{}/readings", path_segment(&thing.name)),
                    key: key.to_owned(),
                    payload: payload.to_vec().into(),
                };
                // A line takes letters until we hang up.
                line.send(letter).await.ok();
            }
            (_, Some(pool)) => {
                let parcel = Parcel {
                    thing: thing.name.clone(),
                    key: Some(key.to_owned()),
                    content_type: "application/json",
                    body: payload.to_vec().into(),
                };
                pool.give(0, parcel).await;
            }
            _ => {}
        }
    }

    fn collect(&mut self, totals: &mut Totals) {
        for (_, receipt) in self.pool.iter_mut().flat_map(Pool::receipts) {
            totals.note(&receipt);
        }
    }

    async fn end(&mut self, totals: &mut Totals) {
        self.lines.clear();
        if let Some(pool) = &mut self.pool {
            let resent = pool.end(|_, receipt| totals.note(&receipt)).await;
            totals.resent += resent;
        }
        while let Some(done) = self.tasks.join_next().await {
            let count = done.unwrap_or_default();
            totals.accepted += count.accepted;
            totals.refused += count.refused;
            totals.resent += count.resent;
            totals.lost += count.lost;
        }
    }
}

impl Totals {
    fn note(&mut self, receipt: &Receipt) {
        match receipt {
            Receipt::Accepted(_) => self.accepted += 1,
            Receipt::Refused { .. } => self.refused += 1,
            Receipt::Stopped => self.lost += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_in_a_time() {
        assert_eq!(rate("1/s"), Ok(Rate(Some(Duration::from_secs(1)))));
        assert_eq!(rate("6/m"), Ok(Rate(Some(Duration::from_secs(10)))));
        assert_eq!(rate("0.5"), Ok(Rate(Some(Duration::from_secs(2)))));
        assert_eq!(rate("max"), Ok(Rate(None)));
        for text in ["", "1/d", "0/s", "-1/s", "x/s", "NaN/s", "inf/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
