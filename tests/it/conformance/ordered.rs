//! A worker in order: what it answers is what it would have answered without any crash, and one copy reads at a time.
use super::{
    RETRY, things,
    tried::{Told, Tried},
    world::{World, eventually},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Readings that no others have the keys of.
fn more(from: usize, count: usize) -> Vec<Told<'static>> {
    let mut all = things(from + count, &[("x", 0.5)]);
    all.split_off(from)
}

/// Each thing's events in the order of its counts, with their sums.
fn by_thing(events: &[Value]) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut things = BTreeMap::<String, Vec<(u64, f64)>>::new();
    for event in events {
        let (thing, detail) = (&event["subject"], &event["data"]["detail"]);
        let counted = (detail["count"].as_u64().unwrap(), detail["sum"].as_f64().unwrap());
        things
            .entry(thing.as_str().unwrap().to_owned())
            .or_default()
            .push(counted);
    }
    for counts in things.values_mut() {
        counts.sort_by_key(|(count, _)| *count);
    }
    things
}

fn assert_uninterrupted(events: &[Value]) {
    for (thing, counts) in by_thing(events) {
        let expected: Vec<_> = (1..=counts.len()).map(|n| (n as u64, n as f64 * 0.5)).collect();
        assert_eq!(counts, expected, "{thing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_five_times_it_answers_as_if_it_never_had_been() {
    let world = World::new(Tried::TrialOrdered, 30).await;
    let readings = more(0, 6_000);
    for (turn, part) in readings.chunks(1_000).enumerate() {
        world.give(part.to_vec()).await;
        let process = world.start(&[]);
        let wanted = turn * 1_000 + 300;
        eventually("some of it is done", || async {
            (world.count("EVENTS", "event.*.*.done").await >= wanted).then_some(())
        })
        .await;
        // Killed by its drop, in the midst of the rest.
        drop(process);
    }
    let process = world.start(&[]);
    let events = world.done(6_000).await;
    assert_uninterrupted(&events);
    world.drained().await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_it_acknowledged_the_last_message_it_still_says_what_silence_brings() {
    let world = World::new(Tried::TrialOrdered, 30).await;
    let process = world.start(&[]);
    world
        .give(vec![("t1", "q".into(), vec![("x", 0.5), ("quiet", 5.0)])])
        .await;
    world.done(1).await;
    world.drained().await;
    let quiet = async || world.count("EVENTS", "event.*.*.quiet").await;
    assert_eq!(quiet().await, 0, "it is killed before the silence is over");
    drop(process);
    let process = world.start(&[]);
    eventually("the end of the silence", || async {
        (quiet().await == 1).then_some(())
    })
    .await;
    world.done(1).await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_reads_and_another_takes_over_from_where_it_was() {
    let world = World::new(Tried::TrialOrdered, 30).await;
    let first = world.start(&[]);
    world.give(more(0, 700)).await;
    world.done(700).await;
    let second = world.start(&[]);
    eventually("the second copy stands by", || async {
        world
            .log()
            .contains("another copy reads; standing by")
            .then_some(())
    })
    .await;
    // Told to stop, it lets go: nobody waits for it to be missed.
    assert_eq!(first.terminate().await.0, Some(0));
    let stopped = Instant::now();
    world.give(more(700, 700)).await;
    world.done(1_400).await;
    assert!(
        stopped.elapsed() < Duration::from_secs(3),
        "{:?}",
        stopped.elapsed()
    );
    let third = world.start(&[]);
    drop(second);
    world.give(more(1_400, 700)).await;
    assert_uninterrupted(&world.done(2_100).await);
    assert!(third.metric("telltale_active").await > 0.5, "it is the one");
    assert_eq!(third.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_handle_is_quarantined_and_a_broker_that_restarts_changes_no_order() {
    let mut world = World::new(Tried::TrialOrdered, 30).await;
    let process = world.start(&RETRY);
    world.give(vec![("t1", "p".into(), vec![("panic", 0.0)])]).await;
    world.give(vec![("t1", "n".into(), vec![("y", 0.0)])]).await;
    world.give_raw("t2", "{").await;
    world.give(more(0, 2_000)).await;
    world.restart_broker().await;
    world.give(more(2_000, 2_000)).await;
    assert_uninterrupted(&world.done(4_000).await);
    let entries = world.quarantined().await;
    for reason in ["panic", "no_x", "undecodable"] {
        assert_eq!(entries.get(reason).map(Vec::len), Some(1), "{reason}");
    }
    assert_eq!(process.terminate().await.0, Some(0));
}
