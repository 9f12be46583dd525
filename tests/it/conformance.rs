//! What every worker must do, whatever it is for: tried with a worker that does what a reading tells it to.
mod world;

use serde_json::Value;
use std::{collections::BTreeSet, fs, time::Duration};
use world::{Told, World, eventually};

/// Both kinds of worker; the second one reads packs.
const WORKERS: [&str; 2] = ["trial", "trial_batch"];

fn things(count: usize, records: &[(&'static str, f64)]) -> Vec<Told<'static>> {
    const THINGS: [&str; 7] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
    (0..count)
        .map(|n| (THINGS[n % THINGS.len()], n.to_string(), records.to_vec()))
        .collect()
}

fn ids(events: &[Value]) -> BTreeSet<&str> {
    events.iter().filter_map(|event| event["id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_handled_once_and_acknowledged() {
    for worker in WORKERS {
        let world = World::new(worker, 30).await;
        let process = world.start(&[]);
        world.give(things(2_000, &[("x", 1.0)])).await;
        let events = world.done(2_000).await;
        world.drained().await;
        assert_eq!(ids(&events).len(), 2_000);
        assert_eq!(events[0]["rawseq"], "7-1");
        assert!(world.quarantined().await.is_empty());
        assert_eq!(process.asked("/livez").await.0, 200);
        assert_eq!(process.asked("/readyz").await, (200, "ready\n".into()));
        let (_, metrics) = process.asked("/metrics").await;
        let name = worker.replace('_', "-");
        let line = format!("telltale_published_total{{kind=\"event\",stage=\"{name}\"}} 2000");
        assert!(metrics.contains(&line), "{line} in {metrics}");
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_delivered_again_and_what_always_fails_is_quarantined_once() {
    for worker in WORKERS {
        let world = World::new(worker, 30).await;
        let process = world.start(&[
            "--attempts-max",
            "3",
            "--retry-first",
            "50ms",
            "--handle-timeout",
            "1s",
        ]);
        world
            .give(vec![
                ("t1", "twice".into(), vec![("retry", 2.0)]),
                ("t2", "always".into(), vec![("retry", 9.0)]),
                ("t3", "panics".into(), vec![("panic", 0.0)]),
                ("t4", "rejects".into(), vec![("reject", 0.0)]),
                ("t5", "surprises".into(), vec![("undeclared", 0.0)]),
                ("t6", "fine".into(), vec![("x", 0.0)]),
            ])
            .await;
        world.give_raw("t7", "{").await;
        let quarantined = eventually("the entries", || async {
            let found = world.quarantined().await;
            (found.values().map(Vec::len).sum::<usize>() >= 5).then_some(found)
        })
        .await;
        world.drained().await;
        world.done(2).await;
        for (reason, count) in [("attempts", 2), ("panic", 1), ("unit", 1), ("undecodable", 1)] {
            let entries = quarantined.get(reason).map_or(0, Vec::len);
            assert_eq!(entries, count, "{worker}: `{reason}` in {quarantined:?}");
        }
        let entry = &quarantined["panic"][0];
        assert_eq!(entry["data"]["attempts"], 3);
        assert_eq!(entry["causationid"], "t3:panics");
        assert_eq!(entry["rawseq"], "7-1");
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_only_after_what_follows_from_it_is_stored() {
    for worker in WORKERS {
        let world = World::new(worker, 2).await;
        world.limit_events(4).await;
        let process = world.start(&["--attempts-max", "2", "--retry-first", "50ms"]);
        world.give(things(12, &[("x", 1.0)])).await;
        world.done(4).await;
        eventually("it says why it holds", || async {
            let (status, text) = process.asked("/readyz").await;
            (status == 503 && text.contains("full")).then_some(())
        })
        .await;
        // Longer than all attempts together: what waits for a full stream is not a failure of the message.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (pending, unacknowledged) = world.left().await;
        assert!(
            unacknowledged > 0 || pending > 0,
            "{worker}: what could not be stored is not acknowledged"
        );
        assert_eq!(process.asked("/livez").await.0, 200);
        world.limit_events(-1).await;
        world.done(12).await;
        world.drained().await;
        assert!(
            world.quarantined().await.is_empty(),
            "{worker}: nothing was at fault"
        );
        assert_eq!(process.asked("/readyz").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_holds_quarantines_nothing_and_ends_by_itself() {
    for worker in WORKERS {
        let world = World::new(worker, 2).await;
        let process = world.start(&["--attempts-max", "2", "--retry-first", "50ms"]);
        world.give(things(90, &[("outage", 0.0)])).await;
        eventually("it holds", || async {
            let (status, text) = process.asked("/readyz?verbose").await;
            (status == 503 && text.contains("the gate is shut")).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(world.count("EVENTS", "event.>").await, 0);
        fs::write(world.gate(), "").unwrap();
        let events = world.done(90).await;
        world.drained().await;
        assert!(world.quarantined().await.is_empty(), "{worker}");
        assert_eq!(
            world.count("REDO", "redo.>").await,
            0,
            "{worker}: nobody was suspected"
        );
        assert!(
            events.iter().all(|event| event["data"]["detail"]["attempt"] == 1),
            "{worker}: an outage is no attempt"
        );
        assert_eq!(process.asked("/readyz").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_twice_has_one_effect() {
    for worker in WORKERS {
        let world = World::new(worker, 30).await;
        let _process = world.start(&[]);
        world.give(things(60, &[("x", 1.0)])).await;
        world.done(60).await;
        world.give(things(60, &[("x", 1.0)])).await;
        world.drained().await;
        world.done(60).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_it_has_begun_and_gives_back_the_rest() {
    for worker in WORKERS {
        let world = World::new(worker, 30).await;
        let first = world.start(&[]);
        let slow = if worker == "trial" { 20.0 } else { 1.0 };
        world.give(things(600, &[("slow", slow)])).await;
        eventually("it is in the middle", || async {
            (world.count("EVENTS", "event.>").await > 20).then_some(())
        })
        .await;
        let (code, took) = first.terminate().await;
        assert_eq!(code, Some(0), "{worker}");
        assert!(took < Duration::from_secs(12), "{worker}: {took:?}");
        let begun = std::time::Instant::now();
        let _second = world.start(&[]);
        world.done(600).await;
        world.drained().await;
        assert!(
            begun.elapsed() < Duration::from_secs(25),
            "{worker}: nothing waits for the acknowledgement's time"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_costs_nothing() {
    for worker in WORKERS {
        let mut world = World::new(worker, 3).await;
        let process = world.start(&[]);
        world.give(things(300, &[("slow", 2.0)])).await;
        eventually("it is in the middle", || async {
            (world.count("EVENTS", "event.>").await > 10).then_some(())
        })
        .await;
        world.restart_broker().await;
        world.give(things(600, &[("x", 1.0)]).split_off(300)).await;
        let events = world.done(600).await;
        assert_eq!(ids(&events).len(), 600);
        world.drained().await;
        assert!(world.quarantined().await.is_empty());
        eventually("it is ready again", || async {
            (process.asked("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_the_process_ends_in_the_quarantine_and_its_neighbours_do_not() {
    for worker in WORKERS {
        let world = World::new(worker, 1).await;
        world.give(things(9, &[("x", 1.0)])).await;
        world
            .give(vec![("killer", "k".into(), vec![("abort", 0.0)])])
            .await;
        let flags = ["--attempts-max", "2", "--retry-first", "50ms"];
        let mut process = world.start(&flags);
        let mut starts = 1;
        let quarantined = loop {
            let found = world.quarantined().await;
            if !found.is_empty() {
                break found;
            }
            if process.has_ended() {
                process = world.start(&flags);
                starts += 1;
            }
            assert!(starts < 20, "{worker}: it never ends");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        world.done(9).await;
        world.drained().await;
        assert!(starts > 2, "it did kill");
        let entries: Vec<_> = quarantined.values().flatten().collect();
        assert_eq!(entries.len(), 1, "{worker}: {entries:?}");
        assert_eq!(entries[0]["data"]["reason"], "attempts");
        assert_eq!(entries[0]["causationid"], "killer:k");
        assert!(!process.has_ended());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_message_holds_back_only_its_own_thing() {
    let world = World::new("trial", 30).await;
    let process = world.start(&[]);
    world
        .give(vec![("slow", "1".into(), vec![("slow", 5_000.0)])])
        .await;
    world.give(vec![("slow", "2".into(), vec![("x", 0.0)])]).await;
    world.give(things(200, &[("x", 1.0)])).await;
    eventually("the others", || async {
        (world.count("EVENTS", "event.>").await >= 200).then_some(())
    })
    .await;
    eventually("their acknowledgement", || async {
        (world.left().await == (0, 2)).then_some(())
    })
    .await;
    assert_eq!(
        world.count("EVENTS", "event.*.slow.>").await,
        0,
        "in the order of arrival"
    );
    world.done(202).await;
    world.drained().await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guilty_reading_costs_its_pack_and_its_batch_nothing() {
    let world = World::new("trial_batch", 30).await;
    world.give(things(30, &[("x", 1.0)])).await;
    world
        .give(vec![
            ("t1", "before".into(), vec![("x", 1.0)]),
            ("t2", "guilty".into(), vec![("panic", 0.0)]),
            ("t3", "after".into(), vec![("x", 1.0)]),
        ])
        .await;
    let _process = world.start(&["--attempts-max", "2", "--retry-first", "50ms"]);
    world.done(32).await;
    let quarantined = eventually("the entry", || async {
        let found = world.quarantined().await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    world.drained().await;
    assert_eq!(quarantined["panic"].len(), 1);
    assert_eq!(quarantined["panic"][0]["causationid"], "t2:guilty");
    assert_eq!(quarantined["panic"][0]["data"]["original"], "valid.local.t2");
    assert_eq!(world.quarantined().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_provisioned_is_said_and_the_process_ends_with_3() {
    let world = World::new("trial", 30).await;
    let stream = world.context.get_stream("READINGS").await.unwrap();
    stream.delete_consumer("trial").await.unwrap();
    let mut process = world.start(&[]);
    assert_eq!(process.ended().await, Some(3));
    assert!(world.log().contains("telltale provision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_is_deleted_and_made_again_is_bound_again() {
    let world = World::new("trial", 30).await;
    let process = world.start(&[]);
    world.give(things(10, &[("x", 1.0)])).await;
    world.done(10).await;
    world.drained().await;
    let stream = world.context.get_stream("READINGS").await.unwrap();
    stream.delete_consumer("trial").await.unwrap();
    eventually("it says so", || async {
        (process.asked("/readyz").await.0 == 503).then_some(())
    })
    .await;
    world.provision().await;
    world.give(things(20, &[("x", 1.0)]).split_off(10)).await;
    world.done(20).await;
    eventually("it is ready", || async {
        (process.asked("/readyz").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_is_kept_alive() {
    for worker in WORKERS {
        let world = World::new(worker, 1).await;
        let process = world.start(&[]);
        // Several times as long as the broker waits for an acknowledgement.
        let slow = if worker == "trial" { 40.0 } else { 5.0 };
        world.give(things(1_000, &[("slow", slow)])).await;
        let events = world.done(1_000).await;
        world.drained().await;
        assert!(
            events.iter().all(|event| event["data"]["detail"]["attempt"] == 1),
            "{worker}"
        );
        assert_eq!(world.count("REDO", "redo.>").await, 0);
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_without_the_rights_is_told_which_and_the_process_ends_with_4() {
    let world = World::new("trial", 30).await;
    let mut process = world.start_without_rights();
    assert_eq!(process.ended().await, Some(4));
    assert!(world.log().contains("CONSUMER.INFO"), "the subject is named");
}
