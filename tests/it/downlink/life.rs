//! The life of a command at a device that speaks MQTT 5.
use super::world::{World, order};
use crate::bridging::device::Device;
use rmqtt_codec::types::QoS;
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;
use telltale_schemas::kinds::State;

const MOMENT: Duration = Duration::from_millis(400);

/// What is told of a command that goes well.
fn well() -> Vec<(State, String)> {
    vec![
        (State::Sent, ".sent.1".to_owned()),
        (State::Acknowledged, ".acknowledged.1".to_owned()),
        (State::Succeeded, ".end".to_owned()),
    ]
}

#[tokio::test]
async fn a_command_reaches_its_device_with_all_that_it_needs_and_its_answer_is_told() {
    let world = World::start().await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    let input = json!({ "level": 80 });
    let id = world
        .wait(super::world::Order {
            input,
            ..order("k.1/a")
        })
        .await;
    let got = lamp.command().await;
    assert_eq!(got.topic, "things/lamp/commands/on");
    assert_eq!(
        (got.id(), &got.body["name"], &got.body["input"]["level"]),
        (&*id, &json!("on"), &json!(80))
    );
    assert!(got.body["expires"].as_str().unwrap().ends_with('Z'));
    assert_eq!(got.properties.correlation_data.as_deref(), Some(id.as_bytes()));
    let answer = got.properties.response_topic.clone().unwrap();
    assert_eq!(&*answer, "things/lamp/outcomes/lamp:k.1%2Fa");
    assert!((50..=60).contains(&got.properties.message_expiry_interval.unwrap().get()));
    assert_eq!(
        world.entry(&id).await.unwrap().state,
        State::Sent,
        "marked before it went out"
    );
    lamp.confirm(&got).await;
    world.is(&id, State::Acknowledged).await;
    let body = r#"{"state":"succeeded","output":{"level":80}}"#;
    lamp.publish(&answer, 5, None, body.as_bytes()).await;
    assert_eq!(lamp.puback().await, (5, 0));
    assert_eq!(world.over(&id).await, well());
    let end = world.told(&id).await.pop().unwrap();
    assert_eq!(end.data.output, json!({ "level": 80 }));
    assert_eq!(
        (end.source.as_str(), end.causationid.as_deref()),
        ("/local/bridge", Some(&*id))
    );
}

#[tokio::test]
async fn an_answer_after_the_end_or_twice_changes_nothing() {
    let world = World::start().await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    let id = world.wait(order("1")).await;
    let got = lamp.command().await;
    lamp.confirm(&got).await;
    world.is(&id, State::Acknowledged).await;
    assert_eq!(
        lamp.answer(&id, r#"{"state":"acknowledged"}"#).await,
        0x10,
        "that is known"
    );
    assert_eq!(
        lamp.answer(&id, r#"{"state":"failed","problem":"no power"}"#)
            .await,
        0
    );
    assert_eq!(lamp.answer(&id, r#"{"state":"succeeded"}"#).await, 0x10);
    assert_eq!(lamp.answer("lamp:never", r#"{"state":"succeeded"}"#).await, 0x10);
    assert_eq!(
        lamp.answer(&id, r#"{"state":"cancelled"}"#).await,
        0x99,
        "no device says that"
    );
    let told = world.over(&id).await;
    assert_eq!(told.last(), Some(&(State::Failed, ".end".to_owned())), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    let end = world.told(&id).await.pop().unwrap();
    assert_eq!(end.data.problem.as_deref(), Some("no power"));
    let late = world
        .site
        .metric("telltale_bridge_answers_total{protocol=\"mqtt\",result=\"late\"}")
        .await;
    assert!((late - 3.0).abs() < 0.1, "{late}");
}

#[tokio::test]
async fn commands_go_out_by_priority_and_age_one_after_the_other_and_not_before_their_start() {
    let world = World::start().await;
    world
        .wait(super::world::Order {
            start: Some(2),
            ..order("later")
        })
        .await;
    for key in ["first", "second"] {
        world.wait(order(key)).await;
    }
    world
        .wait(super::world::Order {
            priority: Some(9),
            ..order("urgent")
        })
        .await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    for key in ["urgent", "first", "second"] {
        let got = lamp.command().await;
        assert_eq!(got.id(), format!("lamp:{key}"));
        if key == "first" {
            assert!(
                lamp.is_quiet(MOMENT).await,
                "the next waits until this one is confirmed"
            );
        }
        lamp.confirm(&got).await;
    }
    let got = lamp.command().await;
    assert_eq!(got.id(), "lamp:later");
    let entry = world.entry("lamp:later").await.unwrap();
    assert!(entry.sent.unwrap().at >= entry.start.unwrap());
}

#[tokio::test]
async fn what_is_never_answered_ends_as_unknown_and_what_has_expired_is_never_delivered() {
    let world = World::start().await;
    let gone = world
        .wait(super::world::Order {
            expires: 1,
            ..order("gone")
        })
        .await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    assert!(lamp.is_quiet(MOMENT).await);
    assert_eq!(
        world.entry(&gone).await.unwrap().state,
        State::Queued,
        "that it expired is for `actuate` to say"
    );
    let silent = world
        .wait(super::world::Order {
            expires: 1_500,
            ..order("silent")
        })
        .await;
    let got = lamp.command().await;
    assert_eq!(got.id(), silent);
    let next = world.wait(order("next")).await;
    assert!(lamp.is_quiet(MOMENT).await);
    assert_eq!(
        lamp.command().await.id(),
        next,
        "whoever never answers holds up others until its end"
    );
    let told = world.over(&silent).await;
    assert_eq!(
        told,
        [
            (State::Sent, ".sent.1".to_owned()),
            (State::Unknown, ".end".to_owned())
        ]
    );
}

#[tokio::test]
async fn only_an_idempotent_command_is_sent_again_when_the_device_comes_back() {
    let world = World::start().await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    let again = world
        .wait(super::world::Order {
            idempotent: true,
            ..order("again")
        })
        .await;
    assert_eq!(lamp.command().await.id(), again);
    drop(lamp);
    let mut lamp = world.lamp(&world.site.bridge).await;
    let got = lamp.command().await;
    assert_eq!(got.id(), again);
    lamp.confirm(&got).await;
    assert_eq!(lamp.answer(&again, r#"{"state":"succeeded"}"#).await, 0);
    let states: Vec<_> = world.over(&again).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(states, [".sent.1", ".sent.2", ".acknowledged.2", ".end"]);
    let once = world.wait(order("once")).await;
    assert_eq!(lamp.command().await.id(), once);
    drop(lamp);
    let mut lamp = world.lamp(&world.site.bridge).await;
    let next = world.wait(order("next")).await;
    assert_eq!(
        lamp.command().await.id(),
        next,
        "what was tried once is not tried again, and holds up nothing"
    );
    assert_eq!(
        lamp.answer(&once, r#"{"state":"succeeded"}"#).await,
        0,
        "the device may still say"
    );
    let states: Vec<_> = world.over(&once).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(states, [".sent.1", ".end"]);
}

#[tokio::test]
async fn a_device_without_confirmations_gets_all_and_another_s_commands_are_nobodys() {
    let world = World::start().await;
    let (mut lamp, _) = Device::at(world.site.bridge.mqtt(), &world.site.lamp, "lamp").await;
    assert_eq!(
        lamp.subscribe("things/pillar/commands/+", QoS::AtLeastOnce).await,
        0x87
    );
    assert_eq!(lamp.subscribe("things/lamp/commands/#", QoS::AtMostOnce).await, 0);
    let one = world.wait(order("1")).await;
    let two = world.wait(order("2")).await;
    for id in [&one, &two] {
        let got = lamp.command().await;
        assert_eq!((got.id(), got.packet), (id.as_str(), None));
    }
    assert_eq!(lamp.answer(&one, r#"{"state":"succeeded"}"#).await, 0);
    let states: Vec<_> = world.over(&one).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(states, [".sent.1", ".end"]);
}

#[tokio::test]
async fn a_command_survives_the_bridge_and_the_broker_and_is_told_once() {
    let mut world = World::start().await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    let id = world.wait(order("1")).await;
    let got = lamp.command().await;
    lamp.confirm(&got).await;
    world.is(&id, State::Acknowledged).await;
    let waiting = world
        .wait(super::world::Order {
            start: Some(1),
            ..order("2")
        })
        .await;
    world.site.bridge.signal(Signal::KILL);
    world.site.restart_bridge().await;
    world.site.broker.end();
    world.site.broker.restart().await;
    let mut lamp = world.lamp(&world.site.bridge).await;
    let got = lamp.command().await;
    assert_eq!(got.id(), waiting, "what was queued reaches the device");
    assert_eq!(lamp.answer(&id, r#"{"state":"succeeded"}"#).await, 0);
    assert_eq!(lamp.answer(&waiting, r#"{"state":"succeeded"}"#).await, 0);
    assert_eq!(
        world.over(&id).await,
        well(),
        "also what the bridge was killed before telling"
    );
    let states: Vec<_> = world.over(&waiting).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(states, [".sent.1", ".end"]);
}

#[tokio::test]
async fn a_decided_end_that_nobody_told_is_told() {
    let world = World::start().await;
    let id = world.wait(order("1")).await;
    world.decide(&id, State::Cancelled).await;
    let told = world.over(&id).await;
    assert_eq!(told, [(State::Cancelled, ".end".to_owned())]);
}
