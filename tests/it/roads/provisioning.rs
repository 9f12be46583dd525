//! The broker becomes what the files say, and nothing is destroyed by the way.
use super::{Broker, on, outgoing, over_limit, store, validate};
use telltale_nats::{
    Lane, Manifest, Name, Publisher, Topology,
    async_nats::jetstream::{self, consumer},
    provision::{self, Action, Applied, ApplyError, Object, Plan, PlanError},
    publish,
    subject::{REDO_STREAM, Subject},
    topology::{Limits, Retention, Size},
};

/// Of validate, store and over-limit: one on each stream that they read, and two on REDO each.
const DURABLES: usize = 3 + 6 + 3;

async fn plan(broker: &Broker, topology: &Topology, manifests: &[Manifest]) -> Plan {
    let js = broker.context().await;
    provision::plan(&js, topology, manifests, &provision::Options::default())
        .await
        .unwrap()
}

async fn fill(broker: &Broker, count: usize) {
    let client = broker.connect("operator").await.client;
    let publisher = Publisher::new(client, publish::Options::default());
    let group = (0..count).map(|n| on(Lane::Annotated, format!("t{n}"), ""));
    for result in publisher.publish(group.collect()).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn applying_twice_changes_nothing() {
    let broker = Broker::bare().await;
    let manifests = [validate(), store(), over_limit()];
    let topology = Topology::of(&broker.site);
    let objects = topology.streams.len() + topology.buckets.len() + DURABLES;

    let first = broker.provision(&topology, &manifests).await;
    assert_eq!(
        first,
        Applied {
            created: objects,
            changed: 0,
            kept: 0
        }
    );

    let again = plan(&broker, &topology, &manifests).await;
    assert!(again.is_empty(), "{again}");
    assert_eq!(again.to_string(), format!("= {objects} unchanged"));
    let second = broker.provision(&topology, &manifests).await;
    assert_eq!(
        second,
        Applied {
            created: 0,
            changed: 0,
            kept: objects
        }
    );
}

#[tokio::test]
async fn every_subject_falls_in_exactly_one_stream_which_confirms_it() {
    let broker = Broker::with(&[]).await;
    let publisher = Publisher::new(
        broker.connect("operator").await.client,
        publish::Options::default(),
    );
    let thing = Name::new("urn:dev:1").unwrap();
    for lane in Lane::ALL {
        let (site, thing) = (broker.site.clone(), thing.clone());
        let subject = if lane.has_name() {
            Subject::named(lane, site, thing, Name::new("x").unwrap())
        } else {
            Subject::of(lane, site, thing)
        };
        let ack = publisher
            .send(outgoing(subject.to_string(), None, lane.stream()))
            .await
            .unwrap();
        assert_eq!(
            (ack.stream.as_str(), ack.sequence),
            (lane.stream(), 1 + u64::from(second(lane))),
            "{lane}"
        );
    }
    let redo = telltale_nats::subject::redo(&Name::new("store").unwrap());
    publisher.send(outgoing(redo, None, REDO_STREAM)).await.unwrap();
}

/// Whether another lane of the same stream comes before.
fn second(lane: Lane) -> bool {
    matches!(lane, Lane::Derived | Lane::Outcome)
}

#[tokio::test]
async fn durables_on_raw_carry_its_epoch() {
    let broker = Broker::with(&[validate(), store()]).await;
    let js = broker.context().await;
    let epoch = provision::epoch(&js).await.unwrap();
    let on_raw: consumer::PullConsumer = js.get_consumer_from_stream("validate", "RAW").await.unwrap();
    assert_eq!(provision::epoch_of(on_raw.cached_info()), Some(epoch));
    let on_readings: consumer::PullConsumer = js.get_consumer_from_stream("store", "READINGS").await.unwrap();
    assert_eq!(provision::epoch_of(on_readings.cached_info()), None);
    let config = &on_readings.cached_info().config;
    assert_eq!((config.max_deliver, config.max_ack_pending), (-1, 2_000));
}

#[tokio::test]
async fn what_destroys_is_refused_and_named_unless_it_is_asked_for() {
    let broker = Broker::with(&[store()]).await;
    fill(&broker, 100).await;
    let mut topology = Topology::of(&broker.site);
    let small = Limits {
        max_bytes: Some(Size::of(1_024)),
        max_age: None,
    };
    topology.limit([("READINGS", small)]).unwrap();
    topology
        .streams
        .iter_mut()
        .find(|stream| stream.name == "EVENTS")
        .unwrap()
        .subjects
        .pop();
    topology
        .streams
        .iter_mut()
        .find(|stream| stream.name == "THINGS")
        .unwrap()
        .retention = Retention::WorkQueue;

    let plan = plan(&broker, &topology, &[store()]).await;
    let shown = plan.to_string();
    assert!(
        shown.contains("! stream READINGS: max_bytes 8GiB -> 1KiB"),
        "{shown}"
    );
    assert!(
        shown.contains("! stream EVENTS: subjects event.>, outcome.> -> event.> (nothing keeps outcome.>"),
        "{shown}"
    );
    assert!(
        shown.contains("! stream THINGS: retention limits -> workqueue (deletes it"),
        "{shown}"
    );

    let js = broker.context().await;
    let refused = provision::apply(&js, &plan, false).await.unwrap_err();
    assert!(
        matches!(&refused, ApplyError::Destructive(all) if all.len() == 3),
        "{refused}"
    );
    let kept = js
        .get_stream("READINGS")
        .await
        .unwrap()
        .cached_info()
        .state
        .messages;
    assert_eq!(kept, 100, "a refused plan changes nothing");

    provision::apply(&js, &plan, true).await.unwrap();
    assert!(
        js.get_stream("READINGS")
            .await
            .unwrap()
            .cached_info()
            .state
            .messages
            < 100
    );
    let again = super::provisioning::plan(&broker, &topology, &[store()]).await;
    assert!(again.is_empty(), "{again}");
    // The durable went with its stream, and was made again.
    js.get_consumer_from_stream::<consumer::pull::Config, _, _>("store", "THINGS")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_limit_that_grows_or_drops_nothing_needs_no_flag() {
    let broker = Broker::with(&[]).await;
    fill(&broker, 10).await;
    let mut topology = Topology::of(&broker.site);
    let roomy = Limits {
        max_bytes: Some(Size::of(1 << 30)),
        max_age: Some("30d".parse().unwrap()),
    };
    topology.limit([("READINGS", roomy)]).unwrap();
    let applied = broker.provision(&topology, &[]).await;
    assert_eq!(applied.changed, 1);
    let info = broker
        .context()
        .await
        .get_stream("READINGS")
        .await
        .unwrap()
        .cached_info()
        .clone();
    assert_eq!((info.config.max_bytes, info.state.messages), (1 << 30, 10));
}

#[tokio::test]
async fn a_durable_that_was_changed_by_hand_is_shown_and_restored() {
    let broker = Broker::with(&[over_limit()]).await;
    let js = broker.context().await;
    let by_hand = |name: &str| consumer::pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: "annotated.>".into(),
        max_ack_pending: 7,
        ..consumer::pull::Config::default()
    };
    for name in ["over-limit", "somebody"] {
        js.create_consumer_on_stream(by_hand(name), "READINGS")
            .await
            .unwrap();
    }
    let topology = Topology::of(&broker.site);
    let plan = plan(&broker, &topology, &[over_limit()]).await;
    let shown = plan.to_string();
    assert!(
        shown.contains("~ durable over-limit on READINGS: max_ack_pending 7 -> 2000"),
        "{shown}"
    );
    assert!(
        shown.contains("? durable somebody on READINGS is in no manifest"),
        "{shown}"
    );
    assert!(plan.destroys().is_empty());
    broker.provision(&topology, &[over_limit()]).await;
    let restored: consumer::PullConsumer = js
        .get_consumer_from_stream("over-limit", "READINGS")
        .await
        .unwrap();
    assert_eq!(restored.cached_info().config.max_ack_pending, 2_000);
    js.get_consumer_from_stream::<consumer::pull::Config, _, _>("somebody", "READINGS")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_durable_made_since_the_plan_is_not_overwritten() {
    let broker = Broker::with(&[]).await;
    let plan = plan(&broker, &Topology::of(&broker.site), &[over_limit()]).await;
    let js = broker.context().await;
    let theirs = consumer::pull::Config {
        durable_name: Some("over-limit".into()),
        ..Default::default()
    };
    js.create_consumer_on_stream(theirs, "READINGS").await.unwrap();
    let refused = provision::apply(&js, &plan, false).await.unwrap_err();
    assert!(
        matches!(&refused, ApplyError::Durable { verb: "create", .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_second_reader_of_a_work_queue_is_refused_before_anything_is_changed() {
    let broker = Broker::bare().await;
    let js = broker.context().await;
    let spy = super::manifest(r#"{"name":"spy","inputs":["raw"]}"#);
    let topology = Topology::of(&broker.site);
    let refused = provision::plan(&js, &topology, &[validate(), spy], &provision::Options::default()).await;
    assert!(matches!(refused, Err(PlanError::Topology(_))));
    assert!(js.get_stream("RAW").await.is_err());
}

#[tokio::test]
async fn header_commands_have_no_power_over_raw() {
    let broker = Broker::with(&[validate()]).await;
    let client = broker.connect("client").await.client;
    let publisher = Publisher::new(client.clone(), publish::Options::default());
    publisher
        .send(outgoing("raw.local.t1", None, "RAW"))
        .await
        .unwrap();
    for (name, value) in [
        ("Nats-Rollup", "all"),
        ("Nats-Rollup", "sub"),
        ("Nats-TTL", "1s"),
        ("Nats-Schedule", "@every 1s"),
        ("Nats-Schedule-Target", "command.local.t1.open"),
        ("Nats-Incr", "1"),
    ] {
        let mut message = outgoing("raw.local.t1", None, "RAW");
        message.headers.push((name, value.to_owned()));
        // Refused, or taken as any other message: either way the first is still there, and nothing else is.
        publisher.send(message).await.ok();
    }
    let js = broker.context().await;
    let info = js.get_stream("RAW").await.unwrap().cached_info().clone();
    assert_eq!(info.state.first_sequence, 1, "nothing was purged");
    let commands = js
        .get_stream("COMMANDS")
        .await
        .unwrap()
        .cached_info()
        .state
        .messages;
    assert_eq!(commands, 0);
    let first: jetstream::message::StreamMessage = js
        .get_stream("RAW")
        .await
        .unwrap()
        .get_raw_message(1)
        .await
        .unwrap();
    assert_eq!(first.subject.as_str(), "raw.local.t1");
}

#[tokio::test]
async fn the_plan_tells_what_it_would_do_and_does_nothing() {
    let broker = Broker::bare().await;
    let plan = plan(&broker, &Topology::of(&broker.site), &[validate()]).await;
    let raw = plan
        .changes
        .iter()
        .find(|change| change.object == Object::Stream("RAW".into()))
        .unwrap();
    assert_eq!(raw.action, Action::Create);
    assert!(plan.to_string().contains("+ durable validate on RAW\n"));
    assert!(broker.context().await.get_stream("RAW").await.is_err());
}
