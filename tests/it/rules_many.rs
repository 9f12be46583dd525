//! Twenty rules over many things while `process` is restarted: each event and each computed record is there, once.
//!
//! A thousand things at two thousand readings a second: `TELLTALE_SIZE=whole cargo test --workspace --test it rules_many`.
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use telltale_cli::stack::StackOptions;
use telltale_schemas::Timestamp;
use telltale_tests::{
    load::{self, Load},
    pipeline::Pipeline,
    size,
};

/// Of each kind.
const RULES: usize = 5;
const WITHIN: Duration = Duration::from_secs(90);
/// Readings a second, of all things together.
const RATE: usize = 2_000;
/// Seconds that an alarm's condition has to hold, and seconds in a window.
const HOLD: usize = 4;
const EVERY: usize = 10;

/// What a thing measures at its `n`th second: a number that neither it nor its neighbours repeat soon.
fn value(thing: usize, n: usize) -> usize {
    (thing * 31 + n * 17 + n * n * 7) % 101
}

fn rules() -> Vec<(String, String)> {
    let mut rules = Vec::new();
    for k in 0..RULES {
        let at_once = format!(
            r#"{{"name": "at-once-{k}", "when": "x == {}.0", "then": [{{"event": "at_once", "detail": {{"x": "x"}}}}]}}"#,
            k * 7
        );
        let alarm = format!(
            r#"{{"name": "alarm-{k}", "when": "x > {}.0", "clear": "x < {}.0", "severity": "warning", "then": [{{"event": "high"}}]}}"#,
            60 + k * 5,
            40 - k * 5
        );
        let holds = format!(
            r#"{{"name": "holds-{k}", "when": "x > {}.0", "for": "{HOLD}s", "severity": "minor", "then": [{{"event": "stays"}}]}}"#,
            20 + k * 4
        );
        let window = format!(
            r#"{{"name": "window-{k}", "things": ["thing-*{k}"], "window": {{"of": "x", "every": "{EVERY}s", "functions": ["sum", "count"]}}}}"#
        );
        for (word, document) in [
            ("at-once", at_once),
            ("alarm", alarm),
            ("holds", holds),
            ("window", window),
        ] {
            rules.push((format!("{word}-{k}"), document));
        }
    }
    rules
}

/// Ids of all that is expected; of a window's sum with the value.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    events: Vec<String>,
    sums: BTreeMap<String, usize>,
}

/// What the rules say of one thing's readings, written once more in the plainest way.
fn expected(thing: usize, seconds: usize, begin: i64, all: &mut Expected) {
    let name = format!("thing-{thing}");
    let micros = |n: usize| (begin + i64::try_from(n).unwrap()) * 1_000_000;
    for k in 0..RULES {
        let mut raised = None;
        let mut since: Option<usize> = None;
        let mut stays = None;
        for n in 0..seconds {
            let x = value(thing, n);
            if x == k * 7 {
                all.events.push(format!("{name}:{n:06}.process.at-once-{k}"));
            }
            match raised {
                None if x > 60 + k * 5 => {
                    raised = Some(n);
                    all.events.push(format!("alarm-{k}:{name}:{}.raised", micros(n)));
                }
                Some(at) if x < 40 - k * 5 => {
                    raised = None;
                    all.events
                        .push(format!("alarm-{k}:{name}:{}.cleared", micros(at)));
                }
                _ => {}
            }
            if let Some(at) = since.filter(|at| stays.is_none() && n - at >= HOLD) {
                stays = Some(at);
                all.events.push(format!("holds-{k}:{name}:{}.raised", micros(at)));
            }
            if x > 20 + k * 4 {
                since = since.or(Some(n));
            } else {
                since = None;
                if let Some(at) = stays.take() {
                    all.events
                        .push(format!("holds-{k}:{name}:{}.cleared", micros(at)));
                }
            }
        }
        // It holds though nothing more is said.
        if let Some(at) = since.filter(|_| stays.is_none()) {
            all.events.push(format!("holds-{k}:{name}:{}.raised", micros(at)));
        }
        if name.ends_with(&k.to_string()) {
            for start in (0..seconds).step_by(EVERY) {
                let sum = (start..seconds.min(start + EVERY)).map(|n| value(thing, n)).sum();
                all.sums
                    .insert(format!("window-{k}:{name}:{}", micros(start)), sum);
            }
        }
    }
}

fn loads(things: usize, second: usize, begin: i64) -> Vec<Load> {
    let time = begin + i64::try_from(second).unwrap();
    (0..things)
        .map(|thing| Load {
            thing: format!("thing-{thing}"),
            key: format!("{second:06}"),
            payload: Bytes::from(format!(r#"{{"time":{time},"x":{}}}"#, value(thing, second))),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_rules_say_each_thing_once_through_two_restarts() {
    let (things, seconds) = (size(100, 1_000), size(60, 120));
    // Whole windows, and not older than a day.
    let begin = (Timestamp::now().as_micros() / 1_000_000 / 60 - 60) * 60;
    let mut all = Expected::default();
    for thing in 0..things {
        expected(thing, seconds, begin, &mut all);
    }
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    for (name, document) in rules() {
        pipeline.apply(&name, &document).await;
    }
    // A rule that looks at one reading alone acts as it comes: all are there before the first.
    telltale_tests::eventually_async("all rules are in force", WITHIN, || async {
        let active = pipeline.metric("process", "telltale_process_rules");
        (active >= rules().len() as f64).then_some(())
    })
    .await;
    let sender = {
        let client = pipeline.http.clone();
        tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            for second in 0..seconds {
                load::over_http(&client, &loads(things, second, begin), 24);
                // No faster than it is said to be.
                let due = Duration::from_micros((1_000_000 * things * (second + 1) / RATE) as u64);
                std::thread::park_timeout(due.saturating_sub(start.elapsed()));
            }
            start.elapsed()
        })
    };
    let total = things * seconds;
    for share in 1..=2 {
        let stored = i64::try_from(total * share / 4).unwrap();
        pipeline
            .at_least("select count(*) from readings where name = 'x'", stored, WITHIN)
            .await;
        pipeline.kill("process", WITHIN).await;
    }
    let took = sender.await.unwrap();
    eprintln!("{total} readings in {took:?}, {} events", all.events.len());
    let sums = i64::try_from(all.sums.len()).unwrap();
    pipeline
        .at_least(
            "select count(*) from readings where name = 'x_sum_10s'",
            sums,
            WITHIN,
        )
        .await;
    let end = Instant::now() + WITHIN;
    let mut next = tokio::time::interval(Duration::from_millis(500));
    loop {
        next.tick().await;
        let events = pipeline
            .rows("select message_id from events where name in ('at_once', 'high', 'stays')")
            .await;
        let (missing, more) = differ(&all.events, &events);
        assert!(more.is_empty(), "not expected: {more:?}");
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "missing: {missing:?}");
    }
    let found: BTreeMap<String, usize> = pipeline
        .rows("select message_id, value::bigint from readings where name = 'x_sum_10s'")
        .await
        .iter()
        .map(|row| {
            row.split_once('|')
                .map(|(id, sum)| (id.to_owned(), sum.parse().unwrap()))
                .unwrap()
        })
        .collect();
    assert_eq!(found, all.sums);
}

/// What is in one and not in the other, a few of each; what comes twice counts as more.
fn differ<'a>(expected: &'a [String], found: &'a [String]) -> (Vec<&'a String>, Vec<&'a String>) {
    let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
    for id in expected {
        *counts.entry(id).or_default() += 1;
    }
    for id in found {
        *counts.entry(id).or_default() -= 1;
    }
    let some = |is_it: fn(i64) -> bool| {
        let ids = counts.iter().filter(move |(_, count)| is_it(**count));
        ids.map(|(id, _)| *id).take(10).collect()
    };
    (some(|count| count > 0), some(|count| count < 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_takes_effect_within_two_seconds() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let rule =
        |event: &str| format!(r#"{{"name": "r", "when": "x > 1.0", "then": [{{"event": "{event}"}}]}}"#);
    for event in ["before", "after"] {
        pipeline.apply("r", &rule(event)).await;
        let applied = Instant::now();
        let mut sent = Vec::new();
        let mut next = tokio::time::interval(Duration::from_millis(100));
        let query = format!("select count(*) from events where name = '{event}'");
        while pipeline.count(&query).await == Some(0) {
            next.tick().await;
            assert!(applied.elapsed() < WITHIN, "no reading was judged by it");
            sent.push(applied.elapsed());
            let load = Load {
                thing: "t".into(),
                key: format!("{event}-{:04}", sent.len() - 1),
                payload: Bytes::from_static(br#"{"x": 2}"#),
            };
            let client = pipeline.http.clone();
            tokio::task::spawn_blocking(move || load::over_http(&client, &[load], 1))
                .await
                .unwrap();
        }
        let first = pipeline
            .rows(&format!(
                "select min(causation_id) as id from events where name = '{event}'"
            ))
            .await;
        let (_, number) = first[0].rsplit_once('-').unwrap();
        let after = number.parse::<usize>().map(|n| sent[n]).unwrap();
        assert!(after < Duration::from_secs(2), "{event}: {after:?}");
    }
}
