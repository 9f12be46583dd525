//! `telltale trace`: a thousand events of every fate, each told as it was.
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use telltale_cli::{
    commands::trace::{Act, Sources, Told, trace},
    stack::StackOptions,
};
use telltale_nats::{
    Lane, Name, Outgoing, Publisher, Subject, async_nats::jetstream, client, header, publish::Options,
};
use telltale_tests::{
    load::{self, Load},
    pipeline::Pipeline,
};

const SOON: Duration = Duration::from_secs(90);
/// Traced at once.
const AT_ONCE: usize = 8;
/// Entries that the quarantine keeps for one thing and reason here.
const KEPT: usize = 20;

/// How many of which.
const HTTP: usize = 350;
const MQTT: usize = 200;
const NATS: usize = 100;
const TWICE: usize = 60;
const REFUSED: usize = 100;
const REPLAYED: usize = 60;
const RETRIED: usize = 60;
const CAPPED: usize = 40;
const IN_VALID: usize = 20;
const IN_RAW: usize = 10;

/// That many of a group: each of a thing of ten, with a key of its own.
fn group(name: &str, count: usize, body: impl Fn(usize) -> String) -> Vec<Load> {
    let load = |n: usize| Load {
        thing: format!("{name}-{}", n % 10),
        key: format!("{name}:{n}"),
        payload: Bytes::from(body(n)),
    };
    (0..count).map(load).collect()
}

fn readings(name: &str, count: usize) -> Vec<Load> {
    group(name, count, |n| format!(r#"{{"temperature":{n}}}"#))
}

fn ids(loads: &[Load]) -> Vec<String> {
    loads
        .iter()
        .map(|load| format!("{}:{}", load.thing, load.key))
        .collect()
}

struct World {
    pipeline: Pipeline,
    sql: tokio_postgres::Client,
    js: jetstream::Context,
    faults: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.faults) {
            eprintln!("{} stays: {error}", self.faults.display());
        }
    }
}

impl World {
    async fn start() -> Self {
        let faults = telltale_cli::stack::scratch("faults").unwrap();
        let pipeline = Pipeline::start(StackOptions {
            ack_wait: Some(Duration::from_secs(2)),
            env: vec![("TELLTALE_FAULT_DIR".into(), faults.display().to_string())],
            ..StackOptions::default()
        })
        .await;
        let context = pipeline.stack.context().unwrap();
        let js = client::context(context.nats().await.unwrap());
        let mut quarantine = js
            .get_stream("QUARANTINE")
            .await
            .unwrap()
            .cached_info()
            .config
            .clone();
        quarantine.max_messages_per_subject = i64::try_from(KEPT).unwrap();
        js.update_stream(&quarantine).await.unwrap();
        Self {
            sql: context.sql().await.unwrap(),
            js,
            pipeline,
            faults,
        }
    }

    async fn http(&self, loads: &[Load]) {
        let (client, loads) = (self.pipeline.http.clone(), loads.to_vec());
        tokio::task::spawn_blocking(move || load::over_http(&client, &loads, 8))
            .await
            .unwrap();
    }

    async fn mqtt(&self, loads: &[Load]) {
        let stack = &self.pipeline.stack;
        let address = stack
            .env("MQTT_URL")
            .trim_start_matches("mqtt://")
            .trim_end_matches('/')
            .to_owned();
        let (user, password) = (stack.env("MQTT_USER"), stack.env("MQTT_PASSWORD"));
        load::over_mqtt(&address, user, password, loads, 50).await;
    }

    async fn nats(&self, loads: &[Load]) {
        let nats = self.pipeline.stack.context().unwrap().nats().await.unwrap();
        let site = Name::new("local").unwrap();
        let outgoing = loads.iter().map(|load| Outgoing {
            subject: Subject::of(Lane::Raw, site.clone(), Name::new(&load.thing).unwrap()).to_string(),
            headers: vec![(header::CONTENT_TYPE, header::CLOUDEVENT.to_owned())],
            payload: Bytes::from(format!(
                r#"{{"specversion":"1.0","id":"{}","type":"t","source":"/t","data":{}}}"#,
                load.key,
                std::str::from_utf8(&load.payload).unwrap()
            )),
            stream: Lane::Raw.stream(),
        });
        for confirmed in Publisher::new(nats, Options::default())
            .publish(outgoing.collect())
            .await
        {
            confirmed.unwrap();
        }
    }

    /// Says of what type the temperature of a group's things is.
    async fn type_of(&self, name: &str, kind: &str) {
        let entry = |n: usize| {
            format!(
                r#"{{"thing":"{name}-{n}","policy":{{"properties":{{"temperature":{{"type":"{kind}"}}}}}}}}"#
            )
        };
        let file = self.pipeline.stack.dir().join("things.ndjson");
        std::fs::write(&file, (0..10).map(entry).collect::<Vec<_>>().join("\n")).unwrap();
        let put = self
            .pipeline
            .telltale(&["thing", "put", file.to_str().unwrap()])
            .await;
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    }

    /// What is told of each, and each must be as `is` says.
    async fn told(&self, ids: &[String], is: impl Fn(&str, &Told)) -> Vec<Told> {
        let site = Name::new("local").unwrap();
        let at = &Sources {
            sql: &self.sql,
            js: &self.js,
            site: &site,
        };
        let told: Vec<Told> = futures::stream::iter(ids.iter().cloned())
            .map(|id| async move { trace(at, &id).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .unwrap();
        for (id, told) in ids.iter().zip(&told) {
            is(id, told);
        }
        told
    }

    async fn rows(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap();
        self.pipeline
            .until("select count(*) from readings", count, SOON)
            .await;
    }
}

fn stages(act: &Act) -> Vec<(&str, &str)> {
    act.hops
        .iter()
        .map(|hop| (hop.stage.as_str(), hop.verdict.as_str()))
        .collect()
}

/// Times go forward, and add up.
fn is_in_order(act: &Act) {
    for pair in act.hops.windows(2) {
        assert!(
            pair[0].start <= pair[0].end && pair[0].end <= pair[1].start,
            "{act:?}"
        );
    }
    let hops = act.hops.iter();
    assert!(
        hops.skip(1)
            .all(|hop| hop.took_ms >= 0.0 && hop.waited_ms.is_some_and(|waited| waited >= 0.0))
    );
}

fn is_stored(act: &Act, id: &str, by: &str, protocol: &str) {
    assert_eq!(act.verdict, "stored", "{act:?}");
    let way = [
        (by, "accepted"),
        ("validate", "passed"),
        ("annotate", "passed"),
        ("store", "stored"),
    ];
    let passed: Vec<_> = stages(act)
        .into_iter()
        .filter(|(_, verdict)| *verdict != "failed")
        .collect();
    assert_eq!(passed, way, "{act:?}");
    assert_eq!(act.row.as_ref().unwrap().message_id, id);
    assert_eq!((act.id.as_str(), act.protocol.as_deref()), (id, Some(protocol)));
    is_in_order(act);
}

fn is_refused(act: &Act, reason: &str) {
    assert_eq!(act.verdict, "quarantined", "{act:?}");
    let way = [("bridge", "accepted"), ("validate", "refused"), ("store", "kept")];
    assert_eq!(stages(act), way, "{act:?}");
    let entry = act.entry.as_ref().unwrap();
    assert_eq!(
        (entry.stage.as_str(), entry.reason.as_str()),
        ("validate", reason)
    );
    assert!(entry.errors[0]["message"].is_string());
    is_in_order(act);
}

/// What was sent, by what is to become of it.
struct Sent {
    http: Vec<Load>,
    mqtt: Vec<Load>,
    nats: Vec<Load>,
    twice: Vec<Load>,
    json: Vec<Load>,
    empty: Vec<Load>,
    replayed: Vec<Load>,
    retried: Vec<Load>,
    capped: Vec<Load>,
}

impl Sent {
    fn new() -> Self {
        let mut capped = group("capped", CAPPED, |n| format!("no JSON {n}"));
        for load in &mut capped {
            "capped".clone_into(&mut load.thing);
        }
        Self {
            http: readings("http", HTTP),
            mqtt: readings("mqtt", MQTT),
            nats: readings("nats", NATS),
            twice: readings("twice", TWICE),
            json: group("json", REFUSED / 2, |n| format!("no JSON {n}")),
            empty: group("empty", REFUSED / 2, |_| "{}".to_owned()),
            replayed: readings("replayed", REPLAYED),
            retried: readings("retried", RETRIED),
            capped,
        }
    }

    /// All of it, and all of it has an end.
    async fn through(&self, world: &mut World) {
        world.type_of("replayed", "string").await;
        let all = [
            &self.http,
            &self.twice,
            &self.twice,
            &self.json,
            &self.empty,
            &self.replayed,
            &self.capped,
        ];
        for loads in all {
            world.http(loads).await;
        }
        world.mqtt(&self.mqtt).await;
        world.nats(&self.nats).await;
        let mut rows = HTTP + MQTT + NATS + TWICE;
        world.rows(rows).await;
        let unkept = "select count(*) from events where name = 'quarantine_overflow'";
        let over = i64::try_from(CAPPED - KEPT).unwrap();
        world.pipeline.until(unkept, over, SOON).await;

        world.type_of("replayed", "number").await;
        let replay = ["quarantine", "replay", "--reason", "type", "--yes"];
        let output = world.pipeline.telltale(&replay).await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        rows += REPLAYED;
        world.rows(rows).await;

        // The worker kills itself there, once.
        std::fs::write(world.faults.join("validate.before_publish.armed"), "").unwrap();
        world.http(&self.retried).await;
        world.rows(rows + RETRIED).await;
        assert!(world.faults.join("validate.before_publish.fired").exists());
        world.pipeline.at_rest(SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_events_of_every_fate_are_each_told_as_they_were() {
    let mut world = World::start().await;
    let sent = Sent::new();
    sent.through(&mut world).await;
    for (loads, by, protocol) in [
        (&sent.http, "bridge", "http"),
        (&sent.mqtt, "bridge", "mqtt"),
        (&sent.nats, "nats", "nats"),
    ] {
        let is = |id: &str, told: &Told| is_stored(only(told), id, by, protocol);
        world.told(&ids(loads), is).await;
    }
    world.told(&ids(&sent.twice), is_twice).await;
    for (loads, reason) in [(&sent.json, "json"), (&sent.empty, "records")] {
        let is = |_: &str, told: &Told| is_refused(only(told), reason);
        world.told(&ids(loads), is).await;
    }
    world.told(&ids(&sent.replayed), is_replayed).await;
    let is = |id: &str, told: &Told| is_stored(only(told), id, "bridge", "http");
    let told = world.told(&ids(&sent.retried), is).await;
    let again = told
        .iter()
        .filter(|told| only(told).hops.iter().any(|hop| hop.attempt > 1));
    assert!(
        again.count() > 0,
        "what the killed worker had in hand was tried again, and that is told"
    );
    let told = world.told(&ids(&sent.capped), |_, _| {}).await;
    let is_kept = |told: &&Told| only(told).verdict == "quarantined";
    let (kept, unkept): (Vec<&Told>, Vec<&Told>) = told.iter().partition(is_kept);
    assert_eq!((kept.len(), unkept.len()), (KEPT, CAPPED - KEPT));
    unkept.into_iter().for_each(is_unkept);
    others(
        &world,
        &ids(&sent.http)[0],
        &ids(&sent.replayed)[0],
        &ids(&sent.twice)[0],
    )
    .await;
    waiting(&world).await;
}

fn is_unkept(told: &Told) {
    let act = only(told);
    let way = [("bridge", "accepted"), ("validate", "refused"), ("store", "told")];
    assert_eq!(
        (act.verdict.as_str(), stages(act)),
        ("unkept", way.to_vec()),
        "{act:?}"
    );
    assert_eq!(act.entry.as_ref().unwrap().reason, "json");
    assert_eq!(told.caused[0].name.as_deref(), Some("quarantine_overflow"));
}

fn only(told: &Told) -> &Act {
    assert_eq!(told.acts.len(), 1, "{told:?}");
    &told.acts[0]
}

fn is_twice(id: &str, told: &Told) {
    let [first, second] = told.acts.as_slice() else {
        panic!("{told:?}")
    };
    is_stored(first, id, "bridge", "http");
    assert_eq!(
        (second.verdict.as_str(), &second.row),
        ("duplicate", &first.row),
        "{told:?}"
    );
    assert!(second.rawseq > first.rawseq && first.row.as_ref().unwrap().rawseq == first.rawseq);
    let way = [
        ("bridge", "accepted"),
        ("validate", "passed"),
        ("annotate", "passed"),
    ];
    assert_eq!(stages(second), way);
}

fn is_replayed(id: &str, told: &Told) {
    let [refused, stored] = told.acts.as_slice() else {
        panic!("{told:?}")
    };
    is_refused(refused, "type");
    assert_eq!(refused.entry.as_ref().unwrap().state.as_deref(), Some("replayed"));
    is_stored(stored, id, "bridge", "http");
    assert_eq!(stored.rawseq, refused.rawseq);
}

/// By an entry's id and by a place in RAW, over the program as people run it, and what nobody knows.
async fn others(world: &World, stored: &str, replayed: &str, twice: &str) {
    let told = world
        .told(
            &[stored.to_owned(), replayed.to_owned(), twice.to_owned()],
            |_, _| {},
        )
        .await;
    let place = |act: &Act| act.rawseq.unwrap().to_string();
    let entry = told[1].acts[0].entry.as_ref().unwrap().id.clone().unwrap();
    let asked = [place(&told[0].acts[0]), entry.clone(), place(&told[2].acts[1])];
    let by_other_names = world.told(&asked, |_, _| {}).await;
    is_stored(only(&by_other_names[0]), stored, "bridge", "http");
    is_replayed(replayed, &by_other_names[1]);
    is_twice(twice, &by_other_names[2]);

    let output = world.pipeline.telltale(&["trace", replayed, "-o", "json"]).await;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["acts"][0]["verdict"], &json["acts"][1]["verdict"]),
        (&"quarantined".into(), &"stored".into())
    );
    for (id, words) in [
        (stored, ["bridge", "annotate", "stored"]),
        (entry.as_str(), ["refused it as `type`", "replayed", "stored"]),
        (twice, ["duplicate", "was there before", "observation"]),
    ] {
        let output = world.pipeline.telltale(&["trace", id, "-o", "table"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(words.iter().all(|word| text.contains(word)), "{id}: {text}");
    }
    let output = world.pipeline.telltale(&["trace", "nobody:knows"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("nothing is known of `nobody:knows`")
    );
}

/// What is under way is told where it waits.
async fn waiting(world: &World) {
    world.pipeline.stack.stop_one("annotate").await.unwrap();
    let valid = readings("valid", IN_VALID);
    world.http(&valid).await;
    telltale_tests::eventually_async("RAW is empty", SOON, || async {
        let raw = world.js.get_stream("RAW").await.unwrap();
        (raw.cached_info().state.messages == 0).then_some(())
    })
    .await;
    world.pipeline.stack.stop_one("validate").await.unwrap();
    let raw = readings("raw", IN_RAW);
    world.http(&raw).await;
    let waits_for = |stage: &'static str, stream: &'static str| {
        move |_: &str, told: &Told| {
            let act = only(told);
            assert_eq!(act.verdict, "in_flight", "{told:?}");
            let waits = act.waits.as_ref().unwrap();
            assert_eq!((waits.stage.as_str(), waits.stream.as_str()), (stage, stream));
            assert_eq!(act.hops[0].stage, "bridge");
        }
    };
    world.told(&ids(&valid), waits_for("annotate", "VALID")).await;
    world.told(&ids(&raw), waits_for("validate", "RAW")).await;
}
