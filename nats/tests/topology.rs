//! The files beside the crate fit our subjects and workers. No server is needed to know.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
use std::{collections::BTreeSet, fs, path::Path};
use telltale_nats::{
    Lane, Manifest, Name, Topology,
    subject::{REDO_STREAM, Subject, pack, redo},
    topology::{Discard, Retention, TopologyError},
};

fn site() -> Name {
    Name::new("local").unwrap()
}

fn topology() -> Topology {
    Topology::of(&site())
}

/// Whether the broker puts a subject into a stream with that filter.
fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

fn streams_of(subject: &str) -> Vec<String> {
    topology()
        .streams
        .into_iter()
        .filter(|stream| stream.subjects.iter().any(|filter| matches(filter, subject)))
        .map(|stream| stream.name)
        .collect()
}

#[test]
fn every_subject_falls_in_exactly_one_stream() {
    for lane in Lane::ALL {
        for thing in ["t1", "urn:dev:ow:10e2073a01080063", "Brücke 7"].map(|plain| Name::new(plain).unwrap())
        {
            let subject = if lane.has_name() {
                Subject::named(lane, site(), thing, Name::new("x.y").unwrap())
            } else {
                Subject::of(lane, site(), thing)
            };
            assert_eq!(streams_of(&subject.to_string()), [lane.stream()], "{subject}");
        }
    }
    assert_eq!(streams_of(&pack(&site())), ["VALID"]);
    assert_eq!(streams_of(&redo(&Name::new("store").unwrap())), [REDO_STREAM]);
    for never in [
        "api.local.validate.holds",
        "_INBOX_store.x",
        "$KV.things.t1",
        "$JS.ACK.RAW.validate.1",
    ] {
        assert_eq!(streams_of(never), Vec::<String>::new(), "{never}");
    }
}

#[test]
fn every_file_is_used_and_names_what_it_describes() {
    let topology = topology();
    let streams = topology
        .streams
        .iter()
        .map(|stream| stream.name.clone())
        .collect();
    let buckets = topology
        .buckets
        .iter()
        .map(|bucket| bucket.name.clone())
        .collect();
    for (folder, used) in [("streams", streams), ("buckets", buckets)] {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let files: BTreeSet<String> = files
            .map(|file| {
                file.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(files, used, "{folder}");
    }
}

#[test]
fn a_full_stream_holds_back_or_drops_as_the_design_says() {
    let topology = topology();
    let stream = |name: &str| {
        topology
            .streams
            .iter()
            .find(|stream| stream.name == name)
            .unwrap()
    };
    for name in ["RAW", "COMMANDS", "REDO"] {
        assert_eq!(
            (stream(name).retention, stream(name).discard),
            (Retention::WorkQueue, Discard::New),
            "{name}"
        );
    }
    for name in ["VALID", "READINGS", "EVENTS"] {
        assert_eq!(
            (stream(name).retention, stream(name).discard),
            (Retention::Limits, Discard::Old),
            "{name}"
        );
    }
    for name in ["THINGS", "QUARANTINE"] {
        assert_eq!(
            (stream(name).retention, stream(name).discard),
            (Retention::Limits, Discard::New),
            "{name}"
        );
    }
    let quarantine = stream("QUARANTINE");
    assert!(quarantine.discard_new_per_subject && quarantine.max_messages_per_subject == Some(10_000));
    let raw = stream("RAW").config();
    assert!(!raw.allow_rollup && !raw.allow_message_ttl && !raw.allow_message_schedules);
    assert_eq!(raw.duplicate_window.as_millis(), 100);
}

fn manifest(json: &str) -> Manifest {
    Manifest::parse(json.as_bytes()).unwrap()
}

#[test]
fn workers_fit_the_topology_or_the_reason_is_named() {
    let validate =
        manifest(r#"{"name":"validate","inputs":["raw"],"outputs":["valid"],"buckets":["things"]}"#);
    let annotate =
        manifest(r#"{"name":"annotate","inputs":["valid"],"outputs":["annotated"],"buckets":["things"]}"#);
    let store = manifest(
        r#"{"name":"store","inputs":["annotated","derived","event","outcome","thing","quarantine"]}"#,
    );
    let topology = topology();
    topology
        .check(&[validate.clone(), annotate.clone(), store.clone()])
        .unwrap();

    let spy = manifest(r#"{"name":"spy","inputs":["raw"]}"#);
    let taken = topology.check(&[validate, spy]).unwrap_err();
    assert_eq!(
        taken.to_string(),
        "`spy` cannot read `RAW`: it is a work queue, and `validate` reads it"
    );
    let lost = manifest(r#"{"name":"lost","buckets":["nowhere"]}"#);
    assert!(matches!(
        topology.check(&[lost]),
        Err(TopologyError::NoBucket { .. })
    ));
    assert!(matches!(
        topology.check(&[store.clone(), store]),
        Err(TopologyError::Twice(_))
    ));
    assert!(topology.check(&[annotate]).is_ok());
}

#[test]
fn a_site_without_a_file_is_like_the_local_one() {
    let other = Topology::of(&Name::new("a8-km42").unwrap());
    assert_eq!(other.streams, topology().streams);
    assert_eq!(other.site.plain(), "a8-km42");
    assert!(other.max_bytes() > 2 << 30);
}
