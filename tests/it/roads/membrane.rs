//! Each identity can do its job with exactly its rights, and is refused all else.
use super::{Broker, PATIENCE, manifest, on, outgoing, over_limit, store, validate};
use futures::StreamExt as _;
use std::time::Duration;
use telltale_nats::{
    Lane,
    async_nats::{
        Client, HeaderMap, Request,
        jetstream::{self, consumer, kv},
    },
    client::{ConnectError, context},
};
use tokio::time::timeout;

/// Everything that an attacker with some worker's key would try. `{}` is the site.
const ATTACKS: &[&str] = &[
    // Others' subjects, and its own at another site.
    "raw.local.t1",
    "valid.local.t1",
    "annotated.local.t1",
    "derived.local.t1",
    "event.local.t1.fire",
    "event.elsewhere.t1.over_limit",
    "command.local.t1.open",
    "outcome.local.t1.open",
    "thing.local.t1.created",
    "quarantine.elsewhere.t1.json",
    "redo.store",
    // Streams and durables.
    "$JS.API.STREAM.DELETE.READINGS",
    "$JS.API.STREAM.PURGE.READINGS",
    "$JS.API.STREAM.UPDATE.READINGS",
    "$JS.API.STREAM.CREATE.SPY",
    "$JS.API.STREAM.MSG.DELETE.READINGS",
    "$JS.API.STREAM.MSG.GET.READINGS",
    "$JS.API.STREAM.SNAPSHOT.READINGS",
    "$JS.API.DIRECT.GET.READINGS",
    "$JS.API.STREAM.INFO.READINGS",
    "$JS.API.CONSUMER.CREATE.READINGS",
    "$JS.API.CONSUMER.CREATE.READINGS.over-limit.annotated.>",
    "$JS.API.CONSUMER.CREATE.READINGS.spy.annotated.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.READINGS.spy",
    "$JS.API.CONSUMER.DELETE.READINGS.over-limit",
    "$JS.API.CONSUMER.DELETE.READINGS.store",
    "$JS.API.CONSUMER.RESET.READINGS.store",
    "$JS.API.CONSUMER.PAUSE.READINGS.store",
    "$JS.API.CONSUMER.MSG.NEXT.READINGS.store",
    "$JS.API.CONSUMER.MSG.NEXT.REDO.store",
    "$JS.API.CONSUMER.INFO.READINGS.store",
    "$JS.ACK.READINGS.store.1.1.1.1.0",
    "$JS.ACK._.hash.READINGS.store.1.1.1.1.0",
    // Buckets, others' inboxes, the server's own.
    "$KV.things.t1",
    "$KV.pending.t1.c1",
    "$KV.sessions.t1",
    "$KV.credentials.gateway",
    "$JS.API.DIRECT.GET.KV_credentials.$KV.credentials.gateway",
    "$JS.API.CONSUMER.CREATE.KV_credentials.x.$KV.credentials.>",
    "_INBOX_store.x.y",
    "_INBOX.x",
    "$SYS.REQ.SERVER.PING",
    "api.local.validate.holds",
];

#[tokio::test]
async fn a_worker_does_its_job_with_exactly_its_rights() {
    let broker = Broker::with(&[validate(), store(), over_limit()]).await;
    let operator = broker.connect("operator").await.publisher();
    for n in 0..3 {
        operator
            .send(on(Lane::Annotated, format!("t{n}"), ""))
            .await
            .unwrap();
    }
    operator
        .send(outgoing("redo.over-limit", None, "REDO"))
        .await
        .unwrap();

    let mut worker = broker.connect("over-limit").await;
    let js = context(worker.client.clone());
    for (stream, count) in [("READINGS", 3), ("REDO", 1)] {
        let durable: consumer::PullConsumer =
            js.get_consumer_from_stream("over-limit", stream).await.unwrap();
        let heartbeat = Duration::from_secs(1);
        let messages = durable
            .stream()
            .expires(heartbeat * 3)
            .heartbeat(heartbeat)
            .messages()
            .await
            .unwrap();
        let messages: Vec<_> = timeout(PATIENCE, messages.take(count).collect()).await.unwrap();
        for message in messages {
            let message: jetstream::Message = message.unwrap();
            message.double_ack().await.unwrap();
        }
    }
    let outputs = [
        ("event.local.t1.over_limit", "EVENTS"),
        ("event.local.t1.quarantine_overflow", "EVENTS"),
        ("quarantine.local.t1.attempts", "QUARANTINE"),
        ("redo.over-limit", "REDO"),
    ];
    let group = outputs.map(|(subject, stream)| outgoing(subject, None, stream));
    for result in worker.publisher().publish(group.to_vec()).await {
        result.unwrap();
    }
    let batch = (0..100)
        .map(|n| on(Lane::Event, format!("t{n}"), "over_limit"))
        .collect();
    assert!(worker.publisher().publish(batch).await.iter().all(Result::is_ok));
    assert!(
        worker.denied.try_recv().is_err(),
        "its job needed a right that it lacks"
    );
}

#[tokio::test]
async fn a_worker_is_refused_everything_else() {
    let broker = Broker::with(&[validate(), store(), over_limit()]).await;
    let mut worker = broker.connect("over-limit").await;
    worker.refused(ATTACKS).await;
    for subject in [
        ">",
        "raw.>",
        "annotated.>",
        "_INBOX.>",
        "_INBOX_store.>",
        "api.>",
        "$JS.API.>",
        "$KV.>",
        "$SYS.>",
    ] {
        assert!(!worker.may_subscribe(subject).await, "{subject}");
    }
    assert!(worker.may_subscribe("_INBOX_over-limit.x").await);
}

#[tokio::test]
async fn a_worker_reads_and_watches_its_bucket_and_cannot_write_it() {
    let broker = Broker::with(&[validate()]).await;
    let ours = broker.context().await.get_key_value("things").await.unwrap();
    ours.put("t1", "one".into()).await.unwrap();

    let mut worker = broker.connect("validate").await;
    let things: kv::Store = context(worker.client.clone())
        .get_key_value("things")
        .await
        .unwrap();
    assert_eq!(things.get("t1").await.unwrap().unwrap(), "one");
    assert_eq!(things.get("t2").await.unwrap(), None);
    let mut watch = things.watch_all_from_revision(1).await.unwrap();
    let first = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((first.key.as_str(), first.revision), ("t1", 1));
    // More than one flow control frame's worth.
    for n in 0..300 {
        ours.put(format!("t{n}"), vec![b'x'; 8_192].into()).await.unwrap();
    }
    for _ in 0..300 {
        timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    }
    drop(watch);
    let mut some = things.watch("t1").await.unwrap();
    ours.put("t1", "two".into()).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, some.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .value,
        "two"
    );
    assert!(
        worker.denied.try_recv().is_err(),
        "reading needed a right that it lacks"
    );
    worker
        .refused(&[
            "$KV.things.t1",
            "$JS.API.STREAM.PURGE.KV_things",
            "$JS.API.STREAM.MSG.GET.KV_credentials",
        ])
        .await;
}

#[tokio::test]
async fn a_worker_answers_the_operator_and_people_alone() {
    let broker = Broker::with(&[validate(), store()]).await;
    let mut worker = broker.connect("validate").await;
    let mut questions = worker.client.subscribe("api.local.validate.>").await.unwrap();
    assert!(worker.settled("api.local.validate.>").await);
    for asking in ["operator", "client"] {
        let asker = broker.connect(asking).await.client;
        let request = Request::new().payload("?".into()).timeout(Some(PATIENCE));
        let (answer, ()) = tokio::join!(asker.send_request("api.local.validate.holds", request), async {
            let question = timeout(PATIENCE, questions.next()).await.unwrap().unwrap();
            worker
                .client
                .publish_with_headers(question.reply.unwrap(), HeaderMap::new(), "!".into())
                .await
                .unwrap();
        });
        assert_eq!(answer.unwrap().payload, "!");
    }
    worker
        .refused(&["_INBOX_store.x", "command.local.t1.open", "_INBOX.x"])
        .await;
    assert!(!worker.may_subscribe("api.local.store.>").await);
    assert!(!worker.may_subscribe("api.elsewhere.validate.>").await);
}

/// Makes, changes, watches and deletes an entry of each bucket.
async fn writes_and_watches(client: &Client, buckets: &[&str]) {
    for name in buckets {
        let bucket = context(client.clone()).get_key_value(*name).await.unwrap();
        let revision = bucket.create("t1.c1", "{}".into()).await.unwrap();
        let revision = bucket.update("t1.c1", "{}".into(), revision).await.unwrap();
        let mut watch = bucket.watch_with_history("t1.>").await.unwrap();
        timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        bucket
            .delete_expect_revision("t1.c1", Some(revision))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_bridge_brings_messages_in_and_commands_out_and_reads_credentials() {
    let broker = Broker::with(&[validate()]).await;
    let ours = broker.context().await.get_key_value("credentials").await.unwrap();
    ours.put("gateway", "{}".into()).await.unwrap();
    let mut bridge = broker.connect("bridge").await;
    let publisher = bridge.publisher();
    let batch = (0..50).map(|n| on(Lane::Raw, format!("t{n}"), "")).collect();
    assert!(publisher.publish(batch).await.iter().all(Result::is_ok));
    publisher
        .send(outgoing("event.local.t1.door_opened", None, "EVENTS"))
        .await
        .unwrap();
    let credentials = context(bridge.client.clone())
        .get_key_value("credentials")
        .await
        .unwrap();
    assert_eq!(credentials.get("gateway").await.unwrap().unwrap(), "{}");
    let mut watch = credentials.watch_with_history(">").await.unwrap();
    assert_eq!(
        timeout(PATIENCE, watch.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .key,
        "gateway"
    );
    publisher
        .send(outgoing("outcome.local.t1.open", None, "EVENTS"))
        .await
        .unwrap();
    writes_and_watches(&bridge.client, &["pending", "sessions"]).await;
    assert!(
        bridge.denied.try_recv().is_err(),
        "its job needed a right that it lacks"
    );
    bridge
        .refused(&[
            "outcome.elsewhere.t1.open",
            "$KV.things.t1",
            "outcome.local.t1",
            "api.local.actuate.cancel",
            "raw.elsewhere.t1",
            "valid.local.t1",
            "command.local.t1.open",
            "$KV.credentials.gateway",
            "$KV.rules.r1",
            "$KV.state.process",
            "$JS.API.STREAM.DELETE.KV_pending",
            "$JS.API.STREAM.PURGE.KV_pending",
            "$JS.API.STREAM.UPDATE.KV_sessions",
            "$JS.API.CONSUMER.CREATE.COMMANDS.spy.command.>",
            "$JS.API.CONSUMER.CREATE.EVENTS.spy.outcome.>",
            "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.actuate",
            "$JS.API.STREAM.MSG.GET.EVENTS",
            "$JS.API.STREAM.PURGE.RAW",
            "$JS.API.CONSUMER.MSG.NEXT.RAW.validate",
            "$JS.API.DIRECT.GET.KV_things.$KV.things.t1",
        ])
        .await;
    for lane in ["raw.>", "command.>", "outcome.>"] {
        assert!(!bridge.may_subscribe(lane).await, "{lane}");
    }
}

#[tokio::test]
async fn people_publish_raw_messages_and_read_the_other_lanes() {
    let broker = Broker::with(&[validate(), store(), over_limit()]).await;
    let operator = broker.connect("operator").await.publisher();
    let mut people = broker.connect("client").await;
    let mut tap = people.client.subscribe("annotated.>").await.unwrap();
    // A flush only writes: the server must have answered before another connection may publish.
    assert!(people.settled("annotated.>").await);
    operator
        .send(outgoing("annotated.local.t1", None, "READINGS"))
        .await
        .unwrap();
    timeout(PATIENCE, tap.next()).await.unwrap().unwrap();
    people
        .publisher()
        .send(outgoing("raw.local.t1", None, "RAW"))
        .await
        .unwrap();

    let readings = context(people.client.clone())
        .get_stream("READINGS")
        .await
        .unwrap();
    let pull = consumer::pull::OrderedConfig {
        name: Some("a-tap".into()),
        filter_subject: "annotated.>".into(),
        ..Default::default()
    };
    let mut pulled = readings
        .create_consumer(pull)
        .await
        .unwrap()
        .messages()
        .await
        .unwrap();
    timeout(PATIENCE, pulled.next()).await.unwrap().unwrap().unwrap();
    assert!(
        people.denied.try_recv().is_err(),
        "reading needed a right that they lack"
    );

    people
        .refused(&[
            "raw.elsewhere.t1",
            "valid.local.t1",
            "annotated.local.t1",
            "event.local.t1.fire",
            "command.local.t1.open",
            "quarantine.local.t1.json",
            "redo.store",
            "$JS.API.STREAM.DELETE.READINGS",
            "$JS.API.STREAM.PURGE.READINGS",
            "$JS.API.STREAM.UPDATE.READINGS",
            "$JS.API.CONSUMER.CREATE.READINGS.store",
            "$JS.API.CONSUMER.CREATE.READINGS.store.annotated.>",
            "$JS.API.CONSUMER.CREATE.RAW.spy.raw.>",
            "$JS.API.CONSUMER.CREATE.COMMANDS.spy.command.>",
            "$JS.API.CONSUMER.CREATE.KV_credentials.spy.$KV.credentials.>",
            "$JS.API.CONSUMER.DELETE.READINGS.store",
            "$JS.API.CONSUMER.MSG.NEXT.READINGS.store",
            "$JS.API.CONSUMER.MSG.NEXT.RAW.validate",
            "$JS.ACK.READINGS.store.1.1.1.1.0",
            "$KV.things.t1",
            "$KV.pending.t1.c1",
            "$KV.sessions.t1",
            "outcome.local.t1.open",
            "api.local.actuate.cancel",
        ])
        .await;
    assert!(!people.may_subscribe("raw.>").await);
    assert!(!people.may_subscribe("_INBOX.>").await);
}

/// The server takes the name from the body where the subject has none, and then changes that durable.
#[tokio::test]
async fn a_durable_cannot_be_changed_by_a_request_that_names_it_in_its_body() {
    let broker = Broker::with(&[store()]).await;
    let mut people = broker.connect("client").await;
    people.refused(&["$JS.API.CONSUMER.CREATE.READINGS"]).await;
    let js = broker.context().await;
    for field in ["name", "durable_name"] {
        let config = format!(r#"{{"{field}":"store","ack_policy":"explicit","max_ack_pending":3}}"#);
        let body = format!(r#"{{"stream_name":"READINGS","config":{config}}}"#);
        for subject in ["READINGS.other", "READINGS.other.annotated.>"] {
            let request = Request::new()
                .payload(body.clone().into())
                .timeout(Some(PATIENCE));
            let subject = format!("$JS.API.CONSUMER.CREATE.{subject}");
            let answer = people
                .client
                .send_request(subject.clone(), request)
                .await
                .unwrap();
            let answer = String::from_utf8(answer.payload.to_vec()).unwrap();
            let store: consumer::PullConsumer =
                js.get_consumer_from_stream("store", "READINGS").await.unwrap();
            let pending = store.cached_info().config.max_ack_pending;
            assert_eq!(pending, 2_000, "{subject} was answered {answer}");
        }
    }
}

#[tokio::test]
async fn a_worker_is_admitted_beside_others_who_stay_connected() {
    let mut broker = Broker::with(&[validate(), store()]).await;
    let mut stays = broker.connect("validate").await;
    let before = stays
        .client
        .statistics()
        .connects
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(
        broker.connect_once("over-limit").await,
        Err(ConnectError::Refused { .. })
    ));

    broker.admit(&[validate(), store(), over_limit()]);
    broker.reload().await;
    broker.connect("over-limit").await;
    assert!(!stays.may_publish("event.local.t1.over_limit").await);
    let after = stays
        .client
        .statistics()
        .connects
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(before, after, "those who were there noticed nothing");
}

#[tokio::test]
async fn a_name_or_seed_that_the_server_does_not_know_is_refused() {
    let broker = Broker::bare().await;
    assert!(matches!(
        broker.connect_once("nobody").await,
        Err(ConnectError::Refused { .. })
    ));
    let nowhere = telltale_nats::client::Access {
        url: "nats://127.0.0.1:1".into(),
        seed: None,
        user: "nobody".into(),
    };
    let away = telltale_nats::client::connect(&nowhere).await;
    assert!(matches!(away, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test]
async fn a_worker_in_need_of_nothing_may_nearly_nothing() {
    let idle = manifest(r#"{"name":"idle"}"#);
    let broker = Broker::with(&[idle, store()]).await;
    let mut worker = broker.connect("idle").await;
    worker.refused(ATTACKS).await;
    worker.refused(&["event.local.t1.over_limit"]).await;
}

/// The server does not check to whom it answers, so that whoever publishes may let a confirmation, and nothing
/// else, appear anywhere. No lane has a message that looks like one, and no command of the server is one.
#[tokio::test]
async fn a_reply_subject_brings_nothing_but_a_confirmation_anywhere() {
    let broker = Broker::with(&[validate()]).await;
    let operator = broker.connect("operator").await.publisher();
    operator
        .send(outgoing("annotated.local.t1", None, "READINGS"))
        .await
        .unwrap();
    let people = broker.connect("client").await;
    for reply in [
        "command.local.t1.open",
        "valid.local.t1",
        "event.local.t1.fire",
        "$KV.things.t1",
        "$JS.API.STREAM.PURGE.READINGS",
        "$JS.API.STREAM.DELETE.READINGS",
        "$JS.API.CONSUMER.DELETE.RAW.validate",
        "$JS.API.CONSUMER.MSG.NEXT.RAW.validate",
    ] {
        let body = r#"{"open":true}"#.into();
        people
            .client
            .publish_with_reply_and_headers("raw.local.t1", reply, HeaderMap::new(), body)
            .await
            .unwrap();
    }
    let last = outgoing("raw.local.t1", None, "RAW");
    people.publisher().send(last).await.unwrap();

    let js = broker.context().await;
    for stream in ["COMMANDS", "VALID", "EVENTS", "KV_things"] {
        let stream = js.get_stream(stream).await.unwrap();
        let state = &stream.cached_info().state;
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let confirmation: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(
                confirmation["stream"], "RAW",
                "{confirmation} on {}",
                message.subject
            );
        }
    }
    let readings = js.get_stream("READINGS").await.unwrap().cached_info().clone();
    assert_eq!(readings.state.messages, 1, "nothing was purged");
    let durable: consumer::PullConsumer = js.get_consumer_from_stream("validate", "RAW").await.unwrap();
    assert_eq!(durable.cached_info().num_ack_pending, 0, "nothing was fetched");
}
