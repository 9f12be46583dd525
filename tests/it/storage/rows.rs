//! What becomes a row, what does not, and what the ledger says of it.
use super::{
    EPOCH, TIME, at, changed, database::Database, delivery, number, observation, raw, refusal, text,
};
use serde_json::json;
use telltale_runtime::{BatchWorker as _, Delivery};
use telltale_schemas::{Derivation, Event, Observation, Outcome, Registration, kinds};
use telltale_store::Storable;

/// Gives a batch of which nothing may be refused.
async fn keep(db: &Database, batch: &[Delivery<Storable>]) {
    let verdicts = db.store.handle_batch(batch).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
}

#[tokio::test]
async fn a_batch_that_is_delivered_again_adds_nothing_and_stays_stored() {
    let db = Database::fresh().await;
    let batch: Vec<_> = (1..=50)
        .map(|n| observation(&format!("t:{n}"), n, vec![number("a", 1.0), number("b", 2.0)]))
        .collect();
    for _ in 0..3 {
        keep(&db, &batch).await;
        assert_eq!(db.count("readings").await, 100);
        assert_eq!(db.fates().await, [("stored".to_owned(), "{[1,51)}".to_owned())]);
    }
    // By another copy too, which knows nothing of the first.
    db.another_store().handle_batch(&batch).await.unwrap();
    assert_eq!(db.count("readings").await, 100);
    assert_eq!(db.text("select count(*)::text from store.hops").await, "50");
}

#[tokio::test]
async fn an_id_that_was_there_from_another_raw_message_is_a_duplicate_and_adds_no_row() {
    let db = Database::fresh().await;
    let first = observation("t:1", 1, vec![number("a", 1.0)]);
    // Sent again, with a record more: a message is kept whole or not at all.
    let again = observation("t:1", 7, vec![number("a", 1.0), number("b", 2.0)]);
    // The same in one batch.
    let twice = [
        observation("t:2", 2, vec![number("a", 1.0)]),
        observation("t:2", 3, vec![number("a", 1.0)]),
        observation("t:2", 2, vec![number("a", 1.0)]),
    ];
    keep(&db, &[first]).await;
    keep(&db, &[again]).await;
    keep(&db, &twice).await;
    assert_eq!(db.count("readings").await, 2);
    let of = |fate: &str, seqs: &str| (fate.to_owned(), seqs.to_owned());
    let fates = db.fates().await;
    // Which of the two is first in a batch is not promised; that one alone is, is.
    let either = [
        [of("duplicate", "{[3,4),[7,8)}"), of("stored", "{[1,3)}")],
        [of("duplicate", "{[2,3),[7,8)}"), of("stored", "{[1,2),[3,4)}")],
    ];
    assert!(either.iter().any(|it| fates == it), "{fates:?}");
}

#[tokio::test]
async fn a_retry_of_a_reading_without_a_time_of_its_own_is_a_duplicate() {
    let db = Database::fresh().await;
    let sent = |seq: u64, received: &str| {
        changed(observation("t:k", seq, vec![number("a", 1.0)]), |cause| {
            cause.time = at(received);
            cause.recordedtime = Some(at(received));
        })
    };
    let first = || sent(1, "2026-01-15T08:00:00Z");
    let retry = || sent(2, "2026-01-15T08:00:05Z");
    keep(&db, &[first()]).await;
    keep(&db, &[retry(), sent(3, "2026-01-16T08:00:00Z")]).await;
    // Both delivered again, in one batch.
    keep(&db, &[retry(), first()]).await;
    assert_eq!(db.count("readings").await, 1);
    let of = |fate: &str, seqs: &str| (fate.to_owned(), seqs.to_owned());
    assert_eq!(
        db.fates().await,
        [of("duplicate", "{[2,4)}"), of("stored", "{[1,2)}")]
    );
}

#[tokio::test]
async fn one_bad_row_in_500_is_refused_and_the_others_are_stored() {
    let db = Database::fresh().await;
    let mut batch: Vec<_> = (1..=500)
        .map(|n| observation(&format!("t:{n}"), n, vec![number("a", 1.0), text("b", "good")]))
        .collect();
    batch[316] = observation("t:317", 317, vec![number("a", 1.0), text("b", "no\u{0}good")]);
    let verdicts = db.store.handle_batch(&batch).await.unwrap();
    for (n, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict.is_err(), n == 316, "{n}: {verdict:?}");
    }
    let failure = verdicts[316].as_ref().unwrap_err();
    assert_eq!(failure.reason(), Some("database"));
    assert!(failure.faults()[0].message.starts_with("22021: "), "{failure:?}");
    assert_eq!(db.count("readings").await, 998);
    let stored = [("stored".to_owned(), "{[1,317),[318,501)}".to_owned())];
    assert_eq!(db.fates().await, stored);
}

#[tokio::test]
async fn bad_messages_that_postgresql_does_not_name_are_found_by_halving() {
    let db = Database::fresh().await;
    let event = |n: u64, detail: &str| {
        let event = Event::new("opened").with("note", detail);
        changed(delivery(&format!("t:{n}.x.0"), "t", event), |cause| {
            cause.rawseq = Some(raw(n));
        })
    };
    let mut batch: Vec<_> = (0..40).map(|n| event(n, "good")).collect();
    batch[7] = event(7, "no\u{0}good");
    batch[8] = event(8, "no\u{0}good");
    // Longer than an entry of an index may be.
    let mut noise = 1_u32;
    let mut letter = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((noise >> 24) % 26).unwrap())
    };
    let long: String = (0..4_000).map(|_| letter()).collect();
    batch[30] = observation(&long, 30, vec![number("a", 1.0)]);
    let verdicts = db.store.handle_batch(&batch).await.unwrap();
    let refused: Vec<_> = verdicts
        .iter()
        .enumerate()
        .filter(|(_, v)| v.is_err())
        .map(|(n, _)| n)
        .collect();
    assert_eq!(refused, [7, 8, 30]);
    assert_eq!(db.count("events").await, 37);
    keep(&db, &[event(1, "good")]).await;
    assert_eq!(db.count("events").await, 37);
}

#[tokio::test]
async fn every_type_of_value_comes_back_as_it_was() {
    let db = Database::fresh().await;
    let mut gone = number("gone", -200.0);
    gone.missing(Some("-200".into()));
    let records = vec![
        telltale_schemas::Record {
            u: Some("Cel".into()),
            q: Some(telltale_schemas::Flag::Fail),
            failed: vec!["gross_range".into(), "x".into()],
            ..number("a", -0.1)
        },
        text("b", "zwölf"),
        telltale_schemas::Record {
            vb: Some(true),
            ..telltale_schemas::Record::named("c")
        },
        telltale_schemas::Record {
            vd: Some("_-8".into()),
            t: Some(1_078_941_600.5),
            ..telltale_schemas::Record::named("d")
        },
        gone,
        telltale_schemas::Record {
            s: Some(7.5),
            ..telltale_schemas::Record::named("e")
        },
    ];
    let mut message = observation("t:1", 1, records);
    if let Storable::Observation(Observation { annotation, .. }) = &mut message.data {
        annotation.insert("foi".into(), json!("urn:x"));
    }
    keep(&db, &[message]).await;
    let rows = db
        .text(
            "select string_agg(concat_ws('|', ordinal, name, time, value, value_text, value_bool, value_data, sum, unit,
                 quality, failed, annotation ->> 'foi'), E'\\n' order by ordinal) from readings",
        )
        .await;
    let expected = [
        "0|a|2026-01-15 07:41:09.25+00|-0.1|Cel|4|{gross_range,x}|urn:x",
        "1|b|2026-01-15 07:41:09.25+00|zwölf|{}|urn:x",
        "2|c|2026-01-15 07:41:09.25+00|t|{}|urn:x",
        "3|d|2004-03-10 18:00:00.5+00|\\xffef|{}|urn:x",
        "4|gone|2026-01-15 07:41:09.25+00|-200|9|{missing}|urn:x",
        "5|e|2026-01-15 07:41:09.25+00|7.5|{}|urn:x",
    ];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_day_of_2004_gets_its_partition_and_one_before_1990_is_refused() {
    let db = Database::fresh().await;
    let of = |n: u64, time: &str| {
        changed(
            observation(&format!("t:{n}"), n, vec![number("a", 1.0)]),
            |cause| cause.time = at(time),
        )
    };
    let batch = [
        of(1, "2004-03-10T18:00:00Z"),
        of(2, "1989-12-31T00:00:00Z"),
        of(3, "2004-03-11T00:00:00Z"),
    ];
    let verdicts = db.store.handle_batch(&batch).await.unwrap();
    assert!(verdicts[0].is_ok() && verdicts[2].is_ok());
    assert_eq!(verdicts[1].as_ref().unwrap_err().reason(), Some("time"));
    assert_eq!(db.count("store.readings_20040310").await, 1);
    assert_eq!(db.count("store.readings_20040311").await, 1);
    // A partition that was dropped behind the store's back is made again.
    db.execute("drop table store.readings_20040310").await;
    keep(&db, &[of(4, "2004-03-10T18:00:00Z")]).await;
    assert_eq!(db.count("readings").await, 2);
}

#[tokio::test]
async fn a_thousand_days_in_one_batch_are_stored() {
    let db = Database::fresh().await;
    let day = |n: u64| f64::from(u32::try_from(n).unwrap()) * 86_400.0;
    let batch: Vec<_> = (0..1_000)
        .map(|n| {
            let mut record = number("a", 1.0);
            record.t = Some(1_000_000_000.0 + day(n % 500));
            observation(&format!("t:{n}"), n + 1, vec![record])
        })
        .collect();
    keep(&db, &batch).await;
    assert_eq!(db.count("readings").await, 1_000);
}

#[tokio::test]
async fn the_ledger_holds_what_became_of_raw_and_nothing_else() {
    let db = Database::fresh().await;
    let unkept = Event::new("quarantine_overflow").with("rawseq", format!("{EPOCH}-6"));
    let derived = Derivation {
        records: vec![number("mean", 1.0)],
        rule: None,
    };
    let batch = [
        observation("t:1", 1, vec![number("a", 1.0)]),
        observation("t:2", 70_000, vec![number("a", 1.0)]),
        refusal("t:3.validate.0", "validate", 3, b"{"),
        // An extension's refusal says nothing of the reading.
        refusal("t:4.over-limit.0", "over-limit", 4, b"{}"),
        changed(delivery("t:5.process.0", "t", derived), |cause| {
            cause.rawseq = Some(raw(5));
        }),
        changed(delivery("t:6.validate.0", "t", unkept), |cause| {
            cause.source = "/site/validate".into();
        }),
    ];
    keep(&db, &batch).await;
    keep(&db, &batch).await;
    let missing = format!("select telltale.missing('site', {EPOCH}, 7)::text");
    assert_eq!(db.text(&missing).await, "{[2,3),[4,6),[7,8)}");
    let balance = format!(
        "select string_agg(fate || ' ' || messages || ' ' || seqs, ', ') from telltale.balance('site', {EPOCH})"
    );
    assert_eq!(
        db.text(&balance).await,
        "stored 2 {[1,2),[70000,70001)}, duplicate 0 {}, quarantined 1 {[3,4)}, unkept 1 {[6,7)}, removed 0 {}"
    );
    assert_eq!(
        db.text("select string_agg(epoch::text, ',') from store.epochs")
            .await,
        EPOCH.to_string()
    );
    assert_eq!(
        db.text("select string_agg(kind, ',' order by kind) from readings where name = 'mean'")
            .await,
        "derivation"
    );
}

#[tokio::test]
async fn what_is_quarantined_is_kept_whole_and_stays_as_it_was_settled() {
    let db = Database::fresh().await;
    let bytes = b"\x00\xff{\"a\"";
    let entry = || {
        changed(refusal("t:1.validate.0", "validate", 1, bytes), |cause| {
            cause.publisher = Some("a\u{0}b".to_owned());
            cause.sequence = Some(17);
        })
    };
    keep(&db, &[entry()]).await;
    let shown = "select concat_ws('|', payload, message_id, errors -> 0 ->> 'pointer', headers -> 0 ->> 1, state, sequence, generation) from quarantine";
    assert_eq!(db.text(shown).await, "\\x00ff7b226122|t:told|/a|t:told|open|17|0");
    db.execute("update store.quarantine set state = 'dropped', sequence = null")
        .await;
    keep(&db, &[entry()]).await;
    let state = "select concat_ws('|', state, sequence) from quarantine";
    assert_eq!(
        db.text(state).await,
        "dropped",
        "delivered again, it stays dropped"
    );
}

#[tokio::test]
async fn what_is_refused_again_while_the_quarantine_is_full_is_open_again_once() {
    let db = Database::fresh().await;
    let entry = refusal("t:1.validate.quarantine", "validate", 1, b"{");
    let unkept = |id: &str| {
        let event = Event::new("quarantine_overflow")
            .with("rawseq", format!("{EPOCH}-1"))
            .with("replayed", "t:1.validate.quarantine");
        changed(delivery(id, "t", event), |cause| {
            cause.source = "/site/validate".into();
        })
    };
    keep(&db, &[entry]).await;
    let replay = "update store.quarantine set state = 'replayed', replay_begun = now()";
    let state = "select concat_ws('|', state, generation, replay_begun is null) from quarantine";
    for (id, after) in [("o.1", "open|1|t"), ("o.1", "replayed|1|f"), ("o.2", "open|2|t")] {
        db.execute(replay).await;
        keep(&db, &[unkept(id)]).await;
        assert_eq!(db.text(state).await, after, "{id}");
    }
    let fates =
        format!("select string_agg(fate, ',') from telltale.balance('site', {EPOCH}) where messages = 1");
    assert_eq!(db.text(&fates).await, "quarantined");
}

#[tokio::test]
async fn a_thing_is_what_its_newest_revision_says() {
    let db = Database::fresh().await;
    let change = |revision: u64, change: kinds::Change| {
        let entry = telltale_schemas::thing::Entry {
            thing: "t".into(),
            annotation: [("revision".to_owned(), json!(revision))].into_iter().collect(),
            ..telltale_schemas::thing::Entry::default()
        };
        let data = Registration {
            change,
            revision,
            entry: (change != kinds::Change::Deleted).then(|| Box::new(entry)),
            ..Registration::default()
        };
        delivery(&format!("t.{revision}"), "t", data)
    };
    let now = "select coalesce(string_agg(revision || ' ' || annotation, ','), 'none') from things";
    keep(
        &db,
        &[
            change(5, kinds::Change::Created),
            change(6, kinds::Change::Updated),
        ],
    )
    .await;
    assert_eq!(db.text(now).await, r#"6 {"revision": 6}"#);
    keep(&db, &[change(5, kinds::Change::Created)]).await;
    assert_eq!(db.text(now).await, r#"6 {"revision": 6}"#);
    keep(&db, &[change(7, kinds::Change::Deleted)]).await;
    assert_eq!(db.text(now).await, "none");
    keep(&db, &[change(8, kinds::Change::Created)]).await;
    assert_eq!(db.text(now).await, r#"8 {"revision": 8}"#);
}

#[tokio::test]
async fn outcomes_are_kept_once_for_each_id() {
    let db = Database::fresh().await;
    let outcome = |state| Outcome {
        command: "c:1".into(),
        name: "lamp".into(),
        state,
        output: json!(null),
        problem: None,
        request: None,
    };
    let batch = [
        delivery("c:1.queued", "t", outcome(kinds::State::Queued)),
        delivery("c:1.end", "t", outcome(kinds::State::Succeeded)),
        // Two ends of one command cannot be.
        delivery("c:1.end", "t", outcome(kinds::State::Expired)),
    ];
    keep(&db, &batch).await;
    keep(&db, &batch).await;
    assert_eq!(db.count("outcomes").await, 2);
    assert_eq!(
        db.text("select string_agg(command_id, ',') from outcomes").await,
        "c:1,c:1"
    );
}

#[tokio::test]
async fn the_latest_is_the_greatest_time_and_id_of_each_property() {
    let db = Database::fresh().await;
    let of = |id: &str, seq: u64, time: &str, value: f64| {
        changed(
            observation(id, seq, vec![number("a", value), number("b", value)]),
            |cause| cause.time = at(time),
        )
    };
    keep(
        &db,
        &[
            of("t:2", 1, TIME, 2.0),
            of("t:1", 2, TIME, 1.0),
            of("t:9", 3, "2025-12-31T23:59:59Z", 9.0),
        ],
    )
    .await;
    let latest = "select string_agg(name || ' ' || value, ',' order by name) from latest where thing = 't'";
    assert_eq!(db.text(latest).await, "a 2,b 2");
    keep(&db, &[of("t:0", 4, "2026-01-16T00:00:00Z", 0.0)]).await;
    assert_eq!(db.text(latest).await, "a 0,b 0");
}
