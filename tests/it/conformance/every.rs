//! What holds for each worker of ours as for the trial ones: they are told nothing, and everything around them goes wrong.
use super::{
    LONG, RETRY, things,
    tried::Tried,
    world::{World, eventually},
};
use futures::future::join_all;
use std::time::{Duration, Instant};
use telltale_schemas::Timestamp;

const OLDEST: &str = "telltale_oldest_pending_seconds";
const SUCCESS: &str = "telltale_last_success_timestamp_seconds";

/// Each worker in a world of its own, all at once.
async fn each(case: impl AsyncFn(Tried)) {
    join_all(Tried::ALL.map(|tried| Box::pin(case(tried)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_handled_once_and_acknowledged() {
    each(async |tried| {
        let begun = Timestamp::now().as_seconds();
        let world = World::new(tried, 30).await;
        let process = world.start(&[]);
        world.give(things(1_500, &[("x", 1.0)])).await;
        let effects = world.followed_once(1_500).await;
        world.drained().await;
        // The RAW sequence goes along; only `validate` sees it first.
        if !matches!(tried, Tried::Validate | Tried::Store) {
            assert!(
                effects.iter().all(|effect| effect["rawseq"] == "7-1"),
                "{tried:?}"
            );
        }
        assert!(world.quarantined().await.is_empty(), "{tried:?}");
        assert_eq!(process.asked("/livez").await.0, 200);
        assert_eq!(process.asked("/readyz").await, (200, "ready\n".into()));
        let (_, metrics) = process.asked("/metrics").await;
        let line = tried.counts(1_500);
        assert!(metrics.contains(&line), "{line} in {metrics}");
        assert!(process.metric(SUCCESS).await > begun, "{tried:?}");
        eventually("nothing is in hand", || async {
            (process.metric(OLDEST).await < 1e-9).then_some(())
        })
        .await;
        assert_eq!(process.terminate().await.0, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_quarantined_once_and_their_neighbours_are_not() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        let process = world.start(&[]);
        world.give(things(15, &[("x", 1.0)])).await;
        world.give_raw("t8", "{").await;
        world.give(things(30, &[("x", 1.0)]).split_off(15)).await;
        world.followed_once(30).await;
        world.drained().await;
        let quarantined = world.quarantined().await;
        let reasons: Vec<_> = quarantined.keys().collect();
        assert_eq!(reasons, [tried.refuses_for()], "{tried:?}");
        let entries = &quarantined[tried.refuses_for()];
        assert_eq!(entries.len(), 1, "{tried:?}: {entries:?}");
        assert_eq!(entries[0]["subject"], "t8");
        assert_eq!(entries[0]["data"]["payload"], "ew==", "its bytes are kept");
        assert_eq!(entries[0]["data"]["stage"], tried.name());
        assert_eq!(process.terminate().await.0, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_only_after_what_follows_from_it_is_stored() {
    each(async |tried| {
        let world = World::new(tried, 1).await;
        world.shut().await;
        let there = world.sunk().await;
        let process = world.start(&RETRY);
        world.give(things(12, &[("x", 1.0)])).await;
        // What waits for room is not a failure of the message.
        world.held(LONG).await;
        assert_eq!(process.asked("/readyz").await.0, 503, "{tried:?}");
        assert_eq!(process.asked("/livez").await.0, 200, "{tried:?}");
        // They were given before the first of the pauses, which are 2.2 s at least.
        assert!(process.metric(OLDEST).await > 2.0, "{tried:?}");
        assert!(
            process.metric(SUCCESS).await < 1e-9,
            "{tried:?}: nothing is done with"
        );
        let messages = tried.messages(&things(12, &[("x", 1.0)])).len();
        let (pending, unacknowledged) = world.left().await;
        assert_eq!(
            usize::try_from(pending).unwrap() + unacknowledged,
            messages,
            "{tried:?}: what could not be stored is not acknowledged"
        );
        assert_eq!(world.sunk().await, there, "{tried:?}");
        world.open().await;
        world.followed_once(12).await;
        world.drained().await;
        assert!(
            world.quarantined().await.is_empty(),
            "{tried:?}: nothing was at fault"
        );
        eventually("it is ready again", || async {
            (process.asked("/readyz").await.0 == 200).then_some(())
        })
        .await;
    })
    .await;
}

/// Whether a worker that publishes something once more publishes it in vain: its id is in the message, and the broker
/// knows it. What `validate` writes is packed; that a reading is there twice is told further down.
fn suppresses(tried: Tried) -> bool {
    tried != Tried::Validate
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_twice_has_one_effect() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        let _process = world.start(&[]);
        world.give(things(60, &[("x", 1.0)])).await;
        world.followed_once(60).await;
        world.give(things(60, &[("x", 1.0)])).await;
        world.drained().await;
        let effects = world.followed(60).await.len();
        assert!(effects == 60 || !suppresses(tried), "{tried:?}: {effects} of 60");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_it_has_begun_and_gives_back_the_rest() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        // Work for longer than it takes to be told.
        let (count, record) = match tried {
            Tried::Trial => (600, ("slow", 20.0)),
            Tried::TrialBatch => (600, ("slow", 1.0)),
            _ => (3_000, ("x", 1.0)),
        };
        world.give(things(count, &[record])).await;
        let first = world.start(&[]);
        eventually("it is in the middle", || async {
            (world.sunk().await > 3).then_some(())
        })
        .await;
        let (code, took) = first.terminate().await;
        assert_eq!(code, Some(0), "{tried:?}");
        assert!(took < Duration::from_secs(12), "{tried:?}: {took:?}");
        let begun = Instant::now();
        let _second = world.start(&[]);
        world.followed_once(count).await;
        world.drained().await;
        assert!(
            begun.elapsed() < Duration::from_secs(25),
            "{tried:?}: nothing waits for the acknowledgement's time"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_costs_nothing() {
    each(async |tried| {
        let mut world = World::new(tried, 3).await;
        let process = world.start(&[]);
        world.give(things(300, &[("slow", 2.0)])).await;
        eventually("it is in the middle", || async {
            (world.sunk().await > 3).then_some(())
        })
        .await;
        world.restart_broker().await;
        world.give(things(600, &[("x", 1.0)]).split_off(300)).await;
        let effects = world.followed(600).await.len();
        assert!(
            effects == 600 || !suppresses(tried),
            "{tried:?}: {effects} of 600"
        );
        world.drained().await;
        assert!(world.quarantined().await.is_empty(), "{tried:?}");
        eventually("it is ready again", || async {
            (process.asked("/readyz").await.0 == 200).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_is_deleted_and_made_again_is_bound_again() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        let process = world.start(&[]);
        world.give(things(10, &[("x", 1.0)])).await;
        world.followed_once(10).await;
        world.drained().await;
        world.delete_durable().await;
        eventually("it says so", || async {
            (process.asked("/readyz").await.0 == 503).then_some(())
        })
        .await;
        world.provision().await;
        world.give(things(20, &[("x", 1.0)]).split_off(10)).await;
        world.followed_once(20).await;
        eventually("it is ready", || async {
            (process.asked("/readyz").await.0 == 200).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_provisioned_is_said_and_the_process_ends_with_3() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        world.delete_durable().await;
        let mut process = world.start(&[]);
        assert_eq!(process.ended().await, Some(3), "{tried:?}");
        assert!(world.log().contains("telltale provision"), "{tried:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_without_the_rights_is_told_which_and_the_process_ends_with_4() {
    each(async |tried| {
        let world = World::new(tried, 30).await;
        let mut process = world.start_without_rights();
        assert_eq!(process.ended().await, Some(4), "{tried:?}");
        assert!(
            world.log().contains("CONSUMER.INFO"),
            "{tried:?}: the subject is named"
        );
    })
    .await;
}
