//! Devices that do not give up: each reading is sent until somebody answers, and what was answered is written down.
use super::{
    reading::{Clock, Made, Shares, make},
    watch::Sample,
};
use crate::{
    commands::{
        chaos::now_us,
        courier::{Bridge, Courier, Receipt, path_segment},
        simulate::mqtt::{self, Fate, Letter, Line},
    },
    context::Context,
};
use anyhow::Context as _;
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use telltale_checker::ledger::{Answer, Class, Ledger, Sent};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: u32 = 64;
const LINES: u32 = 16;
/// What could not be offered in time is offered later, but not more than that late: devices keep so much.
const DEBT_MAX: Duration = Duration::from_secs(30);
/// How often a thing that does not flood at the moment looks whether it should.
const IDLE: Duration = Duration::from_millis(100);
/// Of so many readings one is as large as may be, while any is.
const LARGE_EVERY: u64 = 100;
/// Latencies looked at in a second.
const SAMPLES: u64 = 20;
/// How often one reading is sent at most.
const TIMES_MAX: usize = 2;
/// After the end, how long answers are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// What the devices do at the moment.
#[derive(Debug)]
pub(super) struct Mode {
    /// Times the rate.
    pub(super) factor: AtomicU64,
    /// Readings a second of one thing alone.
    pub(super) flood: AtomicU64,
    pub(super) odd_clocks: AtomicBool,
    pub(super) large: AtomicBool,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) offered: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) twice: AtomicU64,
    pub(super) invalid: AtomicU64,
    pub(super) odd_clocks: AtomicU64,
    pub(super) large: AtomicU64,
    pub(super) flood: AtomicU64,
}

/// What all senders share.
#[derive(Debug)]
pub(super) struct Devices {
    pub(super) mode: Mode,
    pub(super) counts: Counts,
    ledger: Ledger,
    things: u64,
    shares: Shares,
    next: AtomicU64,
    sample_every: u64,
    samples: mpsc::UnboundedSender<Sample>,
}

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    pub(super) rate: u32,
    pub(super) things: u64,
    pub(super) shares: Shares,
}

/// A reading that is on its way.
#[derive(Debug)]
struct Flight {
    sent: Sent,
    left: u32,
}

impl Devices {
    pub(super) fn new(
        ledger: &Path,
        amount: Amount,
        samples: mpsc::UnboundedSender<Sample>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            mode: Mode {
                factor: AtomicU64::new(1),
                flood: AtomicU64::new(0),
                odd_clocks: AtomicBool::new(false),
                large: AtomicBool::new(false),
            },
            counts: Counts::default(),
            ledger: Ledger::create(ledger).with_context(|| format!("make {}", ledger.display()))?,
            things: amount.things.max(1),
            shares: amount.shares,
            next: AtomicU64::new(0),
            // A quarter of all says its time.
            sample_every: (u64::from(amount.rate) / SAMPLES / 2).max(1),
            samples,
        })
    }

    /// Makes the next reading; its way begins now.
    fn next(&self, flood: bool) -> (Made, Sent) {
        let n = self.next.fetch_add(1, Relaxed);
        let odd = !flood && self.mode.odd_clocks.load(Relaxed) && n.is_multiple_of(10);
        let large = !flood && self.mode.large.load(Relaxed) && n.is_multiple_of(LARGE_EVERY);
        let thing = if flood {
            "chaos-flood".to_owned()
        } else {
            format!("chaos-{}", n % self.things)
        };
        // Where one thing has so many invalid ones, the quarantine would keep only some of them.
        let invalid = if flood { 0 } else { self.shares.invalid };
        let shares = Shares {
            invalid,
            ..self.shares
        };
        let made = make(n, thing, shares, odd, large);
        let counts = &self.counts;
        let count = |counter: &AtomicU64, is: bool| {
            counter.fetch_add(u64::from(is), Relaxed);
        };
        count(&counts.offered, true);
        count(&counts.twice, made.times > 1);
        count(&counts.invalid, made.class == Class::Bad);
        count(&counts.odd_clocks, made.clock != Clock::Right);
        count(&counts.large, large);
        count(&counts.flood, flood);
        let sent = Sent {
            id: made.id.clone(),
            class: made.class,
            sha256: made.sha256.clone(),
            sent_us: now_us(),
            answered_us: None,
            answer: Answer::Unknown,
        };
        if let Some(time) = made.time.filter(|_| (n / 2).is_multiple_of(self.sample_every)) {
            let id = made.id.clone();
            // Whoever looks at them may have ended.
            self.samples.send(Sample::new(id, time)).ok();
        }
        (made, sent)
    }

    fn note(&self, mut sent: Sent, answer: Answer) -> anyhow::Result<()> {
        let counter = match answer {
            Answer::Accepted => &self.counts.accepted,
            Answer::Refused => &self.counts.refused,
            Answer::Unknown => &self.counts.unknown,
        };
        counter.fetch_add(1, Relaxed);
        sent.answer = answer;
        sent.answered_us = (answer != Answer::Unknown).then(now_us);
        self.ledger.note(&sent).context("write the ledger")
    }
}

/// Readings on their way.
#[derive(Debug)]
pub(super) struct Load {
    senders: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    patience: CancellationToken,
}

impl Load {
    /// Begins to send: half over HTTP, half over MQTT.
    pub(super) fn begin(context: &Context, devices: &Arc<Devices>, rate: u32) -> anyhow::Result<Self> {
        let bridge = Bridge::new(context.get("BRIDGE_URL")?, context.get("BRIDGE_TOKEN")?)?;
        let mut load = Self {
            senders: JoinSet::new(),
            stop: CancellationToken::new(),
            patience: CancellationToken::new(),
        };
        let pace = |senders: u32| Pace::new(Some(Duration::from_secs(2) * senders / rate.max(1)));
        for _ in 0..CONNECTIONS {
            load.senders.spawn(over_http(
                Courier::new(bridge.clone()),
                Arc::clone(devices),
                pace(CONNECTIONS),
                load.stop.clone(),
                load.patience.clone(),
            ));
        }
        for number in 0..=LINES {
            // The last one is the thing that floods.
            let pace = if number < LINES {
                pace(LINES)
            } else {
                Pace::new(None)
            };
            let line = line(context, &format!("load-{number}"))?;
            load.senders.spawn(over_mqtt(
                line,
                Arc::clone(devices),
                pace,
                load.stop.clone(),
                load.patience.clone(),
            ));
        }
        Ok(load)
    }

    /// Sends nothing new, and waits until all is answered, or for a while.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let patience = self.patience.clone();
        let late = tokio::spawn(async move {
            tokio::time::sleep(LAST_ANSWERS).await;
            patience.cancel();
        });
        while let Some(sender) = self.senders.join_next().await {
            sender??;
        }
        late.abort();
        Ok(())
    }
}

/// A line of the stack's simulator device.
pub(super) fn line(context: &Context, client: &str) -> anyhow::Result<Line> {
    let url = context.get("MQTT_URL")?;
    Ok(Line {
        address: url
            .split_once("://")
            .map_or(url, |(_, rest)| rest)
            .trim_end_matches('/')
            .to_owned(),
        user: context.get("MQTT_USER")?.to_owned(),
        password: context.get("MQTT_PASSWORD")?.to_owned(),
        client: format!("chaos-{client}"),
    })
}

/// When the next reading is due.
#[derive(Debug, Clone, Copy)]
struct Pace {
    next: Instant,
    /// None: that of the thing that floods.
    period: Option<Duration>,
}

impl Pace {
    fn new(period: Option<Duration>) -> Self {
        // Not all at one moment.
        let after = period.unwrap_or_default().mul_f64(rand::random::<f64>());
        Self {
            next: Instant::now() + after,
            period,
        }
    }

    /// Loses nothing when it is dropped before its time.
    async fn tick(&mut self, mode: &Mode) {
        let period = match (self.period, mode.flood.load(Relaxed)) {
            (Some(period), _) => period.div_f64(mode.factor.load(Relaxed).max(1) as f64),
            (None, 0) => return std::future::pending().await,
            (None, rate) => Duration::from_secs(1).div_f64(rate as f64),
        };
        sleep_until(self.next).await;
        let oldest = Instant::now().checked_sub(DEBT_MAX).unwrap_or(self.next);
        self.next = (self.next + period).max(oldest);
    }
}

async fn over_http(
    mut courier: Courier,
    devices: Arc<Devices>,
    mut pace: Pace,
    stop: CancellationToken,
    patience: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = pace.tick(&devices.mode) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let (made, sent) = devices.next(false);
        for _ in 0..made.times {
            let before = courier.resent;
            let receipt = courier.deliver(&made.parcel, &patience).await;
            devices.counts.resent.fetch_add(courier.resent - before, Relaxed);
            let answer = match receipt {
                Receipt::Accepted(_) => Answer::Accepted,
                Receipt::Refused { .. } => Answer::Refused,
                Receipt::Stopped => Answer::Unknown,
            };
            devices.note(sent.clone(), answer)?;
        }
    }
}

async fn over_mqtt(
    line: Line,
    devices: Arc<Devices>,
    mut pace: Pace,
    stop: CancellationToken,
    patience: CancellationToken,
) -> anyhow::Result<()> {
    let (give, letters) = mpsc::channel(TIMES_MAX);
    let (tell, mut told) = mpsc::unbounded_channel();
    let session = tokio::spawn(mqtt::run_telling(line, letters, patience, Some(tell)));
    let mut flying: HashMap<String, Flight> = HashMap::new();
    let mut give = Some(give);
    let flood = pace.period.is_none();
    loop {
        // A place first: what is made is sent.
        let due = async {
            let Some(give) = &give else {
                return std::future::pending().await;
            };
            if give.reserve_many(TIMES_MAX).await.is_ok() {
                pace.tick(&devices.mode).await;
            }
        };
        let event = tokio::select! {
            biased;
            fate = told.recv() => Event::Told(fate),
            () = stop.cancelled(), if give.is_some() => Event::Stop,
            () = due => Event::Due,
            () = tokio::time::sleep(IDLE), if flood => continue,
        };
        match (event, &give) {
            (Event::Told(Some((key, fate))), _) => settle(&devices, &mut flying, &key, fate)?,
            (Event::Told(None), _) => break,
            (Event::Due, Some(give)) => send(&devices, give, &mut flying, flood)?,
            _ => give = None,
        }
    }
    session.await.context("a line ended")?;
    for flight in flying.into_values() {
        devices.note(flight.sent, Answer::Unknown)?;
    }
    Ok(())
}

enum Event {
    Told(Option<(String, Fate)>),
    Due,
    Stop,
}

/// There is room for it.
fn send(
    devices: &Devices,
    give: &mpsc::Sender<Letter>,
    flying: &mut HashMap<String, Flight>,
    flood: bool,
) -> anyhow::Result<()> {
    let (made, sent) = devices.next(flood);
    let letter = Letter {
        topic: format!("things/{}/readings", path_segment(&made.parcel.thing)),
        key: made.parcel.key.unwrap_or_default(),
        payload: made.parcel.body,
    };
    let left = made.times;
    flying.insert(letter.key.clone(), Flight { sent, left });
    for _ in 0..left {
        give.try_send(letter.clone()).context("a line ended")?;
    }
    Ok(())
}

fn settle(
    devices: &Devices,
    flying: &mut HashMap<String, Flight>,
    key: &str,
    fate: Fate,
) -> anyhow::Result<()> {
    let answer = match fate {
        Fate::Accepted => Answer::Accepted,
        Fate::Refused => Answer::Refused,
        Fate::Resent => {
            devices.counts.resent.fetch_add(1, Relaxed);
            return Ok(());
        }
    };
    if let Some(flight) = flying.get_mut(key) {
        flight.left -= 1;
        devices.note(flight.sent.clone(), answer)?;
        if flight.left == 0 {
            flying.remove(key);
        }
    }
    Ok(())
}
