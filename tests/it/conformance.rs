//! What every worker must do, whatever it is for: in `every` each of ours, here those that do what a reading tells them
//! to, which may be to misbehave.
mod every;
mod ordered;
mod process;
mod sink;
mod tried;
mod world;

use std::{fs, time::Duration};
use tried::{Told, Tried};
use world::{World, eventually};

/// So often in vain, which is more often, and for longer, than a message is tried that spends its attempts: two of them,
/// with [`RETRY`] between them, and the broker waits a second for an acknowledgement.
const LONG: u64 = 7;
/// Six pauses, each between half and the whole of its double, are 2.2 s at least.
const RETRY: [&str; 4] = ["--attempts-max", "2", "--retry-first", "70ms"];

/// Readings of seven things.
fn things(count: usize, records: &[(&'static str, f64)]) -> Vec<Told<'static>> {
    const THINGS: [&str; 7] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
    (0..count)
        .map(|n| (THINGS[n % THINGS.len()], n.to_string(), records.to_vec()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_delivered_again_and_what_always_fails_is_quarantined_once() {
    for worker in Tried::TRIALS {
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
            assert_eq!(entries, count, "{worker:?}: `{reason}` in {quarantined:?}");
        }
        let entry = &quarantined["panic"][0];
        assert_eq!(entry["data"]["attempts"], 3);
        assert_eq!(entry["causationid"], "t3:panics");
        assert_eq!(entry["rawseq"], "7-1");
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_cut_off_and_its_message_ends_in_the_quarantine() {
    for worker in Tried::TRIALS {
        let world = World::new(worker, 30).await;
        world.give(things(9, &[("x", 1.0)])).await;
        world.give(vec![("hung", "h".into(), vec![("hang", 0.0)])]).await;
        let limit = ["--handle-timeout", "500ms"];
        let process = world.start(&[RETRY.as_slice(), &limit].concat());
        world.done(9).await;
        let entries = eventually("the entry", || async {
            world.quarantined().await.remove("timeout")
        })
        .await;
        world.drained().await;
        assert_eq!(entries.len(), 1, "{worker:?}: {entries:?}");
        assert_eq!(entries[0]["causationid"], "hung:h");
        assert_eq!(entries[0]["data"]["attempts"], 2);
        assert_eq!(
            entries[0]["data"]["errors"][0]["message"],
            "not done within 500ms"
        );
        assert_eq!(world.quarantined().await.len(), 1, "{worker:?}: and no other");
        assert_eq!(process.asked("/readyz").await.0, 200);
        assert_eq!(process.terminate().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_holds_quarantines_nothing_and_ends_by_itself() {
    for worker in Tried::TRIALS {
        let world = World::new(worker, 1).await;
        let process = world.start(&RETRY);
        world.give(things(90, &[("outage", 0.0)])).await;
        eventually("it holds", || async {
            let (status, text) = process.asked("/readyz?verbose").await;
            (status == 503 && text.contains("the gate is shut")).then_some(())
        })
        .await;
        world.held(LONG).await;
        assert_eq!(world.count("EVENTS", "event.>").await, 0);
        fs::write(world.gate(), "").unwrap();
        let events = world.done(90).await;
        world.drained().await;
        assert!(world.quarantined().await.is_empty(), "{worker:?}");
        assert_eq!(
            world.count("REDO", "redo.>").await,
            0,
            "{worker:?}: nobody was suspected"
        );
        assert!(
            events.iter().all(|event| event["data"]["detail"]["attempt"] == 1),
            "{worker:?}: an outage is no attempt"
        );
        assert_eq!(process.asked("/readyz").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_the_process_ends_in_the_quarantine_and_its_neighbours_do_not() {
    for worker in Tried::TRIALS {
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
            assert!(starts < 20, "{worker:?}: it never ends");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        world.done(9).await;
        world.drained().await;
        assert!(starts > 2, "it did kill");
        let entries: Vec<_> = quarantined.values().flatten().collect();
        assert_eq!(entries.len(), 1, "{worker:?}: {entries:?}");
        assert_eq!(entries[0]["data"]["reason"], "attempts");
        assert_eq!(entries[0]["causationid"], "killer:k");
        assert!(!process.has_ended());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_message_holds_back_only_its_own_thing() {
    let world = World::new(Tried::Trial, 30).await;
    let process = world.start(&[]);
    world.give(vec![("slow", "1".into(), vec![("wait", 0.0)])]).await;
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
    fs::write(world.gate(), "").unwrap();
    world.done(202).await;
    world.drained().await;
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guilty_reading_costs_its_pack_and_its_batch_nothing() {
    let world = World::new(Tried::TrialBatch, 30).await;
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
async fn what_waits_for_its_turn_is_kept_alive() {
    for worker in Tried::TRIALS {
        let world = World::new(worker, 1).await;
        let process = world.start(&[]);
        // Several times as long as the broker waits for an acknowledgement.
        let slow = if worker == Tried::Trial { 40.0 } else { 5.0 };
        world.give(things(1_000, &[("slow", slow)])).await;
        let events = world.done(1_000).await;
        world.drained().await;
        assert!(
            events.iter().all(|event| event["data"]["detail"]["attempt"] == 1),
            "{worker:?}"
        );
        assert_eq!(world.count("REDO", "redo.>").await, 0);
        assert_eq!(process.terminate().await.0, Some(0));
    }
}
