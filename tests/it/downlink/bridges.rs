//! Two bridges and one device.
use super::world::{World, order};
use rustix::process::Signal;
use telltale_schemas::kinds::State;
use telltale_tests::eventually_async;

#[tokio::test]
async fn a_session_that_moves_takes_its_commands_along_and_none_is_delivered_twice() {
    let world = World::start().await;
    let second = world.site.another_bridge().await;
    let mut here = world.lamp(&world.site.bridge).await;
    let first = world.wait(order("1")).await;
    let got = here.command().await;
    assert_eq!(got.id(), first);
    here.confirm(&got).await;
    world.is(&first, State::Acknowledged).await;
    let owner = world.owner().await.unwrap();
    let mut there = world.lamp(&second).await;
    eventually_async(
        "the second bridge has it",
        crate::roads::broker::PATIENCE,
        || async { world.owner().await.filter(|now| *now != owner) },
    )
    .await;
    for key in ["2", "3"] {
        let id = world.wait(order(key)).await;
        let got = there.command().await;
        assert_eq!(got.id(), id);
        there.confirm(&got).await;
        world.is(&id, State::Acknowledged).await;
    }
    assert!(
        here.is_quiet(std::time::Duration::from_millis(300)).await,
        "the older session gets nothing more"
    );
    assert_eq!(
        there.answer(&first, r#"{"state":"succeeded"}"#).await,
        0,
        "and the younger may answer what the older got"
    );
    let ids: Vec<_> = world.over(&first).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [".sent.1", ".acknowledged.1", ".end"]);
    drop(there);
    let id = world.wait(order("4")).await;
    assert_eq!(here.command().await.id(), id, "whoever is left gets it");
}

#[tokio::test]
async fn a_device_whose_bridge_is_killed_goes_on_at_the_other() {
    let world = World::start().await;
    let second = world.site.another_bridge().await;
    let mut here = world.lamp(&world.site.bridge).await;
    let once = world
        .wait(super::world::Order {
            expires: 4_000,
            ..order("once")
        })
        .await;
    let again = world
        .wait(super::world::Order {
            idempotent: true,
            ..order("again")
        })
        .await;
    assert_eq!(here.command().await.id(), once);
    world.site.bridge.signal(Signal::KILL);
    let mut there = world.lamp(&second).await;
    let got = there.command().await;
    assert_eq!(got.id(), again);
    there.confirm(&got).await;
    assert_eq!(there.answer(&again, r#"{"state":"succeeded"}"#).await, 0);
    let told = world.over(&once).await;
    assert_eq!(
        told.last().unwrap().0,
        State::Unknown,
        "the bridge that has the device says so: {told:?}"
    );
    assert_eq!(
        told.iter().filter(|(state, _)| *state == State::Unknown).count(),
        1
    );
}
