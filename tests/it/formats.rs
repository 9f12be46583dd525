//! What we write is read by libraries of another language that we did not write.
use std::{process::Stdio, time::Duration};
use telltale_cli::stack::StackOptions;
use telltale_nats::{Lane, Name, Subject, async_nats::HeaderMap, client, header};
use telltale_schemas::Kind;
use telltale_tests::{pipeline::Pipeline, python};

const CLOUDEVENTS: &str = r#"
import asyncio, sys, nats
from cloudevents.core.v1.event import CloudEvent
from cloudevents.core.formats.json import JSONFormat
import json
async def main():
    url, seed, wanted = sys.argv[1], sys.argv[2], set(sys.argv[3].split(","))
    nc = await nats.connect(url, nkeys_seed=seed, inbox_prefix=b"_INBOX_client")
    seen, done = {}, asyncio.Event()
    async def take(message):
        if message.headers["Content-Type"] == "application/cloudevents-batch+json":
            bodies = [json.dumps(one) for one in json.loads(message.data)]
        else:
            assert message.headers["Content-Type"] == "application/cloudevents+json", message.headers
            bodies = [message.data]
        for body in bodies:
            event = JSONFormat().read(CloudEvent, body)
            seen[event.get_type()] = event.get_id()
        if wanted <= set(seen):
            done.set()
    for lane in ("valid", "annotated", "derived", "event", "command", "outcome", "thing", "quarantine"):
        await nc.subscribe(lane + ".>", cb=take)
    await nc.flush()
    print("listening", flush=True)
    await asyncio.wait_for(done.wait(), 30)
    print(sorted(seen), flush=True)
    await nc.close()
asyncio.run(main())
"#;

const SENML: &str = r#"
import sys, json
from kpn_senml import SenmlPack
for line in sys.stdin:
    got = []
    pack = SenmlPack("x", lambda record, **_: got.append(record))
    pack.from_json(line)
    print(json.dumps([[record.name, record.value] for record in got]))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn another_language_reads_our_cloudevents() {
    use tokio::io::AsyncBufReadExt as _;
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let (url, seed) = (
        pipeline.stack.env("NATS_URL"),
        pipeline.stack.env("NATS_NKEY_SEED_FILE"),
    );
    let kinds = Kind::ALL.map(Kind::event_type);
    let command =
        tokio::task::block_in_place(|| python::command(CLOUDEVENTS, &[url, seed, &kinds.join(",")]));
    let mut peer = tokio::process::Command::from(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(peer.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("listening"));

    let entry = pipeline.stack.dir().join("t.json");
    std::fs::write(&entry, r#"{"thing":"t","annotation":{"foi":"urn:road:A8:km42"}}"#).unwrap();
    assert!(
        pipeline
            .telltale(&["thing", "put", entry.to_str().unwrap()])
            .await
            .status
            .success()
    );
    let http = pipeline.http.clone();
    let post = |path: &str, body: &[u8]| http.post(path, &[], body).unwrap().status;
    assert_eq!(
        post(
            "/things/t/readings",
            br#"{"temperature":21.5,"ok":true,"text":"x"}"#
        ),
        202
    );
    assert_eq!(post("/things/t/readings", b"{"), 202);
    assert_eq!(post("/things/t/events/button_pressed", br#"{"by":"hand"}"#), 202);
    publish_what_no_part_of_ours_writes(&pipeline).await;
    let seen = tokio::time::timeout(Duration::from_secs(30), lines.next_line())
        .await
        .unwrap()
        .unwrap();
    if seen.is_none() {
        let output = peer.wait_with_output().await.unwrap();
        panic!("the peer gave up: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Derivations, commands and outcomes are written by extensions alone: here by one with the operator's rights.
async fn publish_what_no_part_of_ours_writes(pipeline: &Pipeline) {
    let nats = pipeline.stack.context().unwrap().nats().await.unwrap();
    let js = client::context(nats);
    for (lane, name, text) in [
        (
            Lane::Derived,
            None,
            include_str!("../../schemas/examples/derivation/ok-mean.json"),
        ),
        (
            Lane::Command,
            Some("lamp"),
            include_str!("../../schemas/examples/command/ok-lamp.json"),
        ),
        (
            Lane::Outcome,
            Some("lamp"),
            include_str!("../../schemas/examples/outcome/ok-queued.json"),
        ),
    ] {
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let site = Name::new(pipeline.stack.env("TELLTALE_SITE")).unwrap();
        let thing = Name::new(document["subject"].as_str().unwrap()).unwrap();
        let subject = match name {
            Some(name) => Subject::named(lane, site, thing, Name::new(name).unwrap()),
            None => Subject::of(lane, site, thing),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::CLOUDEVENT);
        let taken = js
            .publish_with_headers(subject.to_string(), headers, text.into())
            .await;
        taken.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_language_reads_our_senml() {
    let pipeline = Pipeline::start(StackOptions::default()).await;
    let mut tap = tokio::process::Command::new(telltale_tests::pipeline::binary("telltale"))
        .args([
            "tap",
            "annotated",
            "--as",
            "senml",
            "--limit",
            "1",
            "--for",
            "30s",
        ])
        .current_dir(pipeline.stack.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It shows what passes from now on, so something passes until it has seen one.
    let mut next = tokio::time::interval(Duration::from_millis(100));
    while tap.try_wait().unwrap().is_none() {
        next.tick().await;
        let body = br#"{"temperature":21.5,"ok":true}"#;
        assert_eq!(
            pipeline
                .http
                .post("/things/t/readings", &[], body)
                .unwrap()
                .status,
            202
        );
    }
    let tap = tap.wait_with_output().await.unwrap();
    assert!(tap.status.success());
    let read = tokio::task::block_in_place(|| python::run(SENML, &[], &tap.stdout));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    for part in ["temperature", "21.5", "true"] {
        assert!(text.contains(part), "{text}");
    }
}
